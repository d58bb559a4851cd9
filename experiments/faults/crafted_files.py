"""Write crafted files of weights and kernels with false or hostile declarations.

One function per format returns the contents of files by name. `malformed_files.py` and the tests
read them.
"""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from crafted_mat import Files, mat_files
from safetensors.torch import save as save_safetensors

from realsr.networks import build_generator

SIZE = {"features": 6, "blocks": 1, "growth": 4}
NOTES = {"generator": {"name": "rrdb", **SIZE}, "scale": 2}


class Call:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.parts


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build_generator({"name": "rrdb", **SIZE}, 2).state_dict())


def pickle_bytes(content: object, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def zip_bytes(records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as content:
        for name, value in records.items():
            content.writestr(f"archive/{name}", value)
    return file.getvalue()


def records(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def safetensors_files() -> Files:
    def with_metadata(text: str) -> bytes:
        return save_safetensors(state(), {"realsr": text})

    def header(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text

    values = ["4" * 5000, "[]", "null", '"4"', "2.5", "-2", "0", "1e400", "NaN", "9" * 30, "true"]
    files = {
        f"scale_{n}.safetensors": with_metadata(f'{{"generator": {{}}, "scale": {v}}}')
        for n, v in enumerate(values)
    }
    for key in ("features", "blocks", "growth", "arguments", "name"):
        for n, value in enumerate([None, [1], -1, 1e300, 10**30, {"a": 1}, "x\ny", "z" * 10**6]):
            notes = NOTES | {"generator": NOTES["generator"] | {key: value}}
            files[f"{key}_{n}.safetensors"] = with_metadata(json.dumps(notes))
    deep = "[" * 900 + "]" * 900
    files |= {
        "deep_notes.safetensors": with_metadata("[" * 10**5),
        "deep_closed.safetensors": with_metadata(
            f'{{"generator": {{"features": {deep}}}, "scale": 2}}'
        ),
        "deep_arguments.safetensors": with_metadata(
            f'{{"generator": {{"arguments": {{"a": {deep}}}}}, "scale": 2}}'
        ),
        "list_notes.safetensors": with_metadata("[1, 2]"),
        "deep_header.safetensors": header(b'{"a":' * 10**5),
        "deep_lists.safetensors": header(b"[" * 10**6),
        "long_header.safetensors": struct.pack("<Q", 2**62) + b"{}",
        "nan.safetensors": save_safetensors(
            state() | {"conv_last.bias": torch.tensor([0, torch.nan, 0])}
        ),
    }
    for n, (shape, end) in enumerate(
        [([10**9, 10**9], 16), ([0, 10**18], 0), ([4], 2**62), ([-1], 16), ([2**63], 8)]
    ):
        entry = {"conv_first.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}
        files[f"shape_{n}.safetensors"] = header(json.dumps(entry).encode()) + b"\0" * 16
    return files


def pickle_files() -> Files:
    cycle: dict[str, object] = {}
    cycle["params"] = cycle
    nesting = b"\x80\x02" + b"}X\x06\x00\x00\x00params" * 3000 + b"}" + b"s" * 3000 + b"."
    weight, storage = torch.ones(6, 3, 3, 3), torch.ones(2**18)
    other = {
        "meta": torch.empty(6, 3, 3, 3, device="meta"),
        "sparse": weight.to_sparse(),
        "quantised": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "complex": weight.to(torch.complex64),
        "terabyte": torch.zeros(1).expand(10**12),
        "terabyte_shape": torch.zeros(1).expand(6, 3, 10**6, 10**6),
        "empty_huge": torch.zeros(0, 1).expand(0, 10**18),
        "no_values": torch.zeros(10**9, 3, 0, 0),
        "nan": weight * torch.nan,
        "inf": weight * torch.inf,
        "bytearray": Call(bytearray, 10**12),
        "storage": Call(torch.UntypedStorage, 10**13),
        "number": 3,
    }
    files = {
        f"{kind}.pth": pickle_bytes(state() | {"conv_first.weight": value})
        for kind, value in other.items()
    }
    files |= {f"{kind}_legacy.pth": pickle_bytes(state() | {"conv_first.weight": other[kind]}, True) for kind in
              ("nan", "terabyte", "bytearray", "meta")}  # fmt: skip
    entries = records(pickle_bytes({"conv_first.weight": torch.ones(0x1234)}))
    false_size = entries | {"data.pkl": entries["data.pkl"].replace(b"M\x34\x12", b"J\0\0\0\x40")}
    bomb = records(pickle_bytes(state())) | {"data/0": bytes(2 * 10**8)}
    return files | {
        "nested.pth": zip_bytes({"data.pkl": nesting, "version": b"3\n", "byteorder": b"little"}),
        "own.pth": pickle_bytes(cycle),
        "own_unknown.pth": pickle_bytes({"params": {"b": cycle}}),
        "number_keys.pth": pickle_bytes(dict(enumerate(state().values()))),
        "tuple_keys.pth": pickle_bytes({(name, name): value for name, value in state().items()}),
        "long_key.pth": pickle_bytes(state() | {"k" * 10**6: weight}),
        "line_key.pth": pickle_bytes({f"a\nb{n}": weight for n in range(5)}),
        "many_copies.pth": pickle_bytes({f"RRDB_trunk.{n}.weight": storage for n in range(2000)}),
        "many_blocks.pth": pickle_bytes(
            state() | {f"RRDB_trunk.{n}.x": torch.ones(1) for n in range(2000)}
        ),
        "claimed.pth": zip_bytes(false_size),
        "compressed.pth": zip_bytes(records(pickle_bytes(state())), zipfile.ZIP_DEFLATED),
        "bomb.pth": zip_bytes(bomb, zipfile.ZIP_DEFLATED),
        "page.pth": b"<!DOCTYPE html><html>",
        "pointer.pth": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "system.pth": pickle_bytes({"a": Call(__import__("os").system, "touch touched")}),
        "evaluated.pth": pickle_bytes({"a": Call(eval, "open('touched', 'w')")}),
    }


def ncnn_files() -> Files:
    def layer(outputs: object, size: object) -> str:
        return f"Convolution c 1 1 a b 0={outputs} 1=3 4=1 5=1 6={size}\n"

    def text(lines: list[str]) -> bytes:
        return f"7767517\n{len(lines)} 1\n{''.join(lines)}".encode()

    end = ["Interp i 1 1 a b\n"]
    params = {
        "huge": text([layer(10**12, 10**15)] * 20 + end),
        "large": text([layer(10**6, 10**9)] * 20 + end),
        "negative": text([layer(-5, -9)] * 20 + end),
        "words": text([layer("many", "x")] * 20 + end),
        "digits": text([layer("9" * 5000, 1)] * 20 + end),
        "deep": text([layer(6, 162)] * (5 + 15 * 5000) + end),
        "counts": b"7767517\n" + b"9" * 5000 + b" 1\n",
        "blobs": text([f"Convolution c {'9' * 20} -5 0=1\n"] + end),
        "mark": b"\xef\xbb\xbf7767517\n0 0\n",
        "garbage": bytes(range(256)) * 20,
        "zeros": bytes(4096),
    }
    files = {f"{name}.param": content for name, content in params.items()}
    return (
        files
        | {f"{name}.bin": bytes(64) for name in params}
        | {"alone.param": text(end), "single.bin": bytes(64)}
    )


def foreign_files() -> Files:
    def srvgg(first: tuple[int, ...], last: tuple[int, ...]) -> bytes:
        shapes = {
            "body.0.weight": first,
            "body.0.bias": first[:1],
            "body.1.weight": first[:1],
            "body.2.weight": last,
        }
        return pickle_bytes({name: torch.zeros(1).expand(shape) for name, shape in shapes.items()})

    def empty(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(0).reshape(shape)

    names = ("body.0.weight", "body.0.bias", "body.1.weight", "body.2.weight", "body.2.bias")
    huge = {name: empty((10**6, 0, 3, 3)) for name in names} | {
        "body.0.weight": empty((10**6, 3, 3, 0))
    }
    swin = {
        "layers.0.residual_group.blocks.0.norm1.weight": empty((10**9, 0)),
        "conv_first.weight": empty((10**9, 3, 0, 3)),
        "layers.0.residual_group.blocks.0.mlp.fc1.bias": empty((0, 10**9)),
        "layers.0.residual_group.blocks.0.attn.relative_position_index": torch.zeros(10, 10),
        "layers.0.residual_group.blocks.0.attn.relative_position_bias_table": empty((0, 10**9)),
        "conv_last.weight": empty((0, 3)), "layers.0.residual_group.conv.weight": torch.ones(1),
        "norm.weight": empty((0,)),
    }  # fmt: skip
    deep = {f"body.{n}.weight": torch.ones(2, 3, 3, 3) for n in (0, 2, 10**6)}
    return {
        "srvgg_expanded.pth": srvgg((64, 3, 10**6, 10**6), (48, 64, 3, 3)),
        "srvgg_empty.pth": pickle_bytes(huge),
        "swinir_empty.pth": pickle_bytes(swin),
        "numbered.pth": pickle_bytes(deep),
        "vgg_nan.pth": pickle_bytes({"features.0.weight": torch.full((64, 3, 3, 3), torch.nan)}),
        "vgg_terabyte.pth": pickle_bytes({"features.0.weight": torch.zeros(1).expand(10**12)}),
        "vgg_bytearray.pth": pickle_bytes({"features.0.weight": Call(bytearray, 10**12)}),
        "vgg_huge.safetensors": safetensors_files()["shape_0.safetensors"],
        "vgg_system.pth": pickle_bytes({"a": Call(__import__("os").system, "touch touched")}),
    }


def onnx_files() -> Files:
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return {}
    from realsr.inference.onnx_files import OnnxFacts

    def end(name: str, shape: object = (1, 3, "h", "w"), kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def model(
        nodes: list[Any], ends: Any = None, weights: tuple[Any, ...] = (), **facts: object
    ) -> bytes:
        inputs, outputs = ends or ([end("lr")], [end("sr", None)])
        proto = helper.make_model(
            helper.make_graph(nodes, "g", inputs, outputs, list(weights)),
            opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
        )  # fmt: skip
        metadata = OnnxFacts(1, "fp32", 1000.0, "0" * 64, "realsr").as_metadata() | facts
        for key, value in metadata.items():
            proto.metadata_props.add(key=key, value=str(value))
        return proto.SerializeToString()

    def node(kind: str, *inputs: str, output: str = "sr", **options: object) -> Any:
        return helper.make_node(kind, list(inputs), [output], **options)

    def weight(name: str, value: object) -> Any:
        return numpy_helper.from_array(np.array(value), name)

    identity = [node("Identity", "lr")]
    values = ["inf", "nan", "0", "-1", "1e300", "1e-320", "9" * 5000, "[" * 10**5, ""]
    files = {
        f"bytes_{n}.onnx": model(identity, bytes_per_pixel=value) for n, value in enumerate(values)
    }
    values = ["0", "-2", "9" * 5000, "1000000", "2.5", "nan", "[" * 10**5]
    files |= {f"scale_{n}.onnx": model(identity, scale=value) for n, value in enumerate(values)}
    body = helper.make_graph(
        [node("Identity", "c", output="c2"), node("Identity", "v", output="v2")], "b",
        [end("i", [], TensorProto.INT64), end("c", [], TensorProto.BOOL), end("v")],
        [end("c2", [], TensorProto.BOOL), end("v2")],
    )  # fmt: skip
    no_data = TensorProto(name="w", data_type=1, dims=[1, 3, 10**5, 10**5], raw_data=bytes(16))
    for number, location in enumerate(("../../x", "/etc/hostname", "hostname")):
        outside = TensorProto(name="w", data_type=1, dims=[1, 3, 1, 1], data_location=1)
        for key, value in (("location", location), ("offset", "0"), ("length", "12")):
            outside.external_data.add(key=key, value=value)
        files[f"outside_{number}.onnx"] = model([node("Add", "lr", "w")], weights=(outside,))
    scales = weight("s", np.float32([1, 1, 2, 2]))
    nan = weight("w", np.float32(np.nan))
    shape = weight("w", np.array([10**6, 10**6]))
    two = ([end("lr")], [end("sr", None), end("second", None)])
    double = ([end("lr", kind=TensorProto.DOUBLE)], [end("sr", None, TensorProto.DOUBLE)])
    return files | {
        "wrong_size.onnx": model(identity, scale=2),
        "wrong_rank.onnx": model([node("Flatten", "lr")]),
        "wrong_type.onnx": model([node("Cast", "lr", to=11)], ([end("lr")], [end("sr", None, TensorProto.DOUBLE)])),
        "two_outputs.onnx": model([*identity, node("Identity", "lr", output="second")], two),
        "other_names.onnx": model([node("Identity", "x")], ([end("x")], [end("sr", None)])),
        "input_type.onnx": model(identity, double),
        "input_rank.onnx": model(identity, ([end("lr", (3, "h"))], [end("sr", None)])),
        "channels.onnx": model(identity, ([end("lr", (1, 5, "h", "w"))], [end("sr", None)])),
        "endless.onnx": model([node("Loop", "", "t", "lr", body=body)], weights=(weight("t", True),)),
        "declared.onnx": model([node("Add", "lr", "w")], weights=(no_data,)),
        "memory.onnx": model([node("ConstantOfShape", "w")], weights=(shape,)),
        "not_finite.onnx": model([node("Add", "lr", "w")], weights=(nan,)),
        "no_metadata.onnx": model(identity, made_by="\n" * 10**6),
        "whole.onnx": model([node("Resize", "lr", "", "s", mode="nearest")], weights=(scales,),
                            scale=2),
        "page.onnx": b"<!DOCTYPE html>",
        "void.onnx": b"",
    }  # fmt: skip


KINDS: dict[str, Callable[[], Files]] = {
    "safetensors": safetensors_files, "pickle": pickle_files, "ncnn": ncnn_files, "other networks": foreign_files,
    "mat": mat_files, "onnx": onnx_files,
}  # fmt: skip


def write(folder: Path, files: Files) -> list[Path]:
    """Write files; return those to read (of ncnn's two files the first)."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [
        folder / name
        for name in files
        if not (name.endswith(".bin") and name[:-3] + "param" in files)
    ]
