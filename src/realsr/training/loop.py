"""The training of a generator against a discriminator on pairs."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from realsr.data.cache import decode_pairs
from realsr.data.dataset import CropDataset
from realsr.data.loading import load_batches
from realsr.data.look import Look, unpack
from realsr.data.pairs import Pair, keep_large
from realsr.data.validation import ValidationImage
from realsr.errors import UserError
from realsr.imaging import write_bytes
from realsr.networks import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from realsr.progress import Progress
from realsr.seeding import derive_seed
from realsr.training.checkpoints import load_newest, save_checkpoint
from realsr.training.checks import check_settings
from realsr.training.config import OptimiserConfig, TrainerConfig
from realsr.training.losses import (
    LossConfig,
    PerceptualLoss,
    discriminator_ragan_loss,
    generator_ragan_loss,
    pixel_loss,
)
from realsr.training.validation import validate
from realsr.weights import load_generator_state, save_generator

logger = logging.getLogger("realsr")


@dataclass
class TrainingConfig:
    """All that a training is made of, beside its data."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    loss: LossConfig
    optimiser: OptimiserConfig
    trainer: TrainerConfig
    scale: int = 4
    seed: int = 0
    init: str | None = None


def train(
    pairs: Sequence[Pair],
    look: Look,
    validation: Sequence[ValidationImage],
    run: Path,
    config: TrainingConfig,
) -> Path:
    """Train a generator and return the file of its weights, `run/generator.safetensors`.

    The folder `run` gets checkpoints, TensorBoard's records and metrics.jsonl. Where it has a checkpoint, training
    goes on from there; sample n is the same in any case. Raises UserError for data or settings that cannot be
    trained on, WeightsError where VGG19's weights are missing.
    """
    trainer, scale = config.trainer, config.scale
    device = choose_device(trainer.device)
    check_settings(config.generator, config.discriminator, config.loss, trainer, scale)

    # Networks and optimisers.
    torch.manual_seed(derive_seed(config.seed, "networks"))
    # Channels last is the layout that convolutions are fastest in, on GPUs and on CPUs.
    layout = torch.channels_last
    generator = build_generator(config.generator, scale).to(device).to(memory_format=layout)
    discriminator = build_discriminator(config.discriminator).to(device).to(memory_format=layout)
    criterion = GeneratorLoss(config.loss).to(device)
    optimisers = [make_adam(net, config.optimiser) for net in (generator, discriminator)]
    schedules = [
        torch.optim.lr_scheduler.MultiStepLR(o, config.optimiser.milestones, gamma=config.optimiser.decay)
        for o in optimisers
    ]
    parts: dict[str, Any] = {
        "generator": generator,
        "discriminator": discriminator,
        "generator_optimiser": optimisers[0],
        "discriminator_optimiser": optimisers[1],
        "generator_schedule": schedules[0],
        "discriminator_schedule": schedules[1],
    }

    # Where to begin.
    start = _restore(parts, run)
    if start == 0 and config.init is not None:
        load_generator_state(generator, config.init)
    elif start == 0:
        logger.info("training starts from scratch; init=FILE would start from a PSNR-trained generator")

    _forget_later(run / "metrics.jsonl", start)

    # Data.
    images = decode_pairs(keep_large(list(pairs), trainer.crop))
    dataset = CropDataset(images, trainer.batch, trainer.crop, scale, look, config.seed)
    batches = load_batches(dataset, start, trainer.max_steps, trainer.workers, pinned=device.type == "cuda")

    writer = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)
    with Progress("training", total=trainer.max_steps, done=start) as progress, writer:
        for step, batch in enumerate(batches, start + 1):
            lr, hr = unpack({key: value.to(device, non_blocking=True) for key, value in batch.items()})
            terms = training_step(generator, discriminator, criterion, optimisers, lr, hr)
            _check_finite(terms, step)
            for schedule in schedules if config.loss.gan > 0 else schedules[:1]:
                schedule.step()

            # What is seen of it.
            last = step == trainer.max_steps
            if step % trainer.log_every == 0 or last or step == start + 1:
                _log_terms(writer, terms, float(schedules[0].get_last_lr()[0]), step)
            if validation and (step % trainer.validate_every == 0 or last):
                _log_validation(writer, generator, validation, scale, run, step)
            if step % trainer.checkpoint_every == 0 or last:
                state = {name: part.state_dict() for name, part in parts.items()}
                save_checkpoint(run / "checkpoints", step, state, trainer.keep_checkpoints)
            progress.advance(note=f"loss {float(terms['generator']):.4f}")

    weights = run / "generator.safetensors"
    save_generator(weights, generator, config.generator, scale)
    return weights


