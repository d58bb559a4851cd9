"""NIQE, BRISQUE, PIQE, NRQM and PI: what an image alone says of its quality, by pyiqa.

pyiqa is under the PolyForm Noncommercial licence, so that it is no dependency and users install it themselves. Gray is
0.299 R + 0.587 G + 0.114 B in 0..255, Y of YCbCr is BT.601 in 16..235; both rounded.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor, nn

from realsr.core.errors import WeightsError
from realsr.core.mat_variables import MatFileError, list_names, read_variables
from realsr.evaluation.metric import MetricFiles, WeightFile, require
from realsr.evaluation.metrics.psnr import check_images
from realsr.networks.torchvision_weights import check_content, read_state

Quality = Callable[[Tensor], float]

NIQE_BLOCK = 96
PIQE_BLOCK = 16
BRISQUE_SMALLEST = 16
NRQM_SMALLEST = 100  # a quarter of it has the 5x5 blocks of 5x5 pixels that 25 singular values need

_INSTALL = (
    "pip install 'realsr[iqa]' && pip install --no-deps pyiqa==0.1.16 "
    "(PolyForm Noncommercial licence; docs/study/metrics.md says why without its dependencies)"
)


def _pyiqa_file(key: str, content: str, name: str) -> WeightFile:
    url = f"https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/{name}"
    return WeightFile(key, content, url, (f"pyiqa/{name}",))


NIQE_FILE = _pyiqa_file(
    "niqe", "the model of natural images that NIQE compares with", "niqe_modelparameters.mat"
)
BRISQUE_FILE = _pyiqa_file("brisque", "BRISQUE's support vectors", "brisque_svm_weights.pth")
NRQM_FILE = _pyiqa_file("nrqm", "NRQM's regression forests", "NRQM_model.mat")


class NoReference:
    """What an image alone says of its quality, by one of five measures; each is described at its `load_` function.

    Raises WeightsError if a file is damaged or of another measure.
    """

    needs_hr = False

    def __init__(
        self,
        measure: Literal["niqe", "brisque", "piqe", "nrqm", "pi"],
        device: torch.device,
        files: MetricFiles,
    ) -> None:
        measures: dict[str, tuple[Callable[..., Quality], tuple[WeightFile, ...], int]] = {
            "niqe": (load_niqe, (NIQE_FILE,), 2),
            "brisque": (load_brisque, (BRISQUE_FILE,), 1),
            "piqe": (load_piqe, (), 1),
            "nrqm": (load_nrqm, (NRQM_FILE,), 2),
            "pi": (load_pi, (NIQE_FILE, NRQM_FILE), 2),
        }
        load, weights, self.digits = measures[measure]
        self.higher_is_better = measure == "nrqm"
        paths = require(files, *weights, libraries=("pyiqa", "huggingface_hub"), install=_INSTALL)
        self._quality = load(*paths, device)

    def compute(self, sr: Tensor) -> float:
        """Return the quality of an image (3, H, W). Raises ValueError for one that is too small or flat."""
        return self._quality(sr)


def load_niqe(parameters: Path, device: torch.device, color: str = "yiq") -> Quality:
    """Return NIQE (Mittal et al. 2013) of gray (`color="yiq"`, as MATLAB's) or of Y of YCbCr (`"ycbcr"`); 0 is best.

    Two blocks of 96x96 pixels must fit into the image. Raises WeightsError where the `.mat` is not NIQE's.
    """
    from pyiqa.archs.niqe_arch import NIQE

    net = _construct(NIQE, NIQE_FILE, parameters, parameters, color_space=color)
    if net.mu_pris_param.shape != (36,) or net.cov_pris_param.shape != (36, 36):
        shapes = f"{tuple(net.mu_pris_param.shape)} and {tuple(net.cov_pris_param.shape)}"
        raise WeightsError(
            f"{parameters}: mu_prisparam and cov_prisparam are {shapes}; NIQE's have 36 and 36x36 numbers"
        )
    run = _run(net, device)

    def niqe(image: Tensor) -> float:
        height, width = image.shape[1:]
        if (height // NIQE_BLOCK) * (width // NIQE_BLOCK) < 2:
            raise ValueError(
                f"NIQE needs room for two blocks of 96x96 pixels, got {width}x{height}"
            )
        return run(image)

    return niqe


def load_brisque(parameters: Path, device: torch.device) -> Quality:
    """Return BRISQUE (Mittal et al. 2012) of gray, LIVE's model; 0..100, 0 is best.

    Raises WeightsError where the file is not the support vectors, or holds more than tensors.
    """
    from pyiqa.archs.brisque_arch import BRISQUE

    # The library unpickles whatever it gets: give it a pickle that is written here, of tensors alone.
    content = check_content(
        read_state(parameters, "metric_files.brisque", BRISQUE_FILE.content), parameters
    )
    shapes = [tuple(t.shape) for t in content] if _are_tensors(content) else "no tensors in a pair"
    if not (
        _are_tensors(content)
        and len(shapes) == 2
        and shapes[1][1:] == (36,)
        and shapes[0][:1] == shapes[1][:1]
    ):
        raise WeightsError(
            f"{parameters}: expected BRISQUE's support vectors, a pair of tensors (N) and (N, 36); got {shapes}"
        )
    checked = io.BytesIO()
    torch.save(content, checked)
    checked.seek(0)
    return _at_least(
        BRISQUE_SMALLEST,
        "BRISQUE",
        _run(_construct(BRISQUE, BRISQUE_FILE, parameters, checked), device),
    )


def load_piqe(device: torch.device) -> Quality:
    """Return PIQE (Venkatanath et al. 2015) of gray; 0..100, 0 is best. It has no weights.

    As MATLAB's, and other than the library's own call, gray is rounded to 8 bit, and images are continued
    symmetrically to whole blocks of 16x16 pixels; the library pads by as much as is too much.
    """
    from pyiqa.archs.piqe_arch import PIQE

    run = _run(PIQE(), device)

    def piqe(image: Tensor) -> float:
        gray = torch.tensordot(
            torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64), image.double() * 255, 1
        )
        for dim in (0, 1):
            missing = -gray.shape[dim] % PIQE_BLOCK
            gray = torch.cat([gray, gray.flip(dim).narrow(dim, 0, missing)], dim)
        return run(gray.round()[None] / 255)

    return _at_least(PIQE_BLOCK, "PIQE", piqe)


def load_nrqm(parameters: Path, device: torch.device, color: str = "yiq") -> Quality:
    """Return NRQM (Ma et al. 2017) of gray (`color="yiq"`) or of Y of YCbCr (`"ycbcr"`); 0..10, 10 is best.

    Raises WeightsError where the `.mat` is not NRQM's.
    """
    from pyiqa.archs.nrqm_arch import NRQM

    net = _construct(NRQM, NRQM_FILE, parameters, parameters, color_space=color)
    return _at_least(NRQM_SMALLEST, "NRQM", _run(net, device))


def load_pi(niqe_parameters: Path, nrqm_parameters: Path, device: torch.device) -> Quality:
    """Return PI, the perceptual index of the PIRM challenge 2018: ((10 - NRQM) + NIQE) / 2, both of Y; less is better.

    Raises WeightsError as `load_niqe` and `load_nrqm` do.
    """
    niqe = load_niqe(niqe_parameters, device, color="ycbcr")
    nrqm = load_nrqm(nrqm_parameters, device, color="ycbcr")
    return lambda image: (10 - nrqm(image) + niqe(image)) / 2


def _are_tensors(content: object) -> TypeGuard[Sequence[Tensor]]:
    return isinstance(content, (tuple, list)) and all(isinstance(part, Tensor) for part in content)


def _construct(
    kind: Callable[..., nn.Module],
    file: WeightFile,
    path: Path,
    content: Path | io.BytesIO,
    **options: str,
) -> Any:
    variables = ""
    try:
        if isinstance(
            content, Path
        ):  # a .mat, which is refused where it declares more than it should
            variables = f" (it holds {list_names(read_variables(path))})"
        return kind(pretrained_model_path=content, **options)
    except MatFileError as error:
        raise WeightsError(f"{path}: {error}. Expected: {file.content}, from {file.url}") from error
    except Exception as error:  # a .mat of something else fails in nearly any way
        raise WeightsError(
            f"{path}: is not {file.content}{variables}. Expected: the file from {file.url}"
        ) from error


def _run(net: nn.Module, device: torch.device) -> Quality:
    net.to(device).eval()

    @torch.no_grad()
    def quality(image: Tensor) -> float:
        name = type(net).__name__
        try:
            value = float(net(image[None].to(device)))
        except (AssertionError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            raise ValueError(f"{name} cannot be computed; is the image flat? ({error})") from error
        if not torch.isfinite(torch.tensor(value)):
            raise ValueError(f"{name} is {value}; is the image flat?")
        return value

    return quality


def _at_least(smallest: int, name: str, quality: Quality) -> Quality:
    def checked(image: Tensor) -> float:
        check_images(name, image, smallest=smallest)
        return quality(image)

    return checked
