"""Measure whether making pairs is bound by decoding photos and encoding PNG.

Two tasks are compared in the same worker processes: `make_pairs` (decoding, clean-up, degradation,
encoding, writing, hashes, manifest), and only decoding the same photos with `read_uint8` and
encoding the same HR and LR with `encode_uint8`, as in the stage, without writing them. Their pixels
are read from uncompressed files. Workers have started and imported everything before the
measurement. The two take turns, so that other load on the machine affects both; times are minima
over rounds. Photos are measured several times, by links under other names.

    python experiments/benchmarks/pairs.py FOLDER [--kernel pool|bicubic] [--scale 4] [--workers N]
        [--copies N] [--rounds N] [--json FILE]

Kernels are 33x33 at scale 4 and 17x17 at scale 2, the sizes that the kernel stage writes. The last
line is the time of the stage relative to decoding and encoding.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from common import link_photos, make_parser, report, start_workers, take_turns

from realsr.config.composition import load_config
from realsr.imaging import encode_uint8, read_uint8
from realsr.imaging.kernel_shapes import save_kernel
from realsr.pairs.synthesis import make_pairs, pair_files
from realsr.simulation.camera_model import anisotropic_kernel


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="source photos")
    parser.add_argument("--kernel", choices=("pool", "bicubic"), default="pool")
    parser.add_argument("--scale", type=int, choices=(2, 4), default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--copies", type=int, default=2, help="how often each photo is measured in a round"
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = vars(parser.parse_args())
    json_path = arguments.pop("json")
    report(compare(**arguments), json_path)


def compare(
    folder: Path, kernel: str, scale: int, workers: int, copies: int, rounds: int
) -> dict[str, Any]:
    """Return the seconds of both tasks, and their ratio."""
    config = load_config("make_pairs", track="dped").pairs
    with tempfile.TemporaryDirectory() as name, start_workers(workers) as map_items:
        work = Path(name)
        pool = work / "pool" if kernel == "pool" else None
        photos = link_photos(folder, work / "photos", copies)
        outputs = (work / f"pairs{number}" for number in itertools.count())
        (work / "pool/kernels").mkdir(parents=True)
        for number in range(4):
            random_kernel = anisotropic_kernel(
                {2: 17, 4: 33}[scale], (scale * 0.8, scale * 0.5), 30.0 * number, scale
            )
            save_kernel(work / f"pool/kernels/{number}_kernel_x{scale}.mat", random_kernel)

        def stage() -> None:
            inputs = work / "photos", None, pool, next(outputs)
            with mock.patch("realsr.core.workers.map_items", map_items):
                make_pairs(*inputs, config, scale, 0, False, None, "refuse")

        stage()
        items = []
        for path in photos:
            arrays = []
            for file in pair_files(work / "pairs0", path.stem):
                arrays.append(file.with_suffix(".npy"))
                np.save(arrays[-1], read_uint8(file))
            items.append((path, arrays))
        tasks = {
            "decode_encode": lambda: list(map_items(_decode_and_encode, items)),
            "pairs": stage,
        }
        times = take_turns(tasks, rounds)
    best = {kind: min(seconds) for kind, seconds in times.items()}
    return {
        "photos": len(items),
        "kernel": kernel,
        "scale": scale,
        "workers": workers,
        **{f"{kind}_seconds": round(seconds, 4) for kind, seconds in best.items()},
        "ratio": round(best["pairs"] / best["decode_encode"], 3),
    }


def _decode_and_encode(item: tuple[Path, list[Path]]) -> int:
    photo, arrays = item
    read_uint8(photo)
    return sum(len(encode_uint8(np.load(array, mmap_mode="r"), ".png")) for array in arrays)


if __name__ == "__main__":
    main()
