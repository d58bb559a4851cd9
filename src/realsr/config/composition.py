"""The configuration's schema, and how a command's main is made.

Only this module, options.py and the commands know Hydra and OmegaConf. conf/ holds values and comments, the
dataclasses here and in the stages refuse unknown and ill-typed keys.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import hydra
import yaml  # type: ignore[import-untyped]
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from realsr.config.command_line import localize_paths, quote_arguments, read_paths_as_text, sweep_into_temporary
from realsr.config.messages import CONFIG_ERRORS, explain
from realsr.config.options import choices, conf_dir
from realsr.core.errors import Interrupted, UserError
from realsr.core.file_names import printable
from realsr.core.precision import PRECISIONS
from realsr.core.ranges import Choice, Range, check_ranges
from realsr.data.online_degradation import LookConfig
from realsr.deployment.formats import Int8Config
from realsr.evaluation.metric_files import MetricFiles
from realsr.evaluation.protocol import Protocol
from realsr.imaging import ImageError
from realsr.inference.plan import OVERLAP
from realsr.kernels.estimation_config import KernelsConfig
from realsr.networks.torchvision_weights import WeightsError
from realsr.noise.tiles import NoiseConfig
from realsr.pairs.synthesis import PairsConfig
from realsr.pools.contents import PoolConfig
from realsr.training.settings import OptimiserConfig, TrainerConfig

logger = logging.getLogger("realsr")
# Otherwise a path is written as a Python object, by --cfg job and in a run's config.yaml.
yaml.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))


@dataclass
class ExpectedFolder:
    """What a track expects in a folder of photos."""

    photos: Annotated[int, Range(0)] | None = None
    origin: str = ""


@dataclass
class DataConfig:
    """Folders of photos; `lr_name` is a template of LR's names, for pairs and validation images made elsewhere.

    `held_out` is the part of pairs kept for validation where no folder is given.
    """

    source: Path | None = None
    target: Path | None = None
    validation: Path | None = None
    lr_name: str | None = None
    held_out: Annotated[float, Range(0, below=1)] = 0.1
    expected: dict[str, ExpectedFolder] = field(default_factory=dict)


Damaged = Annotated[str, Choice("refuse", "accept")]  # accept: what can be decoded of damaged photos is used


def _keep_apart(key: str, output: Path | None, photos: dict[str, Path | None], choose: str) -> None:
    """Raise UserError where an output, the value of `key`, is one of the folders of photos, each by its key."""
    for role, folder in photos.items():
        if output is not None and folder is not None and output.resolve() == folder.resolve():
            raise UserError(f"{role} and {key} are the same folder, {folder}: choose another {choose}")


@dataclass
class Config:
    """All stages from photos to an evaluated model. `pool_dir`, `noise_pool_dir`, `pairs_dir` and `run` are folders."""

    track: str = MISSING
    scale: Annotated[int, Range(1, 64)] = 4
    seed: Annotated[int, Range(0)] = 0
    overwrite: bool = False
    work_dir: Path = MISSING
    pool_dir: Path = MISSING
    noise_pool_dir: Path = MISSING
    workers: Annotated[int, Range(0)] | None = None
    survey: bool = False
    shard: Annotated[int, Range(0)] | None = None
    shards: Annotated[int, Range(1)] | None = None
    pairs_dir: Path = MISSING
    cache_dir: Path = MISSING
    run: Path = MISSING
    init: str | None = None
    damaged: Damaged = "refuse"
    data: DataConfig = field(default_factory=DataConfig)
    kernels: KernelsConfig = field(default_factory=KernelsConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    look: LookConfig = field(default_factory=LookConfig)
    generator: dict[str, Any] = field(default_factory=dict)
    discriminator: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        """Raise UserError where photos would be mixed with what is made of them, or for what a stage cannot do."""
        self._check_scale()
        photos = {"data.source": self.data.source, "data.target": self.data.target}
        for name in ("work_dir", "pool_dir", "noise_pool_dir", "pairs_dir", "run"):
            _keep_apart(name, getattr(self, name), photos, choose="work_dir")

    def _check_scale(self) -> None:
        if self.scale in KERNEL_SCALES:
            return
        if "." not in str(self.generator.get("name")):
            raise UserError(
                f"scale={self.scale}: expected 2 or 4; only a generator of your own (generator.name=module.Class) has "
                "other scales"
            )
        if self.pool.kernels in ("estimated", "gaussian"):
            raise UserError(
                f"scale={self.scale}: pool.kernels={self.pool.kernels} are for scale 2 and 4: set scale=2, scale=4, "
                "pool=bicubic or pool=from_mat"
            )


@dataclass
class EvaluationData:
    """Folders of HR and LR images, matched by name or by `lr_name`, a template of LR's names.

    Without `lr` it is made of HR, without `hr` photos are judged.
    """

    hr: Path | None = None
    lr: Path | None = None
    lr_name: str | None = None


@dataclass
class EvaluateConfig:
    """Which models to compare on which images, by which protocol."""

    weights: list[str] = MISSING
    data: EvaluationData = field(default_factory=EvaluationData)
    protocol: Protocol = field(default_factory=Protocol)
    metric_files: MetricFiles = field(default_factory=MetricFiles)
    scale: Annotated[int, Range(1, 64)] = 4
    output: Path | None = None
    save_images: bool = False
    figures: list[str] = field(default_factory=list)
    device: str = "auto"
    precision: Annotated[str, Choice(*PRECISIONS)] = "fp32"
    tile: Annotated[int, Range(1)] | None = None
    allow_custom_code: bool = False
    overwrite: bool = False
    damaged: Damaged = "refuse"

    def __post_init__(self) -> None:
        """Raise UserError where results would be written among the images."""
        _keep_apart("output", self.output, {"data.hr": self.data.hr, "data.lr": self.data.lr}, choose="output")


@dataclass
class UpscaleConfig:
    """Which photos to enlarge, with what, and where to write them."""

    input: list[Path] = MISSING
    output: str = MISSING
    weights: str = "df2k"
    scale: Annotated[int, Range(1, 64)] | None = None
    format: str | None = None
    overwrite: bool = False
    precision: Annotated[str, Choice(*PRECISIONS)] = "auto"
    ensemble: bool = False
    consistency: bool = False
    tile: Annotated[int, Range(1)] | None = None
    overlap: Annotated[int, Range(0)] = OVERLAP
    device: str = "auto"
    allow_custom_code: bool = False
    damaged: Damaged = "refuse"


@dataclass
class ExportData:
    """Clean photos that exported files are judged by; None: scikit-image's."""

    hr: Path | None = None


