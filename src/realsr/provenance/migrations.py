"""Migration of records of earlier versions, so that their work can be continued.

A section of a manifest has a format number, 1 if it has none. `MIGRATIONS` maps stage and format to
the function that converts a section to the next format.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

FORMAT = 7
Section = dict[str, Any]
RENAMED_KEYS = {
    "discriminator.arguments": "discriminator",
    "kernels.frame": "kernels.border",
    "kernels.method": "kernels",
    "kernels.spectral": "kernels",
    "look.jpeg_quality": "online_degradation.quality, with online_degradation=noise_jpeg",
    "look.noise": "pool.noise",
    "look": "online_degradation",
    "noise.wanted": "noise.min_patches",
    "own_code": "allow_custom_code",
    "pairs.rebuild": "the command realsr.rebuild_pair",
    **{
        f"pool.{key}": f"pool.estimator.{key}"
        for key in ("align", "count", "eigenvalues", "folder", "isotropic", "key")
    },
    "pool.multiplicative_noise": "pool.estimator.multiplicative_noise",
    "survey": "the command realsr.survey_noise",
}
"""Keys of earlier configurations and their replacements."""
ADDED_KEYS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "optimiser": {"": {"warmup": 0, "max_gradient_norm": None}},
    "loss": {"perceptual": {"network": "vgg19"}},
    "online_degradation": {
        "noise": {"match": "random"},
        "noise_jpeg": {"match": "random", "jpeg": "quality"},
    },
    "kernels": {"kernelgan": {"average_from": None, "gan_after_start": False}},
}
"""Keys added to a group, by the name of its component ("" if it has none), with the values that
equal the behaviour before."""
RENAMED_RUN_KEYS = (("kernels", "frame", "border"), ("noise", "wanted", "min_patches"))
"""Group, old and new key of the values of a run's config.yaml."""


def migrate(stage: str, section: Section) -> Section:
    """Return a stage's section converted to `FORMAT`; one of a later format is not changed."""
    number = section.get("format", 1)
    if number >= FORMAT:
        return section
    for step in range(number, FORMAT):
        if change := MIGRATIONS.get((stage, step)):
            section = change(section)
    return section | {"format": FORMAT}


def name_replacement(key: str) -> str | None:
    """Return the replacement of a key of earlier configurations, None for any other key."""
    for old, new in RENAMED_KEYS.items():
        if key == old:
            return new
        if key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return None


def _name_training_components(section: Section) -> Section:
    """Convert networks and loss terms to components, whose arguments are next to their name."""
    config, files = dict(section["config"]), dict(section.get("files", {}))
    for role, sizes in (
        ("generator", ("features", "blocks", "growth")),
        ("discriminator", ("features", "layers")),
    ):
        prefix = f"{role}.arguments."
        is_custom = "." in str(config.get(f"{role}.name"))
        for size in sizes if is_custom else ():
            config.pop(f"{role}.{size}", None)
        for record in (config, files):
            for key in [key for key in record if key.startswith(prefix)]:
                record[f"{role}.{key.removeprefix(prefix)}"] = record.pop(key)
    if config.get("discriminator.name") == "patch":
        config["discriminator.name"] = "patchgan"
    if config.get("discriminator.name") == "vgg128":
        config.pop("discriminator.layers", None)

    # Without a GAN term there is no discriminator. Terms of weight 0 are not recorded.
    if not config.get("loss.gan"):
        config = _remove(config, "discriminator.")
    for key, name in (("pixel", "l1"), ("gan", "ragan")):
        if weight := config.pop(f"loss.{key}", None):
            config |= {f"loss.{key}.name": name, f"loss.{key}.weight": weight}
    if config.get("loss.perceptual.weight"):
        config["loss.perceptual.name"] = "perceptual"
    else:
        config = _remove(config, "loss.perceptual.")

    # One class used to degrade LR, with options for noise and JPEG.
    if "look.noise" in config:
        config["pool.noise"] = config.pop("look.noise")
    if "look.jpeg_quality" in config:
        quality = config.pop("look.jpeg_quality")
        config["online_degradation.name"] = "noise" if quality is None else "noise_jpeg"
        config |= {} if quality is None else {"online_degradation.quality": quality}
    return section | {"config": config, "files": files}


