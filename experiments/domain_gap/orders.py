"""Does the kernel distance order known distances for other cameras and other pairs of sets?

The measure was chosen on these: the scenes of study.py at another size (shrunk by 2), three cameras, and
sets a and b also exchanged, so that other photos are the reference.

    python experiments/domain_gap/orders.py --photos DIR --json FILE
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

from study import DISTANCES, LADDERS, STUDY_CAMERA, CameraKind, list_scenes, measure

from realsr.domains.comparison import Domain, compare_domains

SHRINK = 2
CAMERAS = {
    "as studied": STUDY_CAMERA,
    "wide and noisy": CameraKind((2.8, 1.4), (4.0, 6.0)),
    "sharp and clean": CameraKind((1.7, 1.5), (1.0, 1.5)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    scenes, rows = list_scenes(options.photos, SHRINK), []
    for camera, kind in CAMERAS.items():
        for ladder, (blur, noise) in LADDERS.items():
            domains = [measure(scenes, blur * d, noise * d, kind) for d in DISTANCES]
            for start in (0, 1):
                a = Domain(domains[0].folder, domains[0].photos[start::2], {})
                results = [
                    compare_domains(a, Domain(b.folder, b.photos[1 - start :: 2], {}), seed=0)
                    for b in domains
                ]
                row = {
                    "camera": camera,
                    "a": f"scenes {start}, {start + 2}, ...",
                    "degradation": ladder,
                    "accuracy": [round(result.accuracy.value, 3) for result in results],
                    "kernel_distance": [round(result.distance.value, 3) for result in results],
                }
                rows.append(row)
                print(*row.values(), flush=True)
    count = sum(all(x < y for x, y in pairwise(row["kernel_distance"])) for row in rows)
    print(f"{count} of {len(rows)} in order")
    facts = {"date": time.strftime("%Y-%m-%d"), "in_order": count, "rows": rows}
    options.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
