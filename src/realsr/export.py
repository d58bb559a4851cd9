"""Exports a generator as ONNX, OpenVINO or ncnn files.

A table lists their speed and accuracy. A file name as output exports only the weights, as
safetensors or as a .pth file for other programs.

Usage: realsr export weights=SOURCE output=FOLDER [formats=[onnx_fp32,onnx_int8]]
       realsr export weights=SOURCE output=FILE.pth
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("export")
