"""The types of all keys: a dataclass for each command, without defaults.

Default values and comments are in conf/. A track overrides keys of several commands. Therefore one
configuration, `Config`, is composed for all stages, and each command uses a part of it.
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

KERNEL_SCALES = (1, 2, 3, 4, 8)
COMPONENTS = ("generator", "discriminator", "loss", "kernels", "online_degradation", "tracker")
"""Groups whose keys are the arguments of the component's constructor."""

# accept: use the part of a damaged photo that can be decoded.
Damaged = Annotated[str, Choice("refuse", "accept")]
Scale = Annotated[int, Range(1, 64)]
Share = Annotated[float, Range(0, 1)]
Seed = Annotated[int, Range(0)]
Workers = Annotated[int, Range(0)] | None
Precision = Annotated[str, Choice("auto", "bf16", "fp16", "fp32")]


def _keep_apart(key: str, output: Path | None, photos: dict[str, Path | None], choose: str) -> None:
    """Raise UserError if `output`, the value of `key`, is one of the photo folders (by key)."""
    for role, folder in photos.items():
        if output is not None and folder is not None and output.resolve() == folder.resolve():
            raise UserError(
                f"{role} and {key} are the same folder, {folder}: choose another {choose}"
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
class _Stage:
    """The keys of every command of the pipeline."""

    track: str
    work_dir: Path
    damaged: Damaged
    data: Any

    def __post_init__(self) -> None:
        """Raise UserError if an output folder is a folder of photos."""
        photos = {f"data.{role}": getattr(self.data, role, None) for role in ("source", "target")}
        for name in ("work_dir", "pool_dir", "noise_pool_dir", "pairs_dir", "run"):
            _keep_apart(name, getattr(self, name, None), photos, choose="work_dir")


@dataclass
class CheckDataConfig(_Stage):
    """The keys of `check_data`."""

    data: Data
    scale: Scale
    init: str | None
    pool: PoolConfig
    noise: NoiseConfig
    pairs: PairsConfig
    loss: dict[str, Any]


@dataclass
class EstimateKernelsConfig(_Stage):
    """The keys of `estimate_kernels`."""

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
class MakePairsConfig(_Stage):
    """The keys of `make_pairs`."""

    data: PhotoData
    scale: Scale
    seed: Seed
    overwrite: bool
    workers: Workers
    pool_dir: Path
    pairs_dir: Path
    pool: PoolConfig
    pairs: PairsConfig
    compare: bool


@dataclass
class RebuildPairConfig(_Stage):
    """The keys of `rebuild_pair`; `pair` is the name of the pair to rebuild."""

    data: PhotoData
    pair: str
    pool_dir: Path
    pairs_dir: Path


@dataclass
class TrainConfig(_Stage):
    """The keys of `train`: all stages from photos to an evaluated model.

    `from_run` is a run to repeat with another work_dir, see `run_config.register_rerun`.
    """

    from_run: Path | None
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
    tracker: dict[str, Any]

    def __post_init__(self) -> None:
        """Raise UserError as `_Stage` does, and for a scale without kernels or generator."""
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


@dataclass
class EvaluationData:
    """Folders of HR and LR images, matched by name or by `lr_name`, a template of LR file names.

    If `lr` is null, LR images are made from HR. If `hr` is null, only metrics that need no HR are
    computed.
    """

    hr: Path | None
    lr: Path | None
    lr_name: str | None


@dataclass
class EvaluateConfig:
    """The keys of `evaluate`: models, images and protocol."""

    weights: list[str]
    strengths: Annotated[list[float], Range(0, 1)]
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
        """Raise UserError if `output` is a folder of images."""
        _keep_apart(
            "output",
            self.output,
            {"data.hr": self.data.hr, "data.lr": self.data.lr},
            choose="output",
        )


@dataclass
class UpscaleConfig:
    """The keys of `upscale`: photos, model and output."""

    input: list[Path]
    output: str
    weights: str
    weights_b: str | None
    interpolate: Share | None
    scale: Scale | None
    format: str | None
    overwrite: bool
    precision: Precision
    strength: Share
    ensemble: bool
    consistency: bool
    tile: Annotated[int, Range(1)] | None
    overlap: Annotated[int, Range(0)]
    device: str
    allow_custom_code: bool
    damaged: Damaged


@dataclass
class ExportData:
    """The folder of clean photos on which exported files are evaluated; None: scikit-image's."""

    hr: Path | None


@dataclass
class ExportConfig:
    """The keys of `export`: weights, and an output file or an output folder with formats."""

    weights: str
    weights_b: str | None
    interpolate: Share | None
    licence: str | None
    output: Path
    formats: list[str] | None
    push_to: str | None
    int8: Int8Config
    data: ExportData
    allow_custom_code: bool
    overwrite: bool
    damaged: Damaged

    def __post_init__(self) -> None:
        """Raise UserError if `output` is a folder of photos."""
        photos = {"int8.photos": self.int8.photos, "data.hr": self.data.hr}
        _keep_apart("output", self.output, photos, choose="output")


@dataclass
class AdaptConfig:
    """The keys of `adapt`: photos, time and output."""

    source: Path
    target: Path | None
    output: Path
    minutes: Annotated[float, Range(above=0)]
    steps: Annotated[int, Range(1)] | None
    weights: str
    lpips_weights: Path | None
    device: str
    seed: Seed
    overwrite: bool

    def __post_init__(self) -> None:
        """Raise UserError if `output` is a folder of photos."""
        photos = {"source": self.source, "target": self.target}
        _keep_apart("output", self.output, photos, choose="output")


@dataclass
class ReportConfig:
    """The keys of `report`: the folder to show, another pool to compare with, and the page."""

    run: Path | None
    sweep: Path | None
    pool_dir: Path | None
    evaluation: Path | None
    compare: Path | None
    output: Path | None

    def __post_init__(self) -> None:
        """Raise UserError unless there is one folder to show, and if `output` is not HTML."""
        keys = "run=DIR, sweep=DIR, pool_dir=DIR or evaluation=DIR"
        if len(self.folders) != 1:
            values = " ".join(f"{key}={folder}" for key, folder in self.folders.items())
            raise UserError(f"{values or 'nothing to show'}: set one of {keys}")
        if self.compare is not None and self.pool_dir is None:
            raise UserError(f"compare={self.compare}: compares two pools: set pool_dir=DIR")
        if self.output is not None and self.output.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"output={self.output}: expected a file FILE.html")

    @property
    def folders(self) -> dict[str, Path]:
        """The folder to show by its key."""
        values = {key: getattr(self, key) for key in ("run", "sweep", "pool_dir", "evaluation")}
        return {key: folder for key, folder in values.items() if folder is not None}


