"""Draw details of test photos: bicubic, published models, the adapted model and the scene.

python experiments/adaptation/figure.py OUTPUT FILE.png CAMERA/PHOTO … [--steps 250]
"""

import argparse
from pathlib import Path

from torch import Tensor

from realsr.imaging import read_uint8, to_float
from realsr.reporting.figures import choose_window, write_comparison

SIDE = 96


def find_image(camera: Path, model: str, photo: str) -> Tensor:
    """Return the newest result of a model that the evaluations of a camera wrote.

    The name of a model is the end of its path that differs between the models of an evaluation.
    """
    names = (model, model.removeprefix(f"*{camera.name}_runs_"))
    files = [
        file
        for name in names
        for file in sorted(camera.glob(f"evaluation/*/images/{name}/{photo}.png"))
    ]
    return to_float(read_uint8(files[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("figure", type=Path)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--steps", type=int, default=250)
    options = parser.parse_args()
    rows = []
    for item in options.photos:
        name, _, photo = item.partition("/")
        camera = options.output / name
        models = {
            "bicubic": "bicubic",
            "realesrgan_x4plus": "realesrgan_x4plus",
            "df2k": "df2k",
            "df2k, adapted": f"*{name}_runs_adapted-{options.steps}-0_generator_ema",
        }
        crops = {title: find_image(camera, model, photo) for title, model in models.items()}
        scene = to_float(read_uint8(options.output / "hr" / f"{photo}.png"))
        window = choose_window([scene, crops["bicubic"]], SIDE)
        crops = {title: window.cut(crop).contiguous() for title, crop in crops.items()}
        crops["scene"] = window.cut(scene).contiguous()
        rows.append((f"{photo}, {name}", crops, {}))
    write_comparison(options.figure, rows, {})


if __name__ == "__main__":
    main()
