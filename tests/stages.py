"""The functions of the stages, with the values of conf/config.yaml for what a test does not set."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import yaml

from realsr.config.options import conf_dir
from realsr.data import validation_images
from realsr.evaluation import scoring
from realsr.inference import upscaling
from realsr.kernels import estimation, estimator
from realsr.noise import collection, modelling, survey
from realsr.noise.noise_config import NoiseConfig
from realsr.noise.noise_fit import BLOCKS
from realsr.pairs import rebuild, synthesis
from realsr.training import run

P = ParamSpec("P")
R = TypeVar("R")
# Without processes, whose start takes longer than the work of a test.
VALUES = yaml.safe_load((conf_dir() / "config.yaml").read_text()) | {"key": "kernels", "workers": 0}


def complete(stage: Callable[P, R]) -> Callable[..., R]:
    """Return the stage's function with default arguments of `VALUES`."""
    signature = inspect.signature(stage)
    names = signature.parameters.keys() & VALUES.keys()

    @wraps(stage)
    def call(*arguments: object, **rest: object) -> R:
        values = signature.bind_partial(*arguments, **rest).arguments
        return stage(**{name: VALUES[name] for name in names} | values)  # type: ignore[call-arg]

    return call


choose_thresholds = complete(survey.choose_thresholds)
collect_jpeg_tables = complete(modelling.collect_jpeg_tables)
collect_noise = complete(collection.collect_noise)
estimate_kernels = complete(estimation.estimate_kernels)
fit_noise_model = complete(modelling.fit_noise_model)
load_validation_folder = complete(validation_images.load_validation_folder)
make_estimator = complete(estimator.make_estimator)
make_pairs = complete(synthesis.make_pairs)
match_images = complete(scoring.match_images)
read_folders = complete(validation_images.read_folders)
rebuild_pair = complete(rebuild.rebuild_pair)
survey_noise = complete(survey.survey_noise)
train_run = complete(run.train_run)
upscale_photo = complete(upscaling.upscale_photo)
upscale_photos = complete(upscaling.upscale_photos)


def survey_of(tiles: np.ndarray, config: NoiseConfig) -> survey.Survey:
    """Return the survey of one photo with these tiles, without blocks of noise."""
    blocks = np.empty(0, BLOCKS)
    return survey.Survey(Path(), ["a.png"], tiles, config, 200.0, {}, "refuse", blocks, None)