@dataclass
class CompareDomainsConfig:
    """The keys of `compare_domains`: two folders of images, and what is added to the second."""

    a: Path
    b: Path
    output: Path | None
    online_degradation: dict[str, Any]
    noise_pool_dir: Path | None
    regions: Annotated[int, Range(1)]
    seed: Seed
    workers: Workers
    damaged: Damaged

    def __post_init__(self) -> None:
        """Raise UserError if `output` is one of the folders."""
        _keep_apart("output", self.output, {"a": self.a, "b": self.b}, choose="output")


@dataclass
class AppConfig:
    """The keys of `app`: address, models, limits, and how photos are upscaled and compared."""

    host: str
    port: Annotated[int, Range(0, 65535)]
    weights: list[str]
    pool_dir: Path | None
    max_megapixels: Annotated[float, Range(above=0)]
    max_megabytes: Annotated[float, Range(above=0)]
    max_photos: Annotated[int, Range(2)]
    precision: Precision
    strength: Share
    tile: Annotated[int, Range(1)] | None
    overlap: Annotated[int, Range(0)]
    device: str
    regions: Annotated[int, Range(1)]
    seed: Seed
    workers: Workers
    damaged: Damaged
    allow_custom_code: bool


@dataclass
class FetchConfig:
    """The keys of `fetch`: groups or names of weights, and a folder to take them from."""

    what: list[str]
    folder: Path | None
    overwrite: bool


@dataclass(frozen=True)
class Command:
    """The configuration of a command.

    It is composed from conf/<file>.yaml with the keys of `schema`; the command uses those of `part`.

    photos: the key that receives the arguments without `key=`.
    resumable: whether the same command continues after Ctrl-C.
    """

    part: type
    file: str = "config"
    schema: type = Config
    photos: str | None = None
    resumable: bool = True


COMMANDS = {
    "check_data": Command(CheckDataConfig),
    "estimate_kernels": Command(EstimateKernelsConfig),
    "collect_noise": Command(CollectNoiseConfig),
    "survey_noise": Command(SurveyNoiseConfig),
    "make_pairs": Command(MakePairsConfig),
    "rebuild_pair": Command(RebuildPairConfig),
    "plan": Command(PlanConfig, resumable=False),
    "train": Command(TrainConfig),
    "demo": Command(TrainConfig, "demo"),
    "adapt": Command(AdaptConfig, "adapt", AdaptConfig),
    "evaluate": Command(EvaluateConfig, "evaluate", EvaluateConfig, resumable=False),
    "upscale": Command(UpscaleConfig, "upscale", UpscaleConfig, photos="input"),
    "export": Command(ExportConfig, "export", ExportConfig, resumable=False),
    "report": Command(ReportConfig, "report", ReportConfig),
    "compare_domains": Command(CompareDomainsConfig, "compare_domains", CompareDomainsConfig),
    "app": Command(AppConfig, "app", AppConfig),
    "fetch": Command(FetchConfig, "fetch", FetchConfig),
}
