"""Comparison of two sets of photos, such as a camera's photos and LR made to look like them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from realsr.core.errors import UserError
from realsr.core.seeding import numpy_generator
from realsr.core.workers import map_with_progress
from realsr.data.degradations.degradation import OnlineDegradation
from realsr.domains.findings import Finding, find_differences
from realsr.domains.measurement import PhotoMeasurement, measure_photo
from realsr.domains.tile_statistics import MIN_NOISE
from realsr.domains.two_sample import MIN_PHOTOS, Part, Patches, nan_mean, separate
from realsr.imaging.jpeg import Quantisation

RESAMPLES = 400  # bootstrap samples of the photos
MAX_PATCHES = 4000  # of a set, for the classifier
PATCHES = 100  # of a photo, at most
MAX_NOISE_RATIO = 2.0  # of a photo to the lower quartile of the photos
HARDLY = 0.6  # accuracy up to which sets are called hard to tell apart


@dataclass(frozen=True)
class DomainStatistics:
    """The statistics of one set of photos.

    folder: of the photos. names: of the measured photos. failures: reasons, by file name.
    means: by name, over photos, see `measure_regions`; nan where no photo has a value.
    resampled: the same of bootstrap samples of the photos, on the first axis; nan where fewer
    than two photos have a value.
    without_noise, without_detail: photos in which neither could be measured.
    textured: photos whose noise is left out, since it is more than twice that of the others.
    jpeg: the tables of its JPEG files, and how many files have them, most frequent first.
    """

    folder: Path
    names: list[str]
    failures: dict[str, str]
    means: dict[str, np.ndarray]
    resampled: dict[str, np.ndarray]
    without_noise: list[str]
    without_detail: list[str]
    textured: list[str]
    jpeg: list[tuple[Quantisation, int]]

    def __repr__(self) -> str:
        return f"DomainStatistics({len(self.names)} photos of {self.folder})"

    def interval(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the 95 % interval of a statistic over photos, nan where it is unknown."""
        values = self.resampled[name]
        is_known = np.isfinite(values).any(0)
        interval = np.nanquantile(np.where(is_known, values, 0), (0.025, 0.975), axis=0)
        low, high = np.where(is_known, interval, np.nan)
        return low, high


@dataclass(frozen=True)
class Score:
    """A figure of two sets, with its 95 % interval; all nan if the sets cannot be compared."""

    value: float
    low: float
    high: float


