"""Check of the images that callers of the Python interface pass as arrays."""

import numpy as np

from realsr.core.errors import UserError

OVERSHOOT = 0.5  # of floats beyond 0..1, as filters make it; more means another range


def check_image(name: str, image: object, types: tuple[str, ...] = ("uint8", "float32")) -> None:
    """Raise UserError unless an image is an array (H, W, 3) of a type; floats are in 0..1.

    name: of the function and its argument, for the message.
    """
    expected = f"expected (H, W, 3), {' or '.join(types)}" + ", floats in 0..1" * (len(types) > 1)
    if not isinstance(image, np.ndarray):
        raise UserError(f"{name}: {type(image).__name__}: {expected}, a NumPy array")
    text = f"{name}: an array of shape {image.shape} and type {image.dtype}"
    if image.ndim == 2:
        raise UserError(f"{text}: {expected}: repeat gray levels by np.stack([image] * 3, axis=2)")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UserError(f"{text}: {expected}")
    if image.dtype not in map(np.dtype, types):
        is_integer = image.dtype.kind in "iu"
        advice = "image.astype(np.uint8)" if is_integer else "np.uint8(np.rint(255 * image))"
        range_text = "levels in 0..255" if is_integer else "floats in 0..1"
        raise UserError(f"{text}: {expected}: convert {range_text} by {advice}")
    if image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # also refuses nan
            raise UserError(
                f"{text} with values {low:g} to {high:g}: {expected}: divide levels by 255"
            )