@dataclass
class ExportConfig:
    """Which weights to write to which file, or to a folder in which formats."""

    weights: str = MISSING
    output: Path = MISSING
    formats: list[str] | None = None
    int8: Int8Config = field(default_factory=Int8Config)
    data: ExportData = field(default_factory=ExportData)
    allow_custom_code: bool = False
    overwrite: bool = False
    damaged: Damaged = "refuse"

    def __post_init__(self) -> None:
        """Raise UserError where networks would be written among photos."""
        photos = {"int8.photos": self.int8.photos, "data.hr": self.data.hr}
        _keep_apart("output", self.output, photos, choose="output")


@dataclass
class PoolReportConfig:
    """Which pool to report on, and which other to compare it with."""

    pool_dir: Path = MISSING
    compare: Path | None = None
    output: Path | None = None


SCHEMAS: dict[str, type] = {
    "config": Config,
    "demo": Config,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "pool_report": PoolReportConfig,
    "upscale": UpscaleConfig,
}
NOT_KEPT = ("evaluate", "export")  # the commands that, interrupted, have nothing to go on from
PHOTOS = {"upscale": "input"}  # the key that takes the arguments without `key=`
KERNEL_SCALES = (2, 4)
C = TypeVar("C")


def run_command(function: Callable[[C], None], config_name: str = "config") -> None:
    """Compose the command line's config and call the function with it as a plain dataclass.

    A mistake a user can mend ends in its message and exit code 1, Ctrl-C in 130; nothing else is caught.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see realsr/__init__.py
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=_open_schema(schema))

    schema = SCHEMAS[config_name]

    def main(config: DictConfig) -> None:
        _set_up_logging()  # once more: with -m a launcher may have started another process
        # Errors are met here, since Hydra would write about its overrides first.
        try:
            if HydraConfig.get().job.chdir:
                raise UserError("hydra.job.chdir=true: paths begin in the folder of the command: leave it out")
            function(to_dataclass(config, schema))
        except (UserError, ImageError, WeightsError) as error:
            _leave_job(str(error))
        except MemoryError:
            _leave_job("memory does not suffice; what is done is kept: set smaller values, or free memory, and repeat")
        except OSError as error:
            _leave_job(f"{error}: what is done is kept; make room or choose another work_dir, then repeat the command")
        except Interrupted as interrupted:
            _leave(str(interrupted), interrupted.code)
        except KeyboardInterrupt:
            goes_on = "what is done is kept, and the same command goes on from there"
            _leave(f"interrupted; {'the same command begins anew' if config_name in NOT_KEPT else goes_on}", code=130)

    _set_up_logging()
    given, own_errors = sys.argv, os.environ.get("HYDRA_FULL_ERROR") is None
    cleanup = ExitStack()
    try:
        arguments = quote_arguments(given[1:], schema, PHOTOS.get(config_name))
        sys.argv = [given[0], *cleanup.enter_context(sweep_into_temporary(arguments))]
        cleanup.enter_context(read_paths_as_text(schema))
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print its errors and exit; they are explained below
        hydra.main(config_path=str(conf_dir()), config_name=config_name, version_base="1.3")(main)()
    except UserError as error:
        _leave(str(error))
    except CONFIG_ERRORS as error:
        if not own_errors:
            raise
        _leave(explain(error, schema))
    except JobFailedError as error:
        said, process = error.args
        if process != os.getpid():  # a launcher may keep in files what its processes say
            logger.error("a job failed: %s", said)
        sys.exit(1)
    finally:
        if own_errors:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        sys.argv = given
        cleanup.close()
        GlobalHydra.instance().clear()


def _open_schema(schema: type) -> DictConfig:
    """The schema, in which a component's values are open for any key, since its constructor names them."""
    node: DictConfig = OmegaConf.structured(schema)
    for role in ("generator", "discriminator", "loss", "kernels", "online_degradation"):
        if get_type_hints(schema).get(role) == dict[str, Any]:
            OmegaConf.set_struct(node[role], False)
    return node


