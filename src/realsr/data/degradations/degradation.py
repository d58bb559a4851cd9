"""The protocol of online degradations, which compute LR anew for each crop during training."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from realsr.core.components import Values, build_component, find_component, locate_error
from realsr.core.errors import UserError
from realsr.data.cache import Images
from realsr.data.pool_files import NOISE_INPUTS, POOL_INPUTS, read_inputs
from realsr.imaging import ImageError

ROOM = "realsr.data.degradations"
KEY = "online_degradation"


class OnlineDegradation(Protocol):
    """Computes LR from crops of the pairs' LR or HR; a component of the group `online_degradation`.

    A component need not be a subclass. What a subclass leaves out returns the pair's LR unchanged.
    The arguments of its constructor say what it reads of a pool, see `build_degradation`.

    reads: `lr`: it reads a crop of the pair's LR; `hr`: it reads only the crop of HR. margin:
    pixels around the crop that `prepare` receives in training, in the image that it reads.
    pool_conditions: for an argument that is read from the pool only if other arguments have certain
    values: these values. Other components need not have this attribute.
    """

    reads: Literal["lr", "hr"] = "lr"
    margin: int = 0
    pool_conditions: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Do the random part, in a worker process.

        Args:
            crop: (h + 2 margin, w + 2 margin, 3) uint8, already flipped and rotated; read-only.
            margin: that of the component; 0 for the LR of a validation image, which is degraded
                whole.
            rng: the only source of random numbers.

        Returns:
            Arrays by name, uint8 or float32, with the same names, types and shapes for all crops of
            one size. The name `hr` is reserved.
        """
        return {"lr": crop}

    def apply(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return LR (N, 3, h, w) float32 in 0..1 on the batch's device, without random numbers.

        batch: the arrays of `prepare`, stacked (N, …), and `hr`, the HR crops (N, s h, s w, 3)
            uint8; read-only.
        """
        return to_images(batch["lr"])


def build_degradation(
    values: Values, scale: int, files: Sequence[Path] = (), patches: Images | None = None
) -> OnlineDegradation:
    """Build an online degradation.

    Its constructor may take `scale`, and of the pool `patches`, `camera_noise` (a CameraNoise, or
    None), `jpeg_tables` (a list of JpegTables) and `kernels` (a list of arrays).

    files: those of the pool. Raises UserError if they are invalid.
    patches: the noise patches; None: those among `files`, which are decoded when they are drawn.
    """
    degradation = build_component(ROOM, KEY, values, scale=scale, **read_inputs(files, patches))
    reads, margin = getattr(degradation, "reads", None), getattr(degradation, "margin", None)
    if reads not in ("lr", "hr") or type(margin) is not int or margin < 0:
        raise UserError(
            f"{KEY}.name={values['name']}: has reads={reads!r} and margin={margin!r}: expected the "
            "attributes reads ('lr' or 'hr') and margin (0 or more pixels around the crop)"
        )
    cls = type(degradation)
    inherits = [
        name
        for name in ("prepare", "apply")
        if getattr(cls, name, None) is getattr(OnlineDegradation, name)
    ]
    if len(inherits) == 2 and not cls.__module__.startswith(ROOM):
        raise UserError(f"{KEY}.name={values['name']}: defines neither prepare nor apply")
    return cast(OnlineDegradation, degradation)


def pool_arguments(values: Values) -> list[str]:
    """Return the names in POOL_INPUTS that an online degradation reads of a pool, in that order.

    They are arguments of its constructor, except those whose `pool_conditions` the values violate.
    """
    component = find_component(ROOM, KEY, values)
    parameters = inspect.signature(component).parameters
    conditions: Mapping[str, Mapping[str, Any]] = getattr(component, "pool_conditions", {})
    return [
        name
        for name in POOL_INPUTS
        if name in parameters
        and all(values.get(key, value) == value for key, value in conditions.get(name, {}).items())
    ]


def required_inputs(values: Values, noise: bool) -> list[str]:
    """Return the names in POOL_INPUTS that must exist for an online degradation.

    Without a noise model these include the noise patches, which the record of a training names even
    if the component reads no noise. noise: `pool.noise`; False: neither patches nor noise model.
    """
    arguments = pool_arguments(values)
    if "camera_noise" not in arguments:
        arguments = ["patches", *(name for name in arguments if name != "patches")]
    return [name for name in arguments if noise or name not in NOISE_INPUTS]


def try_degradation(degradation: OnlineDegradation, crop: int, scale: int) -> dict[str, np.ndarray]:
    """Degrade a black HR crop and return the arrays of `prepare`.

    Raises UserError if custom code fails or violates `OnlineDegradation`, ImageError for an
    unreadable noise patch.
    """
    name = type(degradation).__name__
    side = (crop if degradation.reads == "hr" else crop // scale) + 2 * degradation.margin
    black = np.zeros((side, side, 3), np.uint8)
    try:
        arrays = degradation.prepare(black, degradation.margin, scale, np.random.default_rng(0))
        for key, array in arrays.items():
            if key == "hr" or array.dtype not in (np.uint8, np.float32):
                raise UserError(
                    f"{KEY}: {name}.prepare returned {key} of {array.dtype}: expected uint8 or "
                    "float32, and no hr"
                )
        if type(degradation).apply is OnlineDegradation.apply and arrays.keys() != {"lr"}:
            raise UserError(
                f"{KEY}: {name} does not define apply, but prepare returned {', '.join(arrays)}: "
                "expected lr alone"
            )
        lr = degradation.apply(to_batch(arrays, np.zeros((crop, crop, 3), np.uint8)))
    except (UserError, ImageError):
        raise
    except Exception as error:
        if type(degradation).__module__.startswith(ROOM):
            raise
        raise UserError(
            f"{KEY}: {name} fails on a crop of {crop}x{crop}: {locate_error(error)}"
        ) from error
    shape = (1, 3, crop // scale, crop // scale)
    if tuple(lr.shape) != shape or lr.dtype != torch.float32:
        raise UserError(
            f"{KEY}: {name}.apply returned {tuple(lr.shape)} {lr.dtype}: expected {shape} "
            "torch.float32"
        )
    return arrays


def to_batch(arrays: Mapping[str, np.ndarray], hr_uint8: np.ndarray) -> dict[str, Tensor]:
    """Return one crop's arrays of `prepare` and its HR crop (s h, s w, 3) as a batch of one."""
    return {
        key: torch.from_numpy(array.copy())[None]
        for key, array in {**arrays, "hr": hr_uint8}.items()
    }


def to_images(images_uint8: Tensor) -> Tensor:
    """Return images (N, h, w, 3) uint8 as (N, 3, h, w) float32 in 0..1, channels last in memory."""
    return images_uint8.permute(0, 3, 1, 2).to(torch.float32).div_(255)
