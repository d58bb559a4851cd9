"""The device that work is done on."""

import torch

from realsr.core.errors import UserError


def choose_device(name: str, option: str = "device", index: int = 0) -> torch.device:
    """Return the device of a name; `auto` is a GPU where there is one.

    Args:
        name: auto, cpu, cuda or cuda:n, or what else torch knows.
        option: what the user gave the name by, for messages.
        index: which of the GPUs `auto` and `cuda` are, beginning again after the last.

    Raises:
        UserError: for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{index % max(1, torch.cuda.device_count())}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{option}={name}: {_explain(name, error)}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _explain(name: str, error: Exception) -> str:
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name in gpus:
        return f"cannot be used ({str(error).splitlines()[0]}): set it to another device"
    if name.startswith("cuda") and not gpus:
        return "torch finds no GPU: set it to auto or cpu"
    return f"there is no such device: expected {', '.join(['auto', 'cpu', *gpus])}"