def to_dataclass(config: DictConfig, schema: type) -> Any:
    """Turn a composed config into its dataclass. Raises UserError that says what is missing or unknown."""
    chosen = HydraConfig.get().runtime.choices.get("track") if HydraConfig.initialized() else None
    if OmegaConf.is_missing(config, "track") and chosen is not None:
        raise UserError(f"track/{chosen}.yaml: sets no track: write `track: {chosen}` into it")
    if OmegaConf.is_missing(config, "track"):
        raise UserError(
            f"no track chosen: add {choices('track')}; or a recipe, which brings its own: "
            f"{choices('experiment')}. Each is described in its file in conf/track and conf/experiment"
        )
    try:  # +key=value gets past Hydra even where the schema has no such key
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise UserError(f"{' and '.join(missing)} must be given: set {' '.join(f'{key}=…' for key in missing)}")
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(config))
        values = localize_paths(OmegaConf.to_container(merged, resolve=True))
        dataclass = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))
    except OmegaConfBaseException as error:
        raise UserError(explain(error, schema)) from error
    check_ranges(dataclass)
    return dataclass


class JobFailedError(Exception):
    """One job of several has failed (why, in which process): told to Hydra, which does the others before it ends."""


def _leave_job(message: str) -> None:
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        logger.error("error: %s", message)
        raise JobFailedError(message, os.getpid())
    _leave(message)


class _LineFormatter(logging.Formatter):
    """The message alone, in which control characters of file names are escaped: a terminal would obey them."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).expandtabs().split("\n")))


def _set_up_logging() -> None:
    if isinstance(sys.stdout, TextIOWrapper):  # whose encoding may lack what a help text or a name of a photo holds
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _leave(message: str, code: int = 1) -> None:
    if message:
        logger.error("error: %s" if code == 1 else "%s", message)
    sys.exit(code)


def load_protocol(name: str) -> Protocol:
    """Return a protocol of conf/protocol by its name."""
    values = OmegaConf.load(conf_dir() / "protocol" / f"{name}.yaml")
    return cast(Protocol, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Protocol), values)))


def to_yaml(config: Any) -> str:
    """Return a config dataclass as YAML text."""
    return OmegaConf.to_yaml(cast(DictConfig, OmegaConf.structured(config)))
