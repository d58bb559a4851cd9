"""Compare RealSR's training step with a plain implementation: speed, memory, use of the GPU.

The product's step (`realsr.training.step`) uses bf16 on a GPU that supports it, torch.compile on a
GPU, channels last, fused Adam, averaged weights, and a dense block that stores its activations
once. The plain form (`plain_training.py`) is eager and float32, as in ESRGAN's published training.
Both have the same sizes, initial weights and batches, which are already on the device, so loading
is not measured. They take turns; the minimum over rounds counts. The first steps, in which losses
are compared, warm up and do not count; compilation is reported separately. VGG19's weights are
random, since their values do not affect the speed.

    python experiments/benchmarks/training.py [--device auto] [--small] [--steps 20] [--rounds 3]
        [--precision auto] [--no-compile] [--project 60000] [--json FILE]

Full size: RRDB of 23 blocks, batch 16, HR crops of 128, VGG19, patch discriminator; for a GPU.
`--small`: the sizes of the demo, for two cores. `--project N` prints the hours of a training of N
steps. Floating-point operations are those of the convolutions in one plain step. Peaks are the
dense bf16 and float32 values of the data sheets. `loss_difference` is the largest relative
difference of the generator's loss. `processor` is the CPU time over all threads, which is less
sensitive to other load. The last line is the speed-up.
"""

import copy
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import make_parser, report
from plain_training import PlainTraining
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from realsr.config.composition import extract_part, load_config
from realsr.core.devices import choose_device
from realsr.networks.patchgan import PatchGAN
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.plan import GPU_KINDS
from realsr.training.settings import TrainingConfig
from realsr.training.state import make_state
from realsr.training.step import Outcome, TrainStep

# Part of the GPU's name -> operations per second: half precision with float32 sums, dense; float32.
PEAKS = {kind.name: (1e12 * kind.half, 1e12 * kind.fp32) for kind in GPU_KINDS}
LOSS_STEPS = 5  # first steps, whose losses are compared
BATCHES = 4


