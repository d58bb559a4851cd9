"""Makes source/ and target/: python make_photos.py (numpy, scipy, pillow); the files in the folder count, not this."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage


def texture(rng, height, width):
    """Band-limited texture with edges, float 0..255 (height, width, 3)."""
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    radius = np.hypot(rows, columns)
    spectrum = np.fft.fft2(rng.standard_normal((height, width))) / np.maximum(radius, 0.02) ** 1.35
    gray = np.real(np.fft.ifft2(spectrum * (radius < 0.45)))
    image = 120 + 38 * gray / gray.std()
    y, x = np.mgrid[:height, :width]
    for _ in range(7):
        top, left = rng.integers(height), rng.integers(width)
        inside = (np.abs(y - top) < rng.integers(6, 20)) & (
            np.abs(x - left + 0.4 * (y - top)) < rng.integers(6, 20)
        )
        image = image + inside * rng.uniform(-70, 70)
    return image[..., None] * rng.uniform(0.85, 1.1, 3)


def main():
    """Write three source photos (blurred, noisy, with a flat noisy area) and two target photos."""
    for folder in ("source", "target"):
        Path(folder).mkdir(exist_ok=True)
    for index in range(3):
        rng = np.random.default_rng(index)
        image = ndimage.gaussian_filter(texture(rng, 96, 128), (1.1, 0.8, 0))
        image[40:, 72:] = 125 + 4 * index  # a wall
        image = ndimage.gaussian_filter(image, (0.5, 0.5, 0))
        image = (
            image
            + 3.0 * rng.standard_normal((96, 128, 1))
            + 0.7 * rng.standard_normal((96, 128, 3))
        )
        Image.fromarray(np.rint(image).clip(0, 255).astype(np.uint8)).save(
            f"source/photo_{index}.png", optimize=True
        )
    for index in range(2):
        image = ndimage.gaussian_filter(
            texture(np.random.default_rng(100 + index), 72, 80), (0.4, 0.4, 0)
        )
        Image.fromarray(np.rint(image).clip(0, 255).astype(np.uint8)).save(
            f"target/clean_{index}.png", optimize=True
        )


if __name__ == "__main__":
    main()
