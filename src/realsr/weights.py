"""Generator weights: in from files that are not trusted, out as safetensors."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from realsr.errors import UserError
from realsr.imaging import write_bytes
from realsr.networks import GeneratorConfig, build_generator


def save_generator(path: Path, generator: nn.Module, config: GeneratorConfig, scale: int) -> None:
    """Write a generator's weights as safetensors, with its config and scale as metadata, atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    # One key: safetensors writes several in any order, and equal weights shall be equal files.
    write_bytes(path, save(state, {"realsr": json.dumps({"generator": asdict(config), "scale": scale})}))


def load_generator(path: Path) -> tuple[nn.Module, int]:
    """Return the generator, in eval mode, and its scale, from a run's folder or its `generator.safetensors`.

    Raises UserError where there is none or where the file is damaged or not of ours.
    """
    file = path / "generator.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{file}: no such file; expected a run's folder or its generator.safetensors, which a finished training "
            "leaves there"
        )
    try:
        with safe_open(file, framework="pt") as content:
            metadata = content.metadata() or {}
            state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
        facts = json.loads(metadata["realsr"])
        config, scale = GeneratorConfig(**facts["generator"]), int(facts["scale"])
        generator = build_generator(config, scale)
        generator.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{file}: not the weights of a generator trained here ({reason})") from error
    return generator.eval(), scale


def load_generator_state(generator: nn.Module, path: Path) -> None:
    """Fill a generator with the weights of a `.safetensors` or `.pth` file (a plain state dict).

    Raises UserError where the file cannot be read safely, or has other tensors; the first that differ are named.
    """
    state = _read_state(path)
    expected = generator.state_dict()
    differing = sorted(expected.keys() ^ state.keys()) or [
        name for name in expected if expected[name].shape != state[name].shape
    ]
    if differing:
        raise UserError(f"{path}: weights of another generator; the first that differ: {', '.join(differing[:5])}")
    generator.load_state_dict(state)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load(path.read_bytes())
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file of weights") from error
    except Exception as error:  # torch and safetensors raise many kinds for a broken or unsafe file
        reason = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{path}: weights that cannot be read safely ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: expected a state dict, tensor by name; found {type(state).__name__}")
    return state
