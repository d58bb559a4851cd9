"""scikit-image's photographs, which come in its wheel: something to work on where nothing else is at hand."""

import numpy as np

from realsr.core.errors import UserError


def load_photograph(name: str, needed_by: str, extra: str) -> np.ndarray:
    """Return one of scikit-image's photographs, (H, W, 3) uint8. Raises UserError without scikit-image.

    needed_by, extra: what wants it, and the extra of this package that brings it; for the message.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise UserError(f"{needed_by} needs {error.name}: pip install 'realsr[{extra}]'") from error
    image = getattr(data, name)()
    image = image[0] if isinstance(image, tuple) else image
    return np.ascontiguousarray(np.stack([image] * 3, axis=2) if image.ndim == 2 else image[..., :3])
