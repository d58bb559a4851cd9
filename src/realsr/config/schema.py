"""The types of all keys: a dataclass for each command, without defaults, which are in conf/."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from realsr.config.pipeline import (
    CheckDataConfig,
    CollectNoiseConfig,
    Config,
    Damaged,
    EstimateKernelsConfig,
    MakePairsConfig,
    PlanConfig,
    RebuildPairConfig,
    Scale,
    Seed,
    Stage,
    SurveyNoiseConfig,
    TrainConfig,
    Workers,
    keep_apart,
)
from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range
from realsr.deployment.export_folder import Int8Config
from realsr.evaluation.protocol import Protocol

COMPONENTS = ("generator", "discriminator", "loss", "kernels", "online_degradation", "tracker")
"""Groups whose keys are the arguments of the component's constructor."""

Share = Annotated[float, Range(0, 1)]
Precision = Annotated[str, Choice("auto", "bf16", "fp16", "fp32")]


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
class _ModelKeys:
    """The keys of the commands that upscale images."""

    device: str
    precision: Precision
    tile: Annotated[int, Range(1)] | None
    allow_custom_code: bool
    damaged: Damaged


@dataclass
class EvaluateConfig(_ModelKeys):
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
    overwrite: bool

    option_dirs = tuple[Path, ...]()
    """Folders with the user's own metrics, set by the composition; not a key."""

    def __post_init__(self) -> None:
        """Raise UserError if `output` is a folder of images."""
        photos = {"data.hr": self.data.hr, "data.lr": self.data.lr}
        keep_apart("output", self.output, photos)


@dataclass
class UpscaleConfig(_ModelKeys):
    """The keys of `upscale`: photos, model and output."""

    input: list[Path]
    output: str
    weights: str
    weights_b: str | None
    interpolate: Share | None
    scale: Scale | None
    format: str | None
    overwrite: bool
    strength: Share
    ensemble: bool
    consistency: bool
    overlap: Annotated[int, Range(0)]


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
        keep_apart("output", self.output, photos)


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
        keep_apart("output", self.output, photos)


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
        keep_apart("output", self.output, {"a": self.a, "b": self.b})


@dataclass
class AppConfig(_ModelKeys):
    """The keys of `app`: address, models, limits, and how photos are upscaled and compared."""

    host: str
    port: Annotated[int, Range(0, 65535)]
    weights: list[str]
    pool_dir: Path | None
    max_megapixels: Annotated[float, Range(above=0)]
    max_megabytes: Annotated[float, Range(above=0)]
    max_photos: Annotated[int, Range(2)]
    strength: Share
    overlap: Annotated[int, Range(0)]
    regions: Annotated[int, Range(1)]
    seed: Seed
    workers: Workers


@dataclass
class FetchConfig:
    """The keys of `fetch`: groups or names of weights, and a folder to take them from."""

    what: list[str]
    folder: Path | None
    overwrite: bool


CONTINUES = "finished work is kept; repeat the command to continue"
KEEPS_PHOTOS = "finished photos are kept; the photo in work restarts when you repeat the command"
RESTARTS = "the same command restarts"


@dataclass(frozen=True)
class Command:
    """The configuration of a command: composed from conf/<file>.yaml, of which it uses `part`.

    photos: the key that receives the arguments without `key=`.
    after_interrupt: what Ctrl-C leaves, and what the same command then does.
    """

    part: type
    file: str = "config"
    photos: str | None = None
    after_interrupt: str = CONTINUES

    @property
    def schema(self) -> type:
        """The dataclass of all keys of the file."""
        return Config if issubclass(self.part, Stage) else self.part

    @property
    def keys_file(self) -> str:
        """The file with the keys: for the demo, whose own file only selects a track, `config`."""
        return "config" if self.schema is Config else self.file


COMMANDS = {
    "check_data": Command(CheckDataConfig, after_interrupt=RESTARTS),
    "estimate_kernels": Command(EstimateKernelsConfig),
    "collect_noise": Command(CollectNoiseConfig),
    "survey_noise": Command(SurveyNoiseConfig, after_interrupt=RESTARTS),
    "make_pairs": Command(MakePairsConfig),
    "rebuild_pair": Command(RebuildPairConfig, after_interrupt=RESTARTS),
    "plan": Command(PlanConfig, after_interrupt=RESTARTS),
    "train": Command(TrainConfig),
    "demo": Command(TrainConfig, "demo"),
    "adapt": Command(AdaptConfig, "adapt"),
    "evaluate": Command(EvaluateConfig, "evaluate", after_interrupt=RESTARTS),
    "upscale": Command(UpscaleConfig, "upscale", photos="input", after_interrupt=KEEPS_PHOTOS),
    "export": Command(ExportConfig, "export", after_interrupt=RESTARTS),
    "report": Command(ReportConfig, "report", after_interrupt=RESTARTS),
    "compare_domains": Command(CompareDomainsConfig, "compare_domains", after_interrupt=RESTARTS),
    "app": Command(AppConfig, "app", after_interrupt=RESTARTS),
    "fetch": Command(FetchConfig, "fetch"),
}
