"""Evaluation protocols: how images are prepared and compared, to match published numbers."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated

from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range, check_ranges

LR = {
    "bicubic": "by MATLAB's bicubic from HR, in 8 bit",
    "area": "the original resized by INTER_AREA, in 8 bit",
}


@dataclass
class Protocol:
    """How images are prepared and compared; conf/protocol has the named ones and their origin.

    crop: border pixels to crop; None: the scale.
    metrics: names, see `load_metrics`.
    hr_side: None: HR is cropped to a multiple of the scale; a number: the original is resized to a
        square of this side by OpenCV's INTER_AREA.
    lr: how LR is made if no folder of LR is set: `bicubic` (HR resized as by MATLAB's `imresize`)
        or `area` (the original resized to HR's size / scale by INTER_AREA).
    note: the origin of the protocol, and how certain it is.
    """

    name: str
    crop: Annotated[int, Range(0)] | None
    metrics: list[str]
    hr_side: Annotated[int, Range(1)] | None
    lr: Annotated[str, Choice(*LR)]
    note: str


def resolve(protocol: Protocol, scale: int) -> Protocol:
    """Return the protocol with its crop as a number. Raises UserError for invalid values."""
    check_ranges(protocol, "protocol")
    if not protocol.metrics:
        raise UserError(
            "protocol.metrics=[]: name at least one metric, e.g. protocol.metrics=[psnr,ssim]"
        )
    if len(set(protocol.metrics)) < len(protocol.metrics):
        raise UserError(
            f"protocol.metrics=[{','.join(protocol.metrics)}]: expected each metric once"
        )
    if protocol.hr_side is not None and (protocol.hr_side % scale):
        raise UserError(
            f"protocol.hr_side={protocol.hr_side}: expected a multiple of scale={scale}"
        )
    return replace(protocol, crop=scale if protocol.crop is None else protocol.crop)


def list_changes(protocol: Protocol, reference: Protocol) -> list[str]:
    """Return the values that differ from the reference, e.g. ["crop=0"]; both are resolved."""
    original = asdict(reference)
    changes = []
    for key, value in asdict(protocol).items():
        if value != original[key]:
            text = f"[{','.join(value)}]" if isinstance(value, list) else value
            changes.append(f"{key}={text}")
    return changes
