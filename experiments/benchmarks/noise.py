"""Measure whether noise collection is bound by decoding.

Three tasks are compared in the same worker processes on the same photos: decoding alone
(`read_uint8`), finding patches without encoding or writing them (`measure_photo`), and the stage
itself (`collect_noise`: patches as PNG, manifest, hashes of the photos). All use the same decoder
and the same workers, which have started and imported everything before the measurement, and take
turns, so that other load on the machine affects all of them. Times are minima over rounds. A folder
of few photos is measured several times, by links under other names, since workers are idle during
the last photos.

    python experiments/benchmarks/noise.py FOLDER [--workers N] [--copies N] [--rounds N] [--json FILE]

The last line is the time of finding patches relative to decoding.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from common import link_photos, make_parser, report, start_workers, take_turns

from realsr.config.composition import load_config
from realsr.imaging import read_uint8
from realsr.noise.collection import collect_noise
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.tiles import measure_photo


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="photos")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--copies", type=int, default=2, help="how often each photo is measured in a round"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--size", type=int, help="size and stride of the tiles; conf/noise has the defaults"
    )
    arguments = parser.parse_args()
    tiles = {} if arguments.size is None else {"size": arguments.size, "stride": arguments.size}
    config = load_config("collect_noise", track="df2k", noise=tiles).noise
    report(
        compare(arguments.folder, config, arguments.workers, arguments.copies, arguments.rounds),
        arguments.json,
    )


def compare(
    folder: Path, config: NoiseConfig, workers: int, copies: int, rounds: int
) -> dict[str, Any]:
    """Return the seconds of the three tasks, and the others relative to decoding."""
    with tempfile.TemporaryDirectory() as name:
        photos, pools = Path(name) / "photos", map(str, itertools.count())
        paths = link_photos(folder, photos, copies)
        with start_workers(workers) as map_items:
            find = partial(_find, config=config)
            tasks = {
                "decode": lambda: list(map_items(_decode, paths)),
                "find": lambda: list(map_items(find, paths)),
                "find_and_write": lambda: _collect(
                    photos, Path(name) / next(pools), config, map_items
                ),
            }
            times = take_turns(tasks, rounds)
        patches = len(list((Path(name) / "0/noise").glob("*.png")))
    best = {kind: min(seconds) for kind, seconds in times.items()}
    return {
        "photos": len(paths),
        "patches": patches,
        "workers": workers,
        **{f"{kind}_seconds": round(seconds, 4) for kind, seconds in best.items()},
        "ratio_with_writing": round(best["find_and_write"] / best["decode"], 3),
        "ratio": round(best["find"] / best["decode"], 3),
    }


def _decode(path: Path) -> tuple[int, ...]:
    return read_uint8(path).shape


def _find(path: Path, config: NoiseConfig) -> int:
    return len(measure_photo(path, config, "refuse", config.max_variance, config.min_mean)[1])


def _collect(
    photos: Path, pool: Path, config: NoiseConfig, map_items: Callable[..., Iterable[Any]]
) -> None:
    # No near-duplicate is dropped: every copy is written.
    with (
        mock.patch("realsr.core.workers.map_items", map_items),
        mock.patch("realsr.noise.collection.DuplicateFilter.add", return_value=True),
    ):
        collect_noise(photos, pool, config, overwrite=False, workers=None, damaged="refuse")


if __name__ == "__main__":
    main()
