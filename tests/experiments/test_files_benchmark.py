import json
from collections.abc import Callable
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "experiments/benchmarks/files.py"


def test_the_benchmark_writes_every_format_and_ends_with_the_largest_ratio(
    tmp_path: Path, run_script: Callable[..., str]
) -> None:
    arguments = ("--width", "300", "--height", "200", "--rounds", "1", "--json", "out.json")
    printed = run_script(BENCHMARK, *arguments)
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    for kind in ("png8", "png16", "tif8", "tif16"):
        sizes = {
            name: value["megabytes"]
            for name, value in results.items()
            if name.startswith(f"{kind} ") and isinstance(value, dict)
        }
        assert {f"{kind} realsr", f"{kind} OpenCV"} <= sizes.keys()
        # The largest could hold the samples of 300x200 pixels without compression.
        assert max(sizes.values()) <= 300 * 200 * 3 * (2 if kind.endswith("16") else 1) / 1e6 + 0.1
        assert results[f"{kind} best"] in {name.split(" ", 1)[1] for name in sizes}
    ratios = [value for name, value in results.items() if name.endswith(" ratio")]
    assert len(ratios) == 4
    assert printed.splitlines()[-1] == f"ratio {max(ratios)}"
