"""Compare the memory that `realsr plan` expects with that of training steps on the CPU.

    python experiments/benchmarks/plan_memory.py [--json FILE]

For each setting, a new process builds the training (float32, one thread) and takes two steps. Its
memory is the peak of the process minus the memory after a tiny training, which loads all code
(120 MB in a trial) and is deleted. The expected memory is that of
`realsr.training.plan.count_step`, for which nothing is computed. The difference is what the plan
does not count: workspaces and reordered weights of oneDNN, and memory that the allocator retains.
`MALLOC_MMAP_THRESHOLD_` makes glibc return freed tensors to the system, since otherwise the peak
would include them. Linux only. The last line is the largest ratio of measured to expected memory.
"""

import gc
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import torch
from common import make_parser, report

from realsr.config.composition import extract_part, load_config
from realsr.core.machine import process_memory
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.loss_terms.classifier_weights import without_weights
from realsr.training.plan import count_step
from realsr.training.settings import TrainingConfig
from realsr.training.state import make_state
from realsr.training.step import TrainStep

TERMS = {
    "pixel": {"name": "l1", "weight": 0.01},
    "perceptual": {"name": "perceptual", "weight": 1.0, "network": "vgg19", "weights": None},
    "gan": {"name": "ragan", "weight": 0.005},
}
# Generator (features, blocks, growth), discriminator's features, terms, batch, crop, checkpointing
SETTINGS: dict[str, tuple[tuple[int, int, int], int, list[str], int, int, bool]] = {
    "demo": ((32, 2, 16), 16, ["pixel", "gan"], 4, 64, False),
    "batch 16": ((32, 2, 16), 16, ["pixel", "gan"], 16, 128, False),
    "64 features": ((64, 2, 32), 64, ["pixel", "gan"], 4, 128, False),
    "checkpointed": ((64, 4, 32), 64, ["pixel", "gan"], 4, 128, True),
    "VGG19": ((64, 2, 32), 64, ["pixel", "perceptual", "gan"], 2, 128, False),
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--setting", help="measure one setting in this process, print bytes")
    options = parser.parse_args()
    if options.setting is not None:
        print(json.dumps(measure(make_config(options.setting))))
        return
    results, ratios = dict[str, Any](), []
    for name in SETTINGS:
        plan = count_step(make_config(name), "fp32").memory
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--setting", name]
        output = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        )
        peak = json.loads(output.stdout.splitlines()[-1])
        ratios.append(peak / plan)
        results[name] = {
            "expected_MB": round(plan / 1e6, 1),
            "measured_MB": round(peak / 1e6, 1),
            "ratio": round(ratios[-1], 3),
        }
    results["ratio"] = round(max(ratios), 3)
    report(results, options.json)


def make_config(setting: str) -> TrainingConfig:
    (features, blocks, growth), width, terms, batch, crop, checkpointing = SETTINGS[setting]
    recipe = load_config("train", track="df2k")
    trainer = replace(
        recipe.trainer,
        batch=batch,
        crop=crop,
        precision="fp32",
        compile=False,
        device="cpu",
        checkpoint_activations=checkpointing,
    )
    return extract_part(
        recipe,
        TrainingConfig,
        generator={"name": "rrdb", "features": features, "blocks": blocks, "growth": growth},
        discriminator={"name": "patchgan", "features": width, "layers": 2},
        loss={name: TERMS[name] for name in terms},
        trainer=trainer,
    )


def measure(config: TrainingConfig) -> int:
    """Return the peak memory in bytes of a training, without the memory of code."""
    tiny = replace(config, generator=config.generator | {"features": 4, "blocks": 1, "growth": 4})
    train(replace(tiny, trainer=replace(config.trainer, batch=2, crop=32)))
    gc.collect()
    before = process_memory("VmRSS")
    train(config)
    peak = process_memory("VmHWM")
    assert before is not None
    assert peak is not None, "this system does not report the memory of a process"
    return peak - before


def train(config: TrainingConfig) -> None:
    """Build a training and take two steps."""
    with without_weights():
        criterion = GeneratorLoss(config.loss)
    state = make_state(config, torch.device("cpu"))
    trainer = config.trainer
    lr = torch.rand(trainer.batch, 3, trainer.crop // 4, trainer.crop // 4)
    hr = torch.rand(trainer.batch, 3, trainer.crop, trainer.crop)
    step = TrainStep(state, criterion, trainer, lr.shape)
    for _ in range(2):
        step(lr, hr, rate=1e-4, decay=0.999)


if __name__ == "__main__":
    main()
