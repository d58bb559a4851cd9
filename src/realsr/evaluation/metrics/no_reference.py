"""No-reference image quality: NIQE, BRISQUE, PIQE, NRQM and PI, by pyiqa.

pyiqa is under the PolyForm Noncommercial licence; it is therefore not a dependency, and users
install it themselves. Gray is 0.299 R + 0.587 G + 0.114 B in 0..255, Y of YCbCr is BT.601 in
16..235; both are rounded.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from realsr.core.errors import WeightsError
from realsr.core.mat_variables import MatFileError, list_names, read_variables
from realsr.evaluation.metric import MetricFiles, read_for_library, require
from realsr.evaluation.metrics.psnr import check_images
from realsr.weights.published_files import WEIGHT_FILES, WeightFile

Quality = Callable[[Tensor], float]

NIQE_BLOCK = 96
PIQE_BLOCK = 16
BRISQUE_SMALLEST = 16
NRQM_SMALLEST = 100  # 25 singular values need 5x5 blocks of 5x5 pixels at a quarter of the size

_INSTALL = (
    "pip install 'realsr[iqa]' && pip install --no-deps pyiqa==0.1.16 "
    "(PolyForm Noncommercial licence; docs/study/metrics.md explains --no-deps)"
)

NIQE_FILE, BRISQUE_FILE, NRQM_FILE = (WEIGHT_FILES[key] for key in ("niqe", "brisque", "nrqm"))


class NoReference:
    """Image quality without reference, by one of five measures; see their `load_` functions.

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
        """Return the quality of an image (3, H, W). Raises ValueError if it is small or flat."""
        return self._quality(sr)


def load_niqe(parameters: Path, device: torch.device, color: str = "yiq") -> Quality:
    """Return NIQE (Mittal et al. 2013); 0 is best.

    color: `yiq`: gray, as in MATLAB; `ycbcr`: Y of YCbCr. Two blocks of 96x96 pixels must fit into
    the image. Raises WeightsError if the `.mat` file is not NIQE's.
    """
    from pyiqa.archs.niqe_arch import NIQE

    net = _construct(NIQE, NIQE_FILE, parameters, parameters, color_space=color)
    if net.mu_pris_param.shape != (36,) or net.cov_pris_param.shape != (36, 36):
        shapes = f"{tuple(net.mu_pris_param.shape)} and {tuple(net.cov_pris_param.shape)}"
        raise WeightsError(
            f"{parameters}: mu_prisparam and cov_prisparam are {shapes}, expected (36,) and "
            "(36, 36)"
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
    """Return BRISQUE (Mittal et al. 2012) of gray by the model of the LIVE lab; 0..100, 0 is best.

    Raises WeightsError if the file is not a pair of support vectors, or has more than tensors.
    """
    from pyiqa.archs.brisque_arch import BRISQUE

    content, pickle = read_for_library(BRISQUE_FILE, parameters, BRISQUE_FILE.content)
    shapes = [tuple(tensor.shape) for tensor in content] if isinstance(content, tuple) else []
    if len(shapes) != 2 or shapes[1][1:] != (36,) or shapes[0][:1] != shapes[1][:1]:
        raise WeightsError(
            f"{parameters}: expected BRISQUE's support vectors, a pair of tensors (N) and (N, 36); "
            f"got {shapes or 'no tensors in a pair'}"
        )
    return _run(_construct(BRISQUE, BRISQUE_FILE, parameters, pickle), device, BRISQUE_SMALLEST)


def load_piqe(device: torch.device) -> Quality:
    """Return PIQE (Venkatanath et al. 2015) of gray; 0..100, 0 is best. It has no weights.

    Gray is rounded to 8 bit, and images are padded symmetrically to whole blocks of 16x16 pixels,
    as in MATLAB. The library does not round, and pads by the remainder instead of its complement.
    """
    from pyiqa.archs.piqe_arch import PIQE

    run = _run(PIQE(), device)

    def piqe(image: Tensor) -> float:
        check_images("PIQE", image, smallest=PIQE_BLOCK)
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
        gray = torch.tensordot(weights, image.double() * 255, 1)
        for dim in (0, 1):
            border = gray.flip(dim).narrow(dim, 0, -gray.shape[dim] % PIQE_BLOCK)
            gray = torch.cat([gray, border], dim)
        return run(gray.round()[None] / 255)

    return piqe


def load_nrqm(parameters: Path, device: torch.device, color: str = "yiq") -> Quality:
    """Return NRQM (Ma et al. 2017); 0..10, 10 is best.

    color: `yiq`: gray; `ycbcr`: Y of YCbCr. Raises WeightsError if the `.mat` file is not NRQM's.
    """
    from pyiqa.archs.nrqm_arch import NRQM

    net = _construct(NRQM, NRQM_FILE, parameters, parameters, color_space=color)
    return _run(net, device, NRQM_SMALLEST)


def load_pi(niqe_parameters: Path, nrqm_parameters: Path, device: torch.device) -> Quality:
    """Return PI, the perceptual index of the PIRM challenge 2018; lower is better.

    PI = ((10 - NRQM) + NIQE) / 2, both of Y. Raises WeightsError as `load_niqe` and `load_nrqm` do.
    """
    niqe = load_niqe(niqe_parameters, device, color="ycbcr")
    nrqm = load_nrqm(nrqm_parameters, device, color="ycbcr")
    return lambda image: (10 - nrqm(image) + niqe(image)) / 2


def _construct(
    kind: Callable[..., nn.Module],
    file: WeightFile,
    path: Path,
    content: Path | io.BytesIO,
    **options: str,
) -> Any:
    variables = ""
    try:
        if isinstance(content, Path):  # a .mat file; unsafe ones are rejected here
            variables = f" (the file has {list_names(read_variables(path))})"
        return kind(pretrained_model_path=content, **options)
    except MatFileError as error:
        raise WeightsError(f"{path}: {error}. Expected: {file.content}, from {file.url}") from error
    except Exception as error:  # an unrelated .mat file may raise any type
        raise WeightsError(
            f"{path}: not {file.content}{variables}. Expected: the file from {file.url}"
        ) from error


def _run(net: nn.Module, device: torch.device, smallest: int = 0) -> Quality:
    """Return a network as a function that checks its result, and the image if `smallest` is set."""
    net.to(device).eval()

    @torch.no_grad()
    def quality(image: Tensor) -> float:
        name = type(net).__name__
        if smallest:
            check_images(name, image, smallest=smallest)
        try:
            value = float(net(image[None].to(device)))
        except (AssertionError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            raise ValueError(f"{name} cannot be computed; is the image flat? ({error})") from error
        if not torch.isfinite(torch.tensor(value)):
            raise ValueError(f"{name} is {value}; is the image flat?")
        return value

    return quality