def _name_estimator(section: Section) -> Section:
    """Convert kernel estimators to components, named by their method or kind of kernels."""
    config = dict(section["config"])
    name = config.pop("method", None) or config.pop("kernels", None)
    return section | {"config": config | {"name": "from_mat" if name == "mat" else name}}


def _add_training_keys(section: Section) -> Section:
    """Warm-up and clipping were added, and VGG16 beside VGG19."""
    section = _add_keys(section, "optimiser", "optimiser.")
    for key in section["config"]:
        if key.startswith("loss.") and key.endswith(".name"):
            section = _add_keys(section, "loss", key.removesuffix("name"))
    return section


def _add_keys(section: Section, group: str, prefix: str) -> Section:
    """Add the `ADDED_KEYS` of the component whose config keys have a prefix."""
    config = section["config"]
    additions = ADDED_KEYS[group].get(str(config.get(f"{prefix}name", "")), {})
    values = {f"{prefix}{key}": value for key, value in additions.items()}
    return section | {"config": values | config}


def _add_pixel_hashes(section: Section) -> Section:
    """Hashes of the pixels of a pair were added; None means files compressed by zlib."""
    items = {name: {"pixels": None} | item for name, item in section["items"].items()}
    return section | {"items": items}


def _rename(section: Section, old: str, new: str) -> Section:
    config = {new if key == old else key: value for key, value in section["config"].items()}
    return section | {"config": config}


def _remove(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith(prefix)}


MIGRATIONS: Mapping[tuple[str, int], Callable[[Section], Section]] = {
    ("kernels", 1): _name_estimator,
    ("kernels", 2): partial(_rename, old="frame", new="border"),
    ("kernels", 6): partial(_add_keys, group="kernels", prefix=""),
    ("noise_survey", 2): partial(_rename, old="wanted", new="min_patches"),
    ("pairs", 5): _add_pixel_hashes,
    ("training", 1): _name_training_components,
    ("training", 3): _add_training_keys,
    ("training", 4): partial(_add_keys, group="online_degradation", prefix="online_degradation."),
}


def migrate_run_config(config: Section) -> tuple[dict[str, str], Section]:
    """Convert a run's config.yaml to options of config groups, by group, and other values.

    A configuration whose components have names is returned without options, with the keys that
    were renamed or added later.
    """
    if "look" in config:
        return _name_run_components(config)
    values = deepcopy(config)
    for group, old, new in RENAMED_RUN_KEYS:
        part = values.get(group)
        if isinstance(part, dict) and old in part:
            value = part.pop(old)
            part.setdefault(new, value)
    for group, additions in ADDED_KEYS.items():
        part = values.get(group)
        # Each term of the loss is a component.
        components = part.values() if group == "loss" and isinstance(part, dict) else [part]
        for component in components:
            if isinstance(component, dict):
                for key, value in additions.get(str(component.get("name", "")), {}).items():
                    component.setdefault(key, value)
    return {}, values


def _name_run_components(config: Section) -> tuple[dict[str, str], Section]:
    """Convert the config.yaml of a run before components had names, see `migrate_run_config`."""
    values = deepcopy(config)
    quality, kernels, pool = values.pop("look")["jpeg_quality"], values["kernels"], values["pool"]
    options = {
        "kernels": kernels["method"],
        "pool": pool["name"],
        "online_degradation": "noise" if quality is None else "noise_jpeg",
    }
    values["kernels"] = kernels | kernels["spectral"] | {"border": kernels["frame"]}
    values["noise"]["min_patches"] = values["noise"]["wanted"]
    values["pool"] = {"noise": pool["noise"], "estimator": pool}
    if quality is not None:
        values["online_degradation"] = {"quality": quality}
    names = {"pixel": "l1", "perceptual": "perceptual", "gan": "ragan"}
    terms = {
        key: term if isinstance(term, dict) else {"weight": term}
        for key, term in values["loss"].items()
    }
    values["loss"] = {key: {"name": names[key]} | term for key, term in terms.items()}
    for role in ("generator", "discriminator"):
        network = values[role]
        arguments = network.pop("arguments")
        if "." in network["name"]:
            options[role], values[role] = "custom", {"name": network["name"]} | arguments
        else:
            options[role] = network.pop("name")
    return options, values
