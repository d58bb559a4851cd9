"""Small forms of spandrel's networks, by the option of conf/generator that is of the same architecture."""

from typing import Any

from config_files import yaml_values

SMALL: dict[str, dict[str, Any]] = {
    "compact": {"num_feat": 8, "num_conv": 2},
    "swinir": {"img_size": 8, "window_size": 4, "depths": [2], "embed_dim": 12, "num_heads": [2]},
    "hat_s": {
        "window_size": 4,
        "depths": [2],
        "embed_dim": 12,
        "num_heads": [2],
        "compress_ratio": 3,
        "squeeze_factor": 3,
    },
    "dat_light": {
        "img_size": 16,
        "split_size": [4, 8],
        "depth": [3],
        "embed_dim": 32,
        "num_heads": [2],
    },
    "span": {"feature_channels": 8},
    "plksr": {"dim": 8, "n_blocks": 2, "kernel_size": 5},
    "rcan": {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 4},
    "omnisr": {"num_feat": 8, "res_num": 1, "window_size": 4},
}


def small_values(option: str) -> dict[str, Any]:
    """Return an option's values with small arguments."""
    values = yaml_values(f"generator/{option}")
    return values | {"arguments": values["arguments"] | SMALL[option]}