@dataclass
class Form:
    """One form of the step: the function that takes a step, and its measurements."""

    step: Callable[[Tensor, Tensor], dict[str, Tensor]]
    seconds: list[float]
    processor: list[float]
    losses: list[dict[str, float]]
    start_seconds: float = 0
    peak_bytes: int | None = None


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="the demo's sizes, without VGG")
    parser.add_argument("--steps", type=int, default=20, help="measured in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--precision", default="auto", help="of the product: auto, bf16, fp16, tf32 or fp32"
    )
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument(
        "--project", type=int, metavar="N", help="print the hours of a training of N steps"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        vgg = None if options.small else write_vgg(Path(folder) / "vgg19.safetensors")
        config = make_config(
            options.small, vgg, options.precision, False if options.no_compile else None
        )
        results = compare(config, choose_device(options.device), options.steps, options.rounds)
    if options.project is not None:
        for name in ("plain", "ours"):
            results[f"{name}_hours_of_{options.project}_steps"] = round(
                results[f"{name}_seconds_a_step"] * options.project / 3600, 2
            )
    results["ratio"] = results.pop("ratio")
    report(results, options.json)


def make_config(
    small: bool, vgg: Path | None, precision: str, compiling: bool | None
) -> TrainingConfig:
    """Return the config of a training, at full size or the size of the demo."""
    recipe = load_config("train", track="df2k")
    return extract_part(
        recipe,
        TrainingConfig,
        generator={"name": "rrdb", "features": 32, "blocks": 2, "growth": 16}
        if small
        else {"name": "rrdb", "features": 64, "blocks": 23, "growth": 32},
        discriminator={"name": "patchgan", "features": 16, "layers": 2}
        if small
        else {"name": "patchgan", "features": 64, "layers": 3},
        loss={
            "pixel": {"name": "l1", "weight": 0.01},
            "perceptual": {
                "name": "perceptual",
                "weight": 0.0 if vgg is None else 1.0,
                "network": "vgg19",
                "weights": vgg,
            },
            "gan": {"name": "ragan", "weight": 0.005},
        },
        trainer=replace(
            recipe.trainer,
            batch=4 if small else 16,
            crop=64 if small else 128,
            precision=precision,
            compile=compiling,
        ),
    )


def compare(
    config: TrainingConfig, device: torch.device, steps: int, rounds: int
) -> dict[str, Any]:
    """Return all figures of both forms on a device."""
    batches = make_batches(config.trainer.batch, config.trainer.crop, device)
    forms: dict[str, Form] = {}

    parts = make_state(config, device)
    plain_start = copy.deepcopy((parts.generator.state_dict(), parts.discriminator.state_dict()))  # type: ignore[union-attr]
    # Each form is warmed up before the other is made, so that its peak memory is its own.
    forms["ours"] = warm_up(lambda: make_fast(config, parts, device), batches, device)
    forms["plain"] = warm_up(lambda: make_plain(config, plain_start, device), batches, device)
    for _ in range(rounds):
        for form in forms.values():
            synchronise(device)
            start, processor = time.perf_counter(), time.process_time()
            for number in range(steps):
                form.step(*batches[number % BATCHES])
            synchronise(device)
            form.seconds.append((time.perf_counter() - start) / steps)
            form.processor.append((time.process_time() - processor) / steps)
    operations = count_operations(config)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    peaks = next((peaks for part, peaks in PEAKS.items() if part in name), (None, None))
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "precision": str(parts.precision.half or ("tf32" if parts.precision.tf32 else "float32")),
        "batch": config.trainer.batch,
        "crop": config.trainer.crop,
        "steps": steps,
        "rounds": rounds,
        "tera_operations_a_step": operations / 1e12,
        **describe("plain", forms["plain"], config.trainer.batch, operations, peaks[1], "float32"),
        **describe("ours", forms["ours"], config.trainer.batch, operations, peaks[0], "bf16"),
        "plain_losses": [shorten(terms) for terms in forms["plain"].losses],
        "ours_losses": [shorten(terms) for terms in forms["ours"].losses],
        "loss_difference": max(
            abs(fast["generator"] / plain["generator"] - 1)
            for fast, plain in zip(forms["ours"].losses, forms["plain"].losses, strict=True)
        ),
        "processor_ratio": round(min(forms["plain"].processor) / min(forms["ours"].processor), 3),
        "ratio": round(min(forms["plain"].seconds) / min(forms["ours"].seconds), 3),
    }


def describe(
    name: str, form: Form, batch: int, operations: float, peak: float | None, numbers: str
) -> dict[str, Any]:
    """Return the figures of one form; the share of the peak is None if the peak is unknown."""
    seconds = min(form.seconds)
    return {
        f"{name}_start_seconds": round(form.start_seconds, 1),
        f"{name}_seconds_a_step": round(seconds, 5),
        f"{name}_seconds_of_rounds": [round(value, 5) for value in form.seconds],
        f"{name}_processor_seconds_a_step": round(min(form.processor), 5),
        f"{name}_steps_a_second": round(1 / seconds, 3),
        f"{name}_images_a_second": round(batch / seconds, 1),
        f"{name}_share_of_{numbers}_peak": None
        if peak is None
        else round(operations / seconds / peak, 4),
        f"{name}_peak_GB": None if form.peak_bytes is None else round(form.peak_bytes / 1e9, 2),
    }


def shorten(terms: dict[str, float]) -> dict[str, float]:
    """Return losses rounded for reading."""
    return {name: round(value, 6) for name, value in terms.items()}


