import io

import cv2
import numpy as np
import pytest
from PIL import Image

from realsr.imaging.png import encode_png


@pytest.mark.parametrize("compression", [1, 3])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 33)])
def test_8_bit_samples_come_back_from_pillow(shape, channels, compression):
    samples = np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(samples, compression))) as image:
        assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), samples)


def test_a_view_and_16_bits_are_written_as_they_are():
    whole = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    view = whole[3:11:2, 5:25]
    decoded = cv2.imdecode(np.frombuffer(encode_png(view), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1], view)
    view = (whole // 257).astype(np.uint8)[3:11:2, 5:25]
    decoded = cv2.imdecode(np.frombuffer(encode_png(view), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1], view)