def training_step(
    generator: nn.Module,
    discriminator: nn.Module,
    criterion: "GeneratorLoss",
    optimisers: Sequence[torch.optim.Optimizer],
    lr: Tensor,
    hr: Tensor,
) -> dict[str, Tensor]:
    """Step the generator, then the discriminator, on one batch; return the terms of the losses."""
    adversarial = criterion.config.gan > 0
    # D is the same in both steps, so its verdict on HR is computed once and used in both.
    real_logits = discriminator(hr) if adversarial else None

    discriminator.requires_grad_(False)
    sr = generator(lr)
    fake_logits = discriminator(sr) if adversarial else None
    terms = criterion(sr, hr, real_logits, fake_logits)
    _step(optimisers[0], terms["generator"])
    terms["generator"] = terms["generator"].detach()
    discriminator.requires_grad_(True)

    if real_logits is not None:
        fake_logits = discriminator(sr.detach())
        loss = discriminator_ragan_loss(real_logits, fake_logits)
        _step(optimisers[1], loss)
        terms |= {
            "discriminator": loss.detach(),
            "D(real)": real_logits.detach().mean(),
            "D(fake)": fake_logits.detach().mean(),
        }
    return terms


class GeneratorLoss(nn.Module):
    """The generator's loss: weighted pixel, perceptual and relativistic GAN terms; weight 0 leaves a term out."""

    def __init__(self, config: LossConfig):
        super().__init__()
        self.config = config
        self.perceptual = PerceptualLoss(config.perceptual.weights) if config.perceptual.weight > 0 else None

    def forward(
        self, sr: Tensor, hr: Tensor, real_logits: Tensor | None, fake_logits: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the terms, unweighted and detached, and their weighted sum `generator`."""
        weighted = {"pixel": (self.config.pixel, pixel_loss(sr, hr))}
        if self.perceptual is not None:
            weighted["perceptual"] = (self.config.perceptual.weight, self.perceptual(sr, hr))
        if real_logits is not None and fake_logits is not None:
            weighted["gan"] = (self.config.gan, generator_ragan_loss(real_logits.detach(), fake_logits))
        total = torch.stack([weight * term for weight, term in weighted.values()]).sum()
        return {name: term.detach() for name, (_, term) in weighted.items()} | {"generator": total}


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the GPU where there is one. Raises UserError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device={name} cannot be used ({reason}): say auto, cpu or cuda") from error
    return device


def make_adam(net: nn.Module, config: OptimiserConfig) -> torch.optim.Adam:
    """Return Adam over a network's parameters."""
    return torch.optim.Adam(net.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2))


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def _restore(parts: Mapping[str, Any], run: Path) -> int:
    state = load_newest(run / "checkpoints")
    if state is None:
        return 0
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{run / 'checkpoints'}: the newest checkpoint is of another training ({reason})") from error
    logger.info("training goes on after step %d", state["step"])
    return state["step"]


def _forget_later(metrics: Path, start: int) -> None:
    """Take back the lines after the checkpoint, which will be written again, and one that a kill has torn."""
    if metrics.is_file():
        lines = [line for line in metrics.read_text().splitlines(keepends=True) if line.endswith("}\n")]
        write_bytes(metrics, "".join(line for line in lines if json.loads(line)["step"] <= start).encode())


def _check_finite(terms: Mapping[str, Tensor], step: int) -> None:
    # At each step, so that no checkpoint is ever written of networks that are lost.
    for name, value in terms.items():
        if not math.isfinite(value):
            raise UserError(
                f"step {step}: the loss term `{name}` is {float(value)}; the last checkpoint is kept. Begin anew with "
                "a lower optimiser.learning_rate and overwrite=true, or in another run=FOLDER"
            )


def _log_terms(writer: SummaryWriter, terms: Mapping[str, Tensor], learning_rate: float, step: int) -> None:
    for name, value in terms.items():
        writer.add_scalar(f"loss/{name}", float(value), step)
    writer.add_scalar("learning_rate", learning_rate, step)


def _log_validation(
    writer: SummaryWriter,
    generator: nn.Module,
    images: Sequence[ValidationImage],
    scale: int,
    run: Path,
    step: int,
) -> None:
    result = validate(generator, images, scale)
    writer.add_scalar("validation/psnr", result.psnr, step)
    writer.add_scalar("validation/ssim", result.ssim, step)
    for image, strip in zip(images, result.strips, strict=False):
        writer.add_image(f"LR, bicubic, SR, HR/{image.name}", strip, step)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "psnr": result.psnr, "ssim": result.ssim}) + "\n")
    logger.info("step %d: validation PSNR %.2f dB, SSIM %.4f", step, result.psnr, result.ssim)
