"""Enlarges photos: python -m realsr.upscale PHOTO output=FILE weights=df2k."""

from realsr.config.composition import UpscaleConfig, run_command
from realsr.core.devices import choose_device
from realsr.inference.model import load_model
from realsr.inference.photos import leave_results, plan_enlargements
from realsr.inference.refinement import refine
from realsr.inference.tile_memory import choose_tiles
from realsr.inference.upscaling import upscale_photos


def main(config: UpscaleConfig) -> None:
    """Enlarge what the config names and is not there yet."""
    plan = plan_enlargements(config.input, config.output, config.format)
    if not config.overwrite:
        plan = leave_results(plan)
    if plan:
        device = choose_device(config.device)
        model = load_model(config.weights, device, config.precision, config.allow_custom_code, config.scale)
        tiles_for = choose_tiles(model, config.tile, config.overlap)
        upscale_photos(plan, refine(model, config.ensemble, config.consistency), tiles_for, config.damaged)


if __name__ == "__main__":
    run_command(main, "upscale")