UNKNOWN = Score(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class DomainComparison:
    """How far set b is from set a.

    accuracy: of a classifier of patches on photos it was not trained on; 0.5: indistinguishable.
    distance: energy distance D of the patches' features as D / (D + W), 0 (equal) to 1; W: mean
    distance between a's photos, so that a is the reference, and a and b are not interchangeable.
    halves: accuracy between two halves of a's photos, None for fewer than four.
    overlap: share of patches with counterparts of the same brightness and contrast.
    findings: the largest clear difference first.
    """

    a: DomainStatistics
    b: DomainStatistics
    accuracy: Score
    distance: Score
    halves: Score | None
    overlap: float
    findings: list[Finding]

    def __repr__(self) -> str:
        return f"DomainComparison(a={self.a!r}, b={self.b!r})\n{self.summarise()}"

    @property
    def largest(self) -> Finding | None:
        """The largest clear difference."""
        return self.findings[0] if self.findings and self.findings[0].is_clear else None

    def summarise(self) -> str:
        """Return how far b is from a, what differs most, and which key changes it."""
        if np.isnan(self.accuracy.value):
            reason = "two photos of each" if np.isnan(self.overlap) else "patches of equal contrast"
            text = f"b cannot be told from a by a classifier: {reason} are needed"
        else:
            text = (
                f"a classifier tells b from a in {100 * self.accuracy.value:.0f} % of patches "
                f"(50 %: indistinguishable), kernel distance {self.distance.value:.2f} (0: equal)"
            )
        finding = self.largest
        if self.accuracy.value <= HARDLY:
            return f"{text}: b can hardly be told from a."
        if finding is None:
            return f"{text}. No single quantity differs clearly."
        quantity = finding.quantity
        unit = f" {quantity.unit}" if quantity.unit else ""
        text += (
            f". Largest difference: {quantity.label}, b {finding.b:.2f}, a {finding.a:.2f}{unit}. "
        )
        if finding.advice.startswith("no key"):
            return f"{text}It has {finding.advice}."
        text += f"To change it, set {finding.advice}"
        if quantity.name == "blocking" and finding.difference < 0 and self.a.jpeg:
            text += f" (JPEG quality of a: {self.a.jpeg[0][0].quality})"
        return f"{text}."


@dataclass(frozen=True)
class Domain:
    """Measured photos of a folder, and the reasons why others could not be measured, by name."""

    folder: Path
    photos: list[PhotoMeasurement]
    failures: dict[str, str]


def measure_domain(
    photos: Sequence[Path],
    regions: int,
    seed: int,
    workers: int | None,
    damaged: str,
    degradation: OnlineDegradation | None,
) -> Domain:
    """Measure photos.

    regions: of 64x64 pixels, measured of each photo at most; 256 are a megapixel.
    degradation: an online degradation that reads LR, applied before the measurement.
    Raises UserError if no photo can be measured.
    """
    count = max(8, min(PATCHES, MAX_PATCHES // len(photos)))
    measure = partial(
        measure_photo,
        regions=regions,
        patches=count,
        seed=seed,
        damaged=damaged,
        degradation=degradation,
    )
    domain = Domain(photos[0].parent, [], {})
    title = f"measure {domain.folder.name}"
    for path, result in map_with_progress(title, measure, photos, workers):
        if isinstance(result, Exception):
            domain.failures[path.name] = str(result)
        else:
            domain.photos.append(result)
    if not domain.photos:
        reasons = "".join(f"\n  {reason}" for reason in domain.failures.values())
        raise UserError(f"{domain.folder}: no photo can be measured:{reasons}")
    return domain


def compare_domains(a: Domain, b: Domain, seed: int) -> DomainComparison:
    """Compare two sets of measured photos. seed: of the bootstrap and of the halves of a."""
    first, second = (
        _describe(domain, numpy_generator(seed, "domains", side))
        for side, domain in (("a", a), ("b", b))
    )
    accuracy, distance, overlap = _score(a.photos, b.photos, seed)
    halves = None
    if len(a.photos) >= 2 * MIN_PHOTOS:
        order = numpy_generator(seed, "domains", "halves").permutation(len(a.photos))
        parts = [[a.photos[i] for i in sorted(order[start::2])] for start in (0, 1)]
        halves = _score(parts[0], parts[1], seed)[0]
    findings = find_differences(
        first.means, second.means, first.resampled, second.resampled, (len(a.photos), len(b.photos))
    )
    return DomainComparison(first, second, accuracy, distance, halves, overlap, findings)


def _describe(domain: Domain, rng: np.random.Generator) -> DomainStatistics:
    group = domain.photos
    counts = _resample(rng, len(group))
    means, resampled = {}, {}
    is_textured = _find_textured(np.stack([photo.statistics["noise_level"] for photo in group]))
    for name in group[0].statistics:
        values = np.stack([photo.statistics[name] for photo in group]).astype(float)
        if name.startswith(("noise", "flat")):
            values[is_textured] = np.nan
        means[name] = _mean(np.ones((1, len(group))), values)[0]
        resampled[name] = _mean(counts, values)
        resampled[name][:, np.isfinite(values).sum(0) < MIN_PHOTOS] = np.nan
    tables = Counter(photo.jpeg for photo in group if photo.jpeg is not None)
    return DomainStatistics(
        domain.folder,
        [photo.name for photo in group],
        domain.failures,
        means,
        resampled,
        [photo.name for photo in group if not photo.has_noise],
        [photo.name for photo in group if not photo.has_detail],
        [photo.name for photo, texture in zip(group, is_textured, strict=True) if texture],
        tables.most_common(),
    )


def _find_textured(levels: np.ndarray) -> np.ndarray:
    """Return a mask of the photos whose noise (P, 3, 8) is texture, judged by that of the others.

    In a photo without flat tiles, texture without structure looks like noise. Its level is more than
    twice the lower quartile of the photos, at the same brightness.
    """
    levels = np.where(np.isfinite(levels), levels.clip(min=MIN_NOISE), np.nan)
    is_known = np.isfinite(levels).any(0)
    quartile = np.nanquantile(np.where(is_known, levels, 1), 0.25, axis=0)
    logs = np.log(levels / np.maximum(quartile, 2 * MIN_NOISE)).reshape(len(levels), -1)
    counts = np.isfinite(logs).sum(1)
    return np.nansum(logs, 1) > counts.clip(min=1) * np.log(MAX_NOISE_RATIO)


def _mean(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the means (R, …) of values (P, …) that count (R, P) times, without nan."""
    valid = np.isfinite(values)
    totals = np.tensordot(counts, np.where(valid, values, 0), 1)
    weights = np.tensordot(counts, valid.astype(float), 1)
    with np.errstate(invalid="ignore"):
        return np.where(weights > 0, totals / weights, np.nan)


def _resample(rng: np.random.Generator, photos: int) -> np.ndarray:
    """Return how often each of the photos is in each bootstrap sample, (RESAMPLES, photos)."""
    return rng.multinomial(photos, np.full(photos, 1 / photos), RESAMPLES)


def _score(
    a: Sequence[PhotoMeasurement], b: Sequence[PhotoMeasurement], seed: int
) -> tuple[Score, Score, float]:
    """Return the classifier's accuracy, the kernel distance, and the overlap of the content."""
    sides = [[photo for photo in side if len(photo.features)] for side in (a, b)]
    counts = [len(side) for side in sides]
    if min(counts) < MIN_PHOTOS:
        return UNKNOWN, UNKNOWN, float("nan")
    photos = [*sides[0], *sides[1]]
    parts = separate(
        Patches(
            np.concatenate([photo.features for photo in photos]),
            np.concatenate([photo.content for photo in photos]),
            np.repeat(np.arange(len(photos)), [len(photo.features) for photo in photos]),
            np.repeat([0, 1], counts),
            [photo.name for photo in photos],
        )
    )
    if not parts:
        return UNKNOWN, UNKNOWN, 0.0
    overlap = float(np.mean([part.overlap for part in parts]))
    rng = numpy_generator(seed, "domains", "bootstrap")
    resampled = np.concatenate([_resample(rng, count) for count in counts], axis=1)
    scores = []
    for compute in (Part.mean_accuracy, Part.kernel_distance):
        value, samples = (
            nan_mean(np.stack([compute(part, photo_counts) for part in parts]), 0)
            for photo_counts in (np.ones(len(photos)), resampled)
        )
        if not np.isfinite(samples).any():
            return UNKNOWN, UNKNOWN, overlap
        low, high = np.nanquantile(samples, (0.025, 0.975))
        scores.append(Score(float(value), float(low), float(high)))
    return scores[0], scores[1], overlap