def make_fast(config: TrainingConfig, parts: Any, device: torch.device) -> Callable[..., Outcome]:
    """Return the step of the training loop."""
    criterion = GeneratorLoss(config.loss).to(device)
    trainer, side = config.trainer, config.trainer.crop // config.scale
    step = TrainStep(parts, criterion, trainer, shape=(trainer.batch, 3, side, side))

    return lambda lr, hr: step(lr, hr, rate=config.optimiser.learning_rate, decay=0.999)


def read_losses(result: Outcome | dict[str, Tensor]) -> dict[str, float]:
    """Return the losses of a step of either form, from the device."""
    if isinstance(result, Outcome):
        result = {
            name.removeprefix("loss/"): value
            for name, value in zip(result.names, result.values, strict=True)
        }
    terms = ("pixel", "perceptual", "gan", "generator", "discriminator")
    return {name: float(result[name]) for name in terms if name in result}


def make_plain(
    config: TrainingConfig, start: tuple[dict[str, Tensor], dict[str, Tensor]], device: torch.device
) -> Callable[..., dict[str, Tensor]]:
    """Return the plain step, with the weights of generator and discriminator."""
    discriminator = PatchGAN(config.discriminator["features"], config.discriminator["layers"])
    plain = PlainTraining(
        config.generator, discriminator, config.loss, config.loss["perceptual"]["weights"], device
    )
    for net, state in zip((plain.generator, plain.discriminator), start, strict=True):
        net.load_state_dict(state)
        net.to(memory_format=torch.contiguous_format)
    return lambda lr, hr: plain.step(lr.contiguous(), hr.contiguous())


def warm_up(
    make: Callable[[], Callable[..., Any]],
    batches: list[tuple[Tensor, Tensor]],
    device: torch.device,
) -> Form:
    """Make a form and take its first steps; construction and the first step are the start."""
    on_gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if on_gpu else 0
    start = time.perf_counter()
    form = Form(make(), [], [], [])
    for number in range(LOSS_STEPS):
        if number == 1:
            synchronise(device)
            form.start_seconds = time.perf_counter() - start
            if on_gpu:  # without the memory of compilers and of the search for convolutions
                torch.cuda.reset_peak_memory_stats(device)
        form.losses.append(read_losses(form.step(*batches[number % BATCHES])))
    if on_gpu:
        form.peak_bytes = torch.cuda.max_memory_allocated(device) - before
    return form


def count_operations(config: TrainingConfig) -> float:
    """Return the operations of the convolutions in one plain step, forward and backward."""
    shape = (config.trainer.batch, 3, config.trainer.crop, config.trainer.crop)
    hr = torch.empty(shape, device="meta")
    lr = torch.empty(*shape[:2], *(side // config.scale for side in shape[2:]), device="meta")
    discriminator = PatchGAN(config.discriminator["features"], config.discriminator["layers"])
    plain = PlainTraining(
        config.generator, discriminator, config.loss, config.loss["perceptual"]["weights"], "meta"
    )
    with FlopCounterMode(display=False) as counter:
        plain.step(lr, hr)
    return counter.get_total_flops()


def make_batches(batch: int, crop: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return seeded batches of LR and HR: smooth random images with noise, averaged to LR."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(BATCHES):
        coarse = torch.rand(batch, 3, crop // 8, crop // 8, generator=generator)
        hr = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic")
        hr = (hr + 0.05 * torch.randn(hr.shape, generator=generator)).clamp(0, 1)
        lr = torch.nn.functional.avg_pool2d(hr, 4)
        batches.append(tuple(x.to(device).to(memory_format=torch.channels_last) for x in (lr, hr)))
    return batches


def write_vgg(path: Path) -> Path:
    """Write seeded random weights of VGG19's feature layers."""
    from torchvision.models.vgg import cfgs, make_layers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = make_layers(cfgs["E"])
        for parameter in layers.parameters():
            if parameter.ndim > 1:
                torch.nn.init.kaiming_normal_(parameter)
    save_file({f"features.{key}": value for key, value in layers.state_dict().items()}, path)
    return path


def synchronise(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
