from pathlib import Path

import numpy as np

from realsr.imaging import write_uint8


def write_images(*paths: str, size: tuple[int, int] = (5, 7)) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_uint8(path, np.full((*size, 3), 90, np.uint8))
