"""The types of all keys: a small dataclass for each command, without defaults. Values and comments are in conf/.

What a track overrides belongs to several commands, so one configuration, `Config`, is composed for all stages, and each
command takes its own part of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range
from realsr.deployment.export_options import Int8Config
from realsr.evaluation.protocol import Protocol
from realsr.noise.noise_config import NoiseConfig
from realsr.pairs.pairs_config import PairsConfig
from realsr.pools.contents import PoolConfig
from realsr.training.settings import OptimiserConfig, TrainerConfig

KERNEL_SCALES = (2, 4)
COMPONENTS = ("generator", "discriminator", "loss", "kernels", "online_degradation")
"""Groups whose keys are those of the chosen component's constructor."""

Damaged = Annotated[
    str, Choice("refuse", "accept")
]  # accept: what can be decoded of damaged photos is used
Scale = Annotated[int, Range(1, 64)]
Seed = Annotated[int, Range(0)]
Workers = Annotated[int, Range(0)] | None
Precision = Annotated[str, Choice("auto", "bf16", "fp16", "fp32")]


def _keep_apart(key: str, output: Path | None, photos: dict[str, Path | None], choose: str) -> None:
    """Raise UserError where an output, the value of `key`, is one of the folders of photos, each by its key."""
    for role, folder in photos.items():
        if output is not None and folder is not None and output.resolve() == folder.resolve():
            raise UserError(
                f"{role} and {key} are the same folder, {folder}: choose another {choose}"
            )


@dataclass
class ExpectedFolder:
    """What a track expects in a folder of photos."""

    photos: Annotated[int, Range(0)] | None
    origin: str


@dataclass
class SourceData:
    """The folder of source photos."""

    source: Path | None


@dataclass
class PhotoData(SourceData):
    """The folders of photos that pairs are made of."""

    target: Path | None


@dataclass
class Data(PhotoData):
    """All folders; `lr_name` is a template of LR's names, for pairs and validation images made elsewhere.

    `held_out` is the part of pairs kept for validation where no folder is given.
    """

    validation: Path | None
    lr_name: str | None
    held_out: Annotated[float, Range(0, below=1)]
    expected: dict[str, ExpectedFolder]


@dataclass
class _Stage:
    """What every command of the pipeline knows."""

    track: str
    work_dir: Path
    damaged: Damaged
    data: Any

    def __post_init__(self) -> None:
        """Raise UserError where photos would be mixed with what is made of them, or for a scale without kernels."""
        photos = {f"data.{role}": getattr(self.data, role, None) for role in ("source", "target")}
        for name in ("work_dir", "pool_dir", "noise_pool_dir", "pairs_dir", "run"):
            _keep_apart(name, getattr(self, name, None), photos, choose="work_dir")


@dataclass
class CheckDataConfig(_Stage):
    """Which folders a track needs."""

    data: Data
    init: str | None
    pool: PoolConfig
    pairs: PairsConfig
    loss: dict[str, Any]


@dataclass
class EstimateKernelsConfig(_Stage):
    """Which kernels go into the pool."""

    data: SourceData
    scale: Scale
    seed: Seed
    overwrite: bool
    workers: Workers
    pool_dir: Path
    shard: Annotated[int, Range(0)] | None
    shards: Annotated[int, Range(1)] | None
    kernels: dict[str, Any]
    pool: PoolConfig


@dataclass
class SurveyNoiseConfig(_Stage):
    """Which noise there is to collect."""

    data: SourceData
    workers: Workers
    pool_dir: Path  # noise_pool_dir is this one where it is not set
    noise_pool_dir: Path
    noise: NoiseConfig


@dataclass
class CollectNoiseConfig(SurveyNoiseConfig):
    """Which noise patches go into the pool."""

    overwrite: bool


@dataclass
class MakePairsConfig(_Stage):
    """How LR and HR are made."""

    data: PhotoData
    scale: Scale
    seed: Seed
    overwrite: bool
    workers: Workers
    pool_dir: Path
    pairs_dir: Path
    pool: PoolConfig
    pairs: PairsConfig


@dataclass
class RebuildPairConfig(_Stage):
    """Which pair's LR is made again from the manifest."""

    data: PhotoData
    pair: str
    pool_dir: Path
    pairs_dir: Path


