"""The Python interface: a function for each command, and building blocks for notebooks.

Names are imported on first use. The function of a command takes a configuration from `load_config`,
or the command's keys as arguments, and returns a small result:

    from realsr import api

    keys = {"track": "dped", "data": {"source": "photos"}, "work_dir": "work/phone"}
    api.estimate_kernels(**keys, kernels="spectral")
    run = api.train(**keys, kernels="spectral", trainer={"max_steps": 1000})
    sr = api.upscale(api.read_image("photo.png"), run.folder)

This package does not set up logging. Progress and messages go to the logger `realsr`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realsr.api.adaptation import adapt as adapt
    from realsr.api.data_check import check_data as check_data
    from realsr.api.degradation_stages import collect_noise as collect_noise
    from realsr.api.degradation_stages import degrade as degrade
    from realsr.api.degradation_stages import estimate_kernels as estimate_kernels
    from realsr.api.degradation_stages import make_pairs as make_pairs
    from realsr.api.degradation_stages import rebuild_pair as rebuild_pair
    from realsr.api.degradation_stages import survey_noise as survey_noise
    from realsr.api.demo_study import demo as demo
    from realsr.api.domain_comparison import compare_domains as compare_domains
    from realsr.api.generator_export import export as export
    from realsr.api.model_evaluation import evaluate as evaluate
    from realsr.api.photo_upscaling import load_model as load_model
    from realsr.api.photo_upscaling import read_image as read_image
    from realsr.api.photo_upscaling import upscale as upscale
    from realsr.api.photo_upscaling import write_image as write_image
    from realsr.api.reports import Pool as Pool
    from realsr.api.reports import report as report
    from realsr.api.training_plan import plan as plan
    from realsr.api.training_run import train as train
    from realsr.api.web_page import app as app
    from realsr.api.weight_fetching import fetch as fetch
    from realsr.config.composition import load_config as load_config

_NAMES = {
    "api.adaptation": ["adapt"],
    "api.data_check": ["check_data"],
    "api.degradation_stages": [
        "collect_noise",
        "degrade",
        "estimate_kernels",
        "make_pairs",
        "rebuild_pair",
        "survey_noise",
    ],
    "api.demo_study": ["demo"],
    "api.domain_comparison": ["compare_domains"],
    "api.generator_export": ["export"],
    "api.model_evaluation": ["evaluate"],
    "api.photo_upscaling": ["load_model", "read_image", "upscale", "write_image"],
    "api.reports": ["Pool", "report"],
    "api.training_plan": ["plan"],
    "api.training_run": ["train"],
    "api.web_page": ["app"],
    "api.weight_fetching": ["fetch"],
    "config.composition": ["load_config"],
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"realsr.api has no {name}: expected one of {', '.join(__all__)}")
    return getattr(import_module(f"realsr.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
