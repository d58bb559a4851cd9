"""The metrics of conf/metric, made as the commands make them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from config_files import yaml_values
from realsr.config.options import list_options
from realsr.evaluation.metric import Metric, load_metrics

NAMES = list_options("metric")
VALUES = {name: yaml_values(f"metric/{name}") for name in NAMES}


def load(names: Sequence[str], **files: Path) -> dict[str, Metric]:
    """Make metrics on the CPU; files: of weights, by key."""
    return load_metrics(names, VALUES, files, torch.device("cpu"))
