"""Protocols: named ways of preparing and comparing images, so that numbers from elsewhere can be compared with."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range, check_ranges

LR = {
    "bicubic": "by MATLAB's bicubic from HR, in 8 bit",
    "area": "the original resized by INTER_AREA, in 8 bit",
}


@dataclass
class Protocol:
    """How images are prepared and compared; conf/protocol holds the named ones and says where each is from.

    crop: border pixels left out; None: as many as the scale.
    metrics: names, see `load_metrics`.
    hr_side: None: HR is cropped to a multiple of the scale; a number: the original is resized to a square of this side
        by OpenCV's INTER_AREA.
    lr: where no folder of LR is given: `bicubic` (HR shrunk as MATLAB's `imresize` does) or `area` (the original
        resized to HR's size / scale by INTER_AREA).
    note: where it is from, and how sure that is.
    """

    name: str
    crop: Annotated[int, Range(0)] | None
    metrics: list[str]
    hr_side: Annotated[int, Range(1)] | None
    lr: Annotated[str, Choice(*LR)]
    note: str


def resolve(protocol: Protocol, scale: int) -> Protocol:
    """Return the protocol with its crop as a number. Raises UserError for values that cannot be used."""
    check_ranges(protocol, "protocol")
    if not protocol.metrics:
        raise UserError(
            "protocol.metrics=[]: name at least one metric, e.g. protocol.metrics=[psnr,ssim]"
        )
    if len(set(protocol.metrics)) < len(protocol.metrics):
        raise UserError(f"protocol.metrics=[{','.join(protocol.metrics)}]: a metric is named twice")
    if protocol.hr_side is not None and (protocol.hr_side % scale):
        raise UserError(
            f"protocol.hr_side={protocol.hr_side}: expected a multiple of scale={scale}"
        )
    return replace(protocol, crop=scale if protocol.crop is None else protocol.crop)


def list_changes(protocol: Protocol, named: Protocol) -> list[str]:
    """Return what differs from the protocol of that name, e.g. ["crop=0"]; both resolved."""
    original = asdict(named)
    return [
        f"{key}={_format_value(value)}"
        for key, value in asdict(protocol).items()
        if value != original[key]
    ]


def _format_value(value: Any) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)
