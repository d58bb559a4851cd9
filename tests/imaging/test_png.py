import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata
from realsr.imaging.row_encoders import PngEncoder, average


def encode(samples: np.ndarray) -> bytes:
    with io.BytesIO() as file:
        encoder = PngEncoder(file, Layout.of(samples), Metadata())
        for top in range(0, len(samples), encoder.rows):
            encoder.write(samples[top : top + encoder.rows])
        encoder.finish()
        return file.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 33)])
def test_8_bit_samples_come_back_from_pillow(shape, channels):
    samples = np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
    with Image.open(io.BytesIO(encode(samples))) as image:
        assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), samples)


def test_a_view_and_16_bits_are_written_as_they_are():
    whole = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    view = whole[3:11:2, 5:25]
    decoded = cv2.imdecode(np.frombuffer(encode(view), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1], view)
    view = (whole // 257).astype(np.uint8)[3:11:2, 5:25]
    decoded = cv2.imdecode(np.frombuffer(encode(view), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1], view)


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 40), (2, 70000)])
def test_the_filter_is_that_of_the_specification(shape, step):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (shape[0], shape[1] * step), np.uint8)
    above = rng.integers(0, 256, rows.shape[1], np.uint8)
    filtered = average(rows, above, step)
    assert (filtered[:, 0] == 3).all()
    for row, column in {
        (int(r), int(c))
        for r, c in zip(*np.divmod(rng.permutation(rows.size)[:2000], rows.shape[1]), strict=True)
    }:
        up = int(rows[row - 1, column] if row else above[column])
        left = int(rows[row, column - step]) if column >= step else 0
        assert filtered[row, column + 1] == (int(rows[row, column]) - (left + up) // 2) % 256


def test_all_rows_have_the_filter_average():
    noise = np.random.default_rng(0).integers(0, 256, (300, 2000, 3), np.uint8)  # several blocks
    data, parts, position = encode(noise), b"", 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        parts += data[position + 8 : position + 8 + length] if kind == b"IDAT" else b""
        position += 12 + length
    filtered = average(noise.reshape(300, -1), np.zeros(6000, np.uint8), 3)
    assert zlib.decompress(parts) == filtered.tobytes()
