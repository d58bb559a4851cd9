"""Score the published generators with real weights of the metrics, on crops of scikit-image's photos.

LR is bicubic (x4), which is no camera: the scores describe the networks, not their use on photos.

    python experiments/published_models/study.py --alexnet FILE --vgg16 FILE --niqe FILE --output DIR

--alexnet, --vgg16: torchvision's weights; --niqe: NIQE's model (docs/study/metrics.md). The models
are fetched by `python -m realsr.fetch what=[models]`.
"""

import argparse
from pathlib import Path

import numpy as np
from skimage import data

from realsr import api
from realsr.imaging import write_uint8

SIDE = 320
PHOTOS = (
    "astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket",
    "stereo_motorcycle",
)  # fmt: skip
MODELS = ["bicubic", "df2k", "df2k_jpeg", "realesrgan_x4plus"]


def write_crops(folder: Path) -> None:
    """Write the central crop of each photo."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        photo = getattr(data, name)()
        photo = photo[0] if isinstance(photo, tuple) else photo
        top, left = ((side - min(side, SIDE)) // 2 for side in photo.shape[:2])
        crop = np.ascontiguousarray(photo[top : top + SIDE, left : left + SIDE])
        write_uint8(folder / f"{name}.png", crop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("alexnet", "vgg16", "niqe", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    write_crops(options.output / "hr")
    api.evaluate(
        weights=MODELS,
        strengths=[1, 0.75],
        data={"hr": str(options.output / "hr")},
        protocol={"metrics": ["psnr", "ssim", "lpips_alex", "lpips_vgg", "dists", "niqe"]},
        metric_files={name: str(getattr(options, name)) for name in ("alexnet", "vgg16", "niqe")},
        figures=["all"],
        output=str(options.output / "evaluation"),
        overwrite=True,
    )


if __name__ == "__main__":
    main()
