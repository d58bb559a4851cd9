"""Exports a generator as ONNX in float32, fp16 and INT8, with a table of their speed and accuracy;
or only its weights, as safetensors or as a .pth file for other programs.

Usage: python -m realsr.export weights=SOURCE output=FOLDER [formats=[onnx_fp32,onnx_int8]]
       python -m realsr.export weights=SOURCE output=FILE.pth
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("export")
