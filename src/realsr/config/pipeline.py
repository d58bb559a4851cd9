"""The types of the keys of the pipeline: the commands from photos to an evaluated model.

A track overrides keys of several of these commands. Therefore one configuration, `Config`, is
composed for all, and each command uses a part of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range
from realsr.noise.noise_config import NoiseConfig
from realsr.pairs.pairs_config import PairsConfig
from realsr.pools.contents import PoolConfig
from realsr.training.settings import OptimiserConfig, TrainerConfig

KERNEL_SCALES = (1, 2, 3, 4, 8)

# accept: use the part of a damaged photo that can be decoded.
Damaged = Annotated[str, Choice("refuse", "accept")]
Scale = Annotated[int, Range(1, 64)]
Seed = Annotated[int, Range(0)]
Workers = Annotated[int, Range(0)] | None


def keep_apart(key: str, output: Path | None, photos: dict[str, Path | None]) -> None:
    """Raise UserError if `output`, the value of `key`, is one of the photo folders (by key)."""
    for role, folder in photos.items():
        if output is not None and folder is not None and output.resolve() == folder.resolve():
            folder_key = "output" if key == "output" else "work_dir"
            raise UserError(
                f"{role} and {key} are the same folder, {folder}: choose another {folder_key}"
            )


@dataclass
class ExpectedFolder:
    """The reference data of a track for one folder: number of photos and data set."""

    photos: Annotated[int, Range(0)] | None
    origin: str


@dataclass
class SourceData:
    """The folder of source photos."""

    source: Path | None


@dataclass
class PhotoData(SourceData):
    """The folders of photos from which pairs are made."""

    target: Path | None


@dataclass
class Data(PhotoData):
    """All data folders.

    `lr_name` is a template of LR file names, for pairs and validation images made elsewhere.
    `held_out` is the fraction of pairs held out for validation if `validation` is null.
    """

    validation: Path | None
    lr_name: str | None
    held_out: Annotated[float, Range(0, below=1)]
    expected: dict[str, ExpectedFolder]


@dataclass
class Stage:
    """The keys of every command of the pipeline."""

    track: str
    work_dir: Path
    damaged: Damaged
    data: Any

    def __post_init__(self) -> None:
        """Raise UserError if an output folder is a folder of photos."""
        photos = {f"data.{role}": getattr(self.data, role, None) for role in ("source", "target")}
        for name in ("work_dir", "pool_dir", "noise_pool_dir", "pairs_dir", "run"):
            keep_apart(name, getattr(self, name, None), photos)


@dataclass
class _SeededStage(Stage):
    """The keys of the commands with random results."""

    scale: Scale
    seed: Seed
    overwrite: bool
    workers: Workers
    pool_dir: Path


@dataclass
class CheckDataConfig(Stage):
    """The keys of `check_data`."""

    data: Data
    scale: Scale
    init: str | None
    pool: PoolConfig
    noise: NoiseConfig
    pairs: PairsConfig
    loss: dict[str, Any]


@dataclass
class EstimateKernelsConfig(_SeededStage):
    """The keys of `estimate_kernels`."""

    data: SourceData
    shard: Annotated[int, Range(0)] | None
    shards: Annotated[int, Range(1)] | None
    kernels: dict[str, Any]
    pool: PoolConfig


@dataclass
class SurveyNoiseConfig(Stage):
    """The keys of `survey_noise`."""

    data: SourceData
    workers: Workers
    pool_dir: Path  # the default of noise_pool_dir
    noise_pool_dir: Path
    noise: NoiseConfig


@dataclass
class CollectNoiseConfig(SurveyNoiseConfig):
    """The keys of `collect_noise`."""

    overwrite: bool
    online_degradation: dict[str, Any]


@dataclass
class MakePairsConfig(_SeededStage):
    """The keys of `make_pairs`."""

    data: PhotoData
    pairs_dir: Path
    pool: PoolConfig
    pairs: PairsConfig
    compare: bool


@dataclass
class RebuildPairConfig(Stage):
    """The keys of `rebuild_pair`; `pair` is the name of the pair to rebuild."""

    data: PhotoData
    pair: str
    pool_dir: Path
    pairs_dir: Path


@dataclass
class TrainConfig(_SeededStage):
    """The keys of `train`: all stages from photos to an evaluated model.

    `from_run` is a run to repeat with another work_dir, see `run_config.register_rerun`.
    """

    from_run: Path | None
    data: Data
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
    tracker: dict[str, Any]

    def __post_init__(self) -> None:
        """Raise UserError as `Stage` does, and for a scale without kernels or generator."""
        super().__post_init__()
        if self.scale in KERNEL_SCALES:
            return
        if self.generator.get("name") == "rrdb":
            raise UserError(
                f"scale={self.scale}: expected 1, 2, 3, 4 or 8; other scales need a generator of "
                "spandrel (generator=spandrel) or a custom generator (generator.name=module.Class)"
            )
        if self.pool.kernels == "estimated":
            raise UserError(
                f"scale={self.scale}: pool.kernels={self.pool.kernels} supports scales 1, 2, "
                "3, 4 and 8: set one of these, pool=bicubic or pool=from_mat"
            )


@dataclass
class PlanConfig(TrainConfig):
    """The keys of `plan`: those of a training, and of the estimate of its cost.

    rate: images per second. utilisation: fraction of a GPU's peak rate.
    """

    rate: Annotated[float, Range(above=0)] | None
    utilisation: Annotated[float, Range(above=0, maximum=1)]
    output: Path | None


@dataclass
class Config(PlanConfig):
    """All keys of the pipeline's commands."""

    shard: Annotated[int, Range(0)] | None
    shards: Annotated[int, Range(1)] | None
    pair: str | None
    compare: bool