@dataclass
class TrainConfig(_Stage):
    """All stages from photos to an evaluated model."""

    data: Data
    scale: Scale
    seed: Seed
    overwrite: bool
    workers: Workers
    pool_dir: Path
    noise_pool_dir: Path
    pairs_dir: Path
    cache_dir: Path
    run: Path
    init: str | None
    kernels: dict[str, Any]
    noise: NoiseConfig
    pool: PoolConfig
    pairs: PairsConfig
    online_degradation: dict[str, Any]
    generator: dict[str, Any]
    discriminator: dict[str, Any]
    loss: dict[str, Any]
    optimiser: OptimiserConfig
    trainer: TrainerConfig

    def __post_init__(self) -> None:
        """Raise UserError as all stages do, and for a scale that kernels or generator do not have."""
        super().__post_init__()
        if self.scale in KERNEL_SCALES:
            return
        if self.generator.get("name") == "rrdb":
            raise UserError(
                f"scale={self.scale}: expected 2 or 4; only generators of spandrel (generator=spandrel) "
                "and of your own (generator.name=module.Class) have other scales"
            )
        if self.pool.kernels == "estimated":
            raise UserError(
                f"scale={self.scale}: pool.kernels={self.pool.kernels} are for scale 2 and 4: set scale=2, scale=4, "
                "pool=bicubic or pool=from_mat"
            )


@dataclass
class Config(TrainConfig):
    """All keys of the pipeline's commands."""

    shard: Annotated[int, Range(0)] | None
    shards: Annotated[int, Range(1)] | None
    pair: str | None


@dataclass
class EvaluationData:
    """Folders of HR and LR images, matched by name or by `lr_name`, a template of LR's names.

    Without `lr` it is made of HR, without `hr` photos are judged.
    """

    hr: Path | None
    lr: Path | None
    lr_name: str | None


@dataclass
class EvaluateConfig:
    """Which models to compare on which images, by which protocol."""

    weights: list[str]
    data: EvaluationData
    protocol: Protocol
    metric_files: dict[str, Path | None]
    scale: Scale
    output: Path | None
    save_images: bool
    figures: list[str]
    device: str
    precision: Precision
    tile: Annotated[int, Range(1)] | None
    allow_custom_code: bool
    overwrite: bool
    damaged: Damaged

    def __post_init__(self) -> None:
        """Raise UserError where results would be written among the images."""
        _keep_apart(
            "output",
            self.output,
            {"data.hr": self.data.hr, "data.lr": self.data.lr},
            choose="output",
        )


@dataclass
class UpscaleConfig:
    """Which photos to upscale, by which model, and where to write the results."""

    input: list[Path]
    output: str
    weights: str
    scale: Scale | None
    format: str | None
    overwrite: bool
    precision: Precision
    ensemble: bool
    consistency: bool
    tile: Annotated[int, Range(1)] | None
    overlap: Annotated[int, Range(0)]
    device: str
    allow_custom_code: bool
    damaged: Damaged


@dataclass
class ExportData:
    """Clean photos that exported files are judged by; None: scikit-image's."""

    hr: Path | None


@dataclass
class ExportConfig:
    """Which weights to write to which file, or to a folder in which formats."""

    weights: str
    output: Path
    formats: list[str] | None
    int8: Int8Config
    data: ExportData
    allow_custom_code: bool
    overwrite: bool
    damaged: Damaged

    def __post_init__(self) -> None:
        """Raise UserError where networks would be written among photos."""
        photos = {"int8.photos": self.int8.photos, "data.hr": self.data.hr}
        _keep_apart("output", self.output, photos, choose="output")


@dataclass
class PoolReportConfig:
    """Which pool to report on, and which other to compare it with."""

    pool_dir: Path
    compare: Path | None
    output: Path | None


@dataclass(frozen=True)
class Command:
    """The keys that a command takes, of all those of the configuration in conf/<file>.yaml that it is composed of.

    photos: the key that takes arguments without `key=`. resumable: whether the same command goes on after Ctrl-C.
    """

    part: type
    file: str = "config"
    whole: type = Config
    photos: str | None = None
    resumable: bool = True


COMMANDS = {
    "check_data": Command(CheckDataConfig),
    "estimate_kernels": Command(EstimateKernelsConfig),
    "collect_noise": Command(CollectNoiseConfig),
    "survey_noise": Command(SurveyNoiseConfig),
    "make_pairs": Command(MakePairsConfig),
    "rebuild_pair": Command(RebuildPairConfig),
    "train": Command(TrainConfig),
    "demo": Command(TrainConfig, "demo"),
    "evaluate": Command(EvaluateConfig, "evaluate", EvaluateConfig, resumable=False),
    "upscale": Command(UpscaleConfig, "upscale", UpscaleConfig, photos="input"),
    "export": Command(ExportConfig, "export", ExportConfig, resumable=False),
    "pool": Command(PoolReportConfig, "pool_report", PoolReportConfig),
}
