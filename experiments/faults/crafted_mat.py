"""Crafted .mat files: MATLAB 4 and 5, by scipy and by hand, and 7.3, by h5py."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.io import savemat

Files = dict[str, bytes]


def mat_bytes(compression: bool = False, **variables: object) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=compression)
    return file.getvalue()


def mat_files() -> Files:
    kernel = np.full((5, 5), 0.04)
    cell = np.empty((1, 1), object)
    cell[0, 0] = kernel
    deep = cell
    for _ in range(100):
        deep, inner = np.empty((1, 1), object), deep
        deep[0, 0] = inner
    numbers = np.empty((1, 3), object)
    numbers[:] = [[1.0, 2, np.zeros((0, 0))]]
    variables: dict[str, object] = {
        "empty": np.zeros((0, 0)), "empty_long": np.zeros((0, 5)), "number": np.array(3.0), "text": "kernel",
        "negative": -kernel, "nan": kernel * np.nan, "inf": np.array([[np.inf, -np.inf]] * 2), "complex": kernel * 1j,
        "cancelling": np.array([[1e308, -1e308], [1e-300, 0]]), "large": np.full((3, 3), 1e308),
        "struct": {"a": kernel, "b": {"c": kernel}}, "cells": cell, "deep": deep, "numbers": numbers,
    }  # fmt: skip
    files = {f"{name}.mat": mat_bytes(Kernel=value) for name, value in variables.items()}
    content = bytearray(mat_bytes(Kernel=kernel))
    deflate = zlib.compressobj(1)
    inner = deflate.compress(struct.pack("<II", 14, 3 * 10**8)) + b"".join(
        deflate.compress(bytes(10**7)) for _ in range(30)
    )
    inner += deflate.flush()
    bomb = bytes(content[:128]) + struct.pack("<II", 15, len(inner)) + inner
    sides = content.index(struct.pack("<II", 5, 8)) + 8
    for name, shape in (
        ("sides", (2**31 - 1, 2**31 - 1)),
        ("minus", (-1, 5)),
        ("zero", (0, 2**31 - 1)),
    ):
        files[f"{name}.mat"] = bytes(
            content[:sides] + struct.pack("<ii", *shape) + content[sides + 8 :]
        )
    cells = bytearray(mat_bytes(Kernel=cell))
    sides = cells.index(struct.pack("<II", 5, 8)) + 8
    files["cell_sides.mat"] = bytes(
        cells[:sides] + struct.pack("<ii", 10**6, 10**6) + cells[sides + 8 :]
    )
    header = struct.pack("<10I", 6, 8, 1, 0, 5, 8, 1, 1, 1, 0)  # of a 1x1 cell array without a name
    sizes = [
        len(header) * (count + 1) + 8 * count + len(content) - 128
        for count in reversed(range(30_000))
    ]
    headers = b"".join(struct.pack("<II", 14, size) + header for size in sizes)
    files["stack.mat"] = bytes(content[:128]) + headers + bytes(content[128:])
    files["version_4.mat"] = (
        struct.pack("<5i", 0, 2**31 - 1, 2**31 - 1, 0, 7) + b"Kernel\0" + bytes(64)
    )
    return (
        files
        | {"bomb.mat": bomb, "header.mat": bytes(content[:128]), "nothing.mat": b""}
        | hdf5_files()
    )


def hdf5_files() -> Files:
    try:
        import h5py
    except ImportError:
        return {}

    def hdf5(fill: Callable[[Any], None]) -> bytes:
        content = io.BytesIO()
        with h5py.File(content, "w", userblock_size=512) as file:
            fill(file)
        return b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + content.getvalue()[128:]

    def cell(file: Any, targets: list[Any], name: str = "Kernel") -> None:
        node = file.create_dataset(name, (len(targets), 1), h5py.ref_dtype)
        node.attrs["MATLAB_class"] = np.bytes_("cell")
        for place, target in enumerate(targets):
            node[place, 0] = target.ref if target is not None else h5py.Reference()

    def circle(file: Any) -> None:
        first, second = (
            file.create_dataset(name, (1, 1), h5py.ref_dtype) for name in ("Kernel", "#b")
        )
        first[0, 0], second[0, 0] = second.ref, first.ref
        for node in (first, second):
            node.attrs["MATLAB_class"] = np.bytes_("cell")

    def self_reference(file: Any) -> None:
        cell(file, [None])
        file["Kernel"][0, 0] = file["Kernel"].ref

    def attribute(value: object) -> Callable[[Any], None]:
        def fill(file: Any) -> None:
            file["Kernel"] = np.full((5, 5), 0.04)
            file["Kernel"].attrs["MATLAB_class"] = value

        return fill

    def numbers(file: Any) -> None:
        file["Kernel"] = np.full((5, 5), 0.04)
        file["Kernel"].attrs["MATLAB_class"] = np.bytes_("cell")

    fills: dict[str, Callable[[Any], None]] = {
        "h5_huge": lambda file: file.create_dataset("Kernel", (10**6, 10**6), "f8", chunks=(100, 100)),
        "h5_cells": lambda file: file.create_dataset("Kernel", (10**6, 10**6), h5py.ref_dtype, chunks=(100, 100)),
        "h5_null": lambda file: file.create_dataset("Kernel", data=h5py.Empty("f8")),
        "h5_empty": lambda file: file.create_dataset("Kernel", (0, 5), "f8"),
        "h5_number": lambda file: file.create_dataset("Kernel", data=3.0),
        "h5_group": lambda file: file.create_group("Kernel"),
        "h5_text": lambda file: file.create_dataset("Kernel", data="text"),
        "h5_external": lambda file: file.create_dataset("Kernel", (5, 5), "f8", external=[("/etc/hostname", 0, 200)]),
        "h5_link": lambda file: file.__setitem__("Kernel", h5py.ExternalLink("/etc/other.mat", "Kernel")),
        "h5_soft": lambda file: file.__setitem__("Kernel", h5py.SoftLink("/nowhere")),
        "h5_null_reference": lambda file: cell(file, [None]),
        "h5_to_group": lambda file: cell(file, [file.create_group("#g")]),
        "h5_own": self_reference, "h5_circle": circle, "h5_cell_numbers": numbers,
        "h5_class_array": attribute(np.array([b"double", b"cell"])), "h5_class_number": attribute(3.0),
        "h5_class_empty": attribute(h5py.Empty("S4")), "h5_class_text": attribute("double"),
    }  # fmt: skip
    return {f"{name}.mat": hdf5(fill) for name, fill in fills.items()}
