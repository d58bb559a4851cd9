"""Enlarges photos: python -m realsr.upscale PHOTO output=FILE weights=df2k."""

import logging
import os
from pathlib import Path

from realsr.config.composition import UpscaleConfig, run_command
from realsr.core.devices import choose_device
from realsr.core.files import looks_lost
from realsr.inference.consistency import consistent
from realsr.inference.ensemble import ensemble
from realsr.inference.memory import choose_tiles
from realsr.inference.model import SRModel, load_model
from realsr.inference.photos import Enlargement, plan_enlargements
from realsr.inference.upscaling import upscale_photos

logger = logging.getLogger("realsr")


def main(config: UpscaleConfig) -> None:
    """Enlarge what the config names and is not there yet."""
    plan = plan_enlargements(config.input, config.output, config.format)
    if not config.overwrite:
        plan = _leave_results(plan)
    if plan:
        device = choose_device(config.device)
        model = load_model(config.weights, device, config.precision, config.allow_custom_code, config.scale)
        tiles_for = choose_tiles(model, config.tile, config.overlap)
        upscale_photos(plan, refine(model, config.ensemble, config.consistency), tiles_for, config.damaged)


def refine(model: SRModel, with_ensemble: bool, with_consistency: bool) -> SRModel:
    """Put around a model what was asked for; its need of memory stays about the same."""
    if with_ensemble:
        model = ensemble(model)
    return consistent(model) if with_consistency else model


def _leave_results(plan: list[Enlargement]) -> list[Enlargement]:
    there = [one.result for one in plan if _is_whole(one.result)]
    if there:
        logger.info(
            "%d of %d results are there already and stay as they are, such as %s: overwrite=true makes them anew",
            len(there),
            len(plan),
            there[0],
        )
    return [one for one in plan if one.result not in there]


def _is_whole(result: Path) -> bool:
    """Tell whether a result is there, and whole as far as that is seen; where it cannot have a place, it is not."""
    try:
        return result.is_file() and not looks_lost(result, with_end=False)
    except OSError:
        return os.access(result, os.F_OK)  # a file that cannot be read


if __name__ == "__main__":
    run_command(main, "upscale")
