"""Results of realsr.api: what they accept, and how a notebook shows them."""

from pathlib import Path

import numpy as np

from realsr import api
from realsr.imaging.kernel_shapes import save_kernel


def test_a_pool_of_a_path_as_text(tmp_path: Path) -> None:
    for folder in ("kernels", "noise"):
        (tmp_path / folder).mkdir()
    save_kernel(tmp_path / "kernels" / "a_kernel_x4.mat", np.full((3, 3), 1 / 9))
    api.write_image(tmp_path / "noise" / "a.png", np.full((4, 5, 3), 7, np.uint8))
    for pool in (api.Pool(tmp_path), api.Pool(str(tmp_path))):
        assert pool.kernels(4)["a_kernel_x4.mat"].shape == (3, 3)
        assert pool.noise()["a.png"].shape == (4, 5, 3)
        assert repr(pool) == f"Pool({str(tmp_path)!r})"
