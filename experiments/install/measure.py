"""Sizes and times of an installation on Linux or macOS: `realsr` alone, and what each extra adds.

    python experiments/install/measure.py [EXTRA …] [--folder DIR] [--base DIR] [--json FILE]

A base environment gets `pip install .`. Then, for each extra, a new environment that sees the
base's packages gets `pip install ".[EXTRA]"`, and code that uses the extra runs in it. Each
environment is deleted before the next one, so the disk needs space for the base (6 GB on Linux)
and the largest extra (1 GB). An extra adds the files of its new packages. Packages that replace
another version of the base are listed and not counted. pip takes nothing from its cache. Seconds
depend on the index, the disk and other programs; CPU seconds are those of pip. The row `none` is
`realsr` itself again, which is part of each row.
"""

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PIP = ("-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check")
SKIP = {"dev"}  # it has most of the others

EXPORT = """
from pathlib import Path
from realsr.api import export, load_config
from realsr.networks import build_generator
from realsr.weights import save_generator
size = {{"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}}
save_generator(Path("x.safetensors"), build_generator(size, 4), size, 4)
export(load_config("export", ["weights=x.safetensors", "output=new", "formats=[{0}]", "int8.crop=16"]))
assert Path("new/{1}").is_file()
"""
LAUNCHER = """
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
assert any("{0}" in plugin.__module__ for plugin in Plugins.instance().discover(Launcher))
"""
TRACKER = """
from realsr.config.composition import load_config
from realsr.training.trackers.tracker import check_tracker
check_tracker(dict(load_config("train", ["+track=demo", "tracker={0}"]).tracker))
"""
# Code that fails without the extra.
CHECKS = {
    "none": "import realsr.api",
    "demo": """
from realsr.simulation.camera_model import load_photograph
assert load_photograph("astronaut", "a", "demo").shape == (512, 512, 3)
""",
    "onnx": EXPORT.format("onnx_fp32", "onnx_fp32.onnx"),
    "onnx,openvino": EXPORT.format("openvino", "openvino.xml"),
    "onnx,ncnn": EXPORT.format("ncnn", "ncnn.param"),
    "mat73": "import h5py; h5py.File('x.mat', 'w').close()",
    "models": """
from realsr.weights import load_generator
for name in ("df2k", "realesrgan_x4plus", "realesrgan_x4plus_anime"):
    assert load_generator(name)[1] == 4
""",
    "metrics": "import torch_fidelity; from torchmetrics.image import dists",
    "iqa": "import huggingface_hub",
    "app": "import starlette, uvicorn",
    "docs": "import furo, myst_nb, sphinx",
    "hub": "from huggingface_hub import HfApi, hf_hub_download",
    "spandrel": """
from realsr.networks import build_generator
build_generator({"name": "spandrel_network", "architecture": "SPAN", "arguments": {}}, 4)
""",
    "wandb": TRACKER.format("wandb"),
    "mlflow": TRACKER.format("mlflow"),
    "trackio": TRACKER.format("trackio"),
    "fast": "import realsr.inference.winograd",
    "bench": "import ncnn",
    "joblib": LAUNCHER.format("joblib"),
    "slurm": LAUNCHER.format("submitit"),
    "ray": LAUNCHER.format("ray"),
}
NEEDS = {"openvino": "onnx,openvino", "ncnn": "onnx,ncnn"}  # extras that work only with another


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def list_packages(site: Path) -> dict[str, tuple[str, int]]:
    """Return the version and size in bytes of each package of a site-packages folder."""
    packages = {}
    for package in metadata.distributions(path=[str(site)]):
        files = [Path(str(file.locate())) for file in package.files or ()]
        size = sum(file.stat().st_size for file in files if file.is_file())
        packages[normalise(package.metadata["Name"])] = package.version, size
    return packages


def make_environment(folder: Path, base: Path | None = None) -> tuple[Path, Path]:
    """Make an environment that sees the packages of `base`; return its Python and site-packages."""
    venv.create(folder, with_pip=True, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    if base is not None:
        (site / "base.pth").write_text(f"{base}\n")
    return folder / "bin/python", site


def cpu_seconds() -> float:
    """Return the CPU time of all processes that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def install(python: Path, extras: str) -> dict[str, float]:
    """Install the checkout with extras, separated by commas; return seconds and CPU seconds."""
    start, cpu = time.monotonic(), cpu_seconds()
    requirement = f"{ROOT}[{extras}]" if extras else str(ROOT)
    subprocess.run([python, *PIP, requirement], check=True)
    wall = time.monotonic() - start
    return {"seconds": round(wall, 1), "cpu_seconds": round(cpu_seconds() - cpu, 1)}


def measure_extra(extras: str, folder: Path, base: Path) -> dict[str, Any]:
    """Install extras on top of the base, run their check, and delete the environment."""
    place = folder / "layer"
    python, site = make_environment(place, base)
    before, base_packages = list_packages(site), list_packages(base)
    try:
        times = install(python, "" if extras == "none" else extras)
        packages = list_packages(site)
        new = {k: v for k, v in packages.items() if k not in before and k not in base_packages}
        check = None
        if extras in CHECKS:
            with tempfile.TemporaryDirectory() as work:
                command = [python, "-c", CHECKS[extras]]
                process = subprocess.run(command, cwd=work, capture_output=True, text=True)
            check = "passed" if process.returncode == 0 else process.stderr.strip()[-300:]
        return {
            **times,
            "megabytes": round(sum(size for _, size in new.values()) / 1e6, 1),
            "packages": {name: version for name, (version, _) in new.items()},
            "replaced": [
                f"{k} {base_packages[k][0]} by {v[0]}"
                for k, v in packages.items()
                if k in base_packages and k not in before and k != "realsr"
            ],
            "check": check,
        }
    except subprocess.CalledProcessError:
        return {"error": "pip failed, see above"}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def list_extras() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for name in project["optional-dependencies"] if name not in SKIP]
    return ["none", *(NEEDS.get(name, name) for name in extras)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("extras", nargs="*", help="default: all but dev")
    parser.add_argument("--folder", type=Path, help="for environments; default: a temporary one")
    parser.add_argument(
        "--base", type=Path, help="an environment with realsr alone, to be used again"
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "system": sys.platform,
        "python": sys.version.split()[0],
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        times = dict[str, float]()
        if arguments.base is None:
            python, base = make_environment(folder / "base")
            times = install(python, "")
        else:
            (base,) = arguments.base.resolve().glob("lib/python*/site-packages")
        packages = list_packages(base)
        del packages["pip"]
        sizes = {k: [v[0], round(v[1] / 1e6, 1)] for k, v in packages.items()}
        results["base"] = {
            **times,
            "megabytes": round(sum(size for _, size in packages.values()) / 1e6, 1),
            "packages": dict(sorted(sizes.items(), key=lambda item: -item[1][1])),
        }
        print("base", times, results["base"]["megabytes"], "MB", flush=True)
        results["extras"] = {}
        for extras in arguments.extras or list_extras():
            result = results["extras"][extras] = measure_extra(extras, folder, base)
            summary = {key: value for key, value in result.items() if key != "packages"}
            print(extras, len(result.get("packages", ())), "packages", summary, flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
