"""The Python interface: what the commands do, and the pieces that a notebook needs. All of it is imported when used.

Each function of a stage takes what `load_config` returned, or the command's keys as arguments, and returns a small
result:

    from realsr import api

    api.estimate_kernels(track="dped", data={"source": "photos"}, work_dir="work/mine", kernels="spectral")
    run = api.train(api.load_config("train", ["+track=dped", "data.source=photos", "trainer.max_steps=1000"]))
    sr = api.upscale(api.read_image("photo.png"), run.folder)

Nothing here sets up logging: progress and messages go to the logger `realsr`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realsr.api.data_check import check_data as check_data
    from realsr.api.degradation_stages import collect_noise as collect_noise
    from realsr.api.degradation_stages import estimate_kernels as estimate_kernels
    from realsr.api.degradation_stages import make_pairs as make_pairs
    from realsr.api.degradation_stages import rebuild_pair as rebuild_pair
    from realsr.api.degradation_stages import survey_noise as survey_noise
    from realsr.api.demo_study import demo as demo
    from realsr.api.generator_export import export as export
    from realsr.api.image_pieces import degrade as degrade
    from realsr.api.image_pieces import read_image as read_image
    from realsr.api.image_pieces import write_image as write_image
    from realsr.api.model_evaluation import evaluate as evaluate
    from realsr.api.photo_upscaling import load_model as load_model
    from realsr.api.photo_upscaling import upscale as upscale
    from realsr.api.pool_report import Pool as Pool
    from realsr.api.pool_report import pool as pool
    from realsr.api.training_run import train as train
    from realsr.config.composition import load_config as load_config

_PLACES = {
    "Pool": "api.pool_report",
    "check_data": "api.data_check",
    "collect_noise": "api.degradation_stages",
    "degrade": "api.image_pieces",
    "demo": "api.demo_study",
    "estimate_kernels": "api.degradation_stages",
    "evaluate": "api.model_evaluation",
    "export": "api.generator_export",
    "load_config": "config.composition",
    "load_model": "api.photo_upscaling",
    "make_pairs": "api.degradation_stages",
    "pool": "api.pool_report",
    "read_image": "api.image_pieces",
    "rebuild_pair": "api.degradation_stages",
    "survey_noise": "api.degradation_stages",
    "train": "api.training_run",
    "upscale": "api.photo_upscaling",
    "write_image": "api.image_pieces",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"realsr.api has no {name}: expected one of {', '.join(__all__)}")
    return getattr(import_module(f"realsr.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
