"""How well two sets of photos can be told apart by their patches.

Content must not decide. Patches of four ranges of contrast are compared apart, since less noise and
less blur would compensate in the power of all patches. Patches of both sets are weighted to the
same distribution of content (brightness and contrast), and features are corrected by their
regression on the content within photos of set 0, which holds no difference between photos or sets.
Training and test patches are of different photos, and distances are between different photos.
Set 0, the camera's photos, is the reference: slopes and units are its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

PARTS = 4  # ranges of contrast
BINS = 3  # of brightness, and of contrast in each part, for the weights
FOLDS = 10
SHRINKAGE = 0.05  # of the covariance matrix towards its diagonal
MIN_PHOTOS = 2  # of each set


@dataclass(frozen=True)
class Patches:
    """Patches of two sets of photos.

    features: (n, F). content: (n, C); brightness and contrast first. photos: (n,), index of the
    photo. sides: (photos,), 0 or 1, the photo's set. names: of the photos.
    """

    features: np.ndarray
    content: np.ndarray
    photos: np.ndarray
    sides: np.ndarray
    names: Sequence[str]


@dataclass(frozen=True)
class Part:
    """What separates the patches of two sets in a range of contrast.

    accuracy: (photos,), of the classifier on each photo's patches, nan for photos without weight.
    distances: (photos, photos), mean distance of their patches. weights: (photos,), sum of the
    patches' weights. sides: (photos,). overlap: 0..1, share of patches with counterparts of the same
    content.
    """

    accuracy: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    sides: np.ndarray
    overlap: float

    def mean_accuracy(self, counts: np.ndarray) -> np.ndarray:
        """Return the mean accuracy of both sets; counts: how often each photo counts, (…, photos)."""
        weights = self.weights * counts * np.isfinite(self.accuracy)
        accuracy = np.nan_to_num(self.accuracy)
        with np.errstate(invalid="ignore"):
            by_side = [
                (weights * accuracy * (self.sides == side)).sum(-1)
                / (weights * (self.sides == side)).sum(-1)
                for side in (0, 1)
            ]
        return np.mean(by_side, axis=0)

    def kernel_distance(self, counts: np.ndarray) -> np.ndarray:
        """Return D / (D + W): energy distance D, relative to the mean distance W in set 0; at most 1.

        D is the squared maximum mean discrepancy for the kernel -|x - y| (Sejdinovic et al. 2013):
        the mean distance between the sets, minus the mean distances in each of them. Pairs of
        patches of one photo are left out, so that its mean is 0 for sets of the same distribution.
        The unit W does not depend on set 1, so that sets are ordered by their distance from set 0.
        For D = 0 the result is 0, also if W = 0, since all patches have equal features.
        """
        first, second = (self.weights * counts * (self.sides == side) for side in (0, 1))
        across = _mean_pairs(first, second, self.distances)
        unit, other = (_mean_pairs(w, w, self.distances) for w in (first, second))
        energy = across - (unit + other) / 2
        return energy / np.where(energy == 0, 1, energy + unit)


def nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean over an axis, without nan; nan if there is nothing else."""
    counts = np.isfinite(values).sum(axis)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, np.nansum(values, axis) / counts, np.nan)


def _mean_pairs(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the mean distance over pairs of two photos with weights (…, photos)."""
    self_weights = first * second  # of each photo with itself
    total = ((first @ distances) * second).sum(-1) - (self_weights * np.diag(distances)).sum(-1)
    weight = first.sum(-1) * second.sum(-1) - self_weights.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weight > 0, total / weight, np.nan)


def separate(patches: Patches) -> list[Part]:
    """Return what separates the patches in each range of contrast in which both sets have some.

    Classifiers are trained on all photos but those of a fold: linear discriminant analysis with a
    shrunken covariance matrix. Photos of the same name are in the same fold.
    """
    contrast = patches.content[:, 1]
    edges = np.quantile(contrast, np.linspace(0, 1, PARTS + 1)[1:-1])
    index = np.searchsorted(edges, contrast)
    parts = []
    for mask in (index == part for part in range(PARTS)):
        photos = patches.photos[mask]
        if len(np.unique(patches.sides[photos])) == 2:
            part = replace(
                patches,
                features=patches.features[mask],
                content=patches.content[mask],
                photos=photos,
            )
            parts.append(_separate(part))
    return parts


def _separate(patches: Patches) -> Part:
    photos, count = patches.photos, len(patches.sides)
    weights = 1 / np.bincount(photos, minlength=count)[photos]
    side = patches.sides[photos]
    balance, overlap = _balance(patches.content, weights, side)
    if overlap == 0:  # no patch of one set has a counterpart in the other
        unknown = np.full((count, count), np.nan)
        return Part(unknown[0], unknown, np.zeros(count), patches.sides, overlap)
    weights = weights * balance
    features = _correct(patches.features, patches.content, photos, weights, side == 0)
    folds = _assign_folds(patches.names)[photos]
    correct = np.full(len(features), np.nan)
    for fold in np.unique(folds):
        test = folds == fold
        train = ~test & (weights > 0)
        if all((train & (side == value)).any() for value in (0, 1)):
            direction, offset = _fit(features[train], weights[train], side[train])
            scores = features[test] @ direction - offset
            correct[test] = np.where(scores == 0, 0.5, (scores > 0) == side[test])
    valid = np.isfinite(correct)
    right, total = (
        np.bincount(photos[valid], values[valid], count) for values in (weights * correct, weights)
    )
    with np.errstate(invalid="ignore"):
        accuracy = right / total
    distances = _measure_distances(features, photos, weights, count)
    photo_weights = np.bincount(photos, weights, count)
    return Part(accuracy, distances, photo_weights, patches.sides, overlap)


def _balance(
    content: np.ndarray, weights: np.ndarray, side: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return factors (n,) that give both sides the same content, and the overlap of their content.

    In each cell of brightness and contrast both sides get the smaller of their shares.
    """
    cells = np.zeros(len(content), int)
    for column in content.T[:2]:
        edges = np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1])
        cells = cells * BINS + np.searchsorted(edges, column)
    shares = np.stack([np.bincount(cells[side == s], weights[side == s], BINS**2) for s in (0, 1)])
    shares = shares / shares.sum(1, keepdims=True)
    common = shares.min(0)
    return (common / shares.clip(min=1e-12))[side, cells], float(common.sum())


def _correct(
    features: np.ndarray,
    content: np.ndarray,
    photos: np.ndarray,
    weights: np.ndarray,
    reference: np.ndarray,
) -> np.ndarray:
    """Return features minus their regression on the content within photos, in units of its residue.

    reference: mask (n,) of the patches of set 0, which give the regression and the units, so that
    neither depends on the set that is compared with it.
    """
    design = np.concatenate([content, content[:, :4] ** 2], axis=1)
    design = (design - design.mean(0)) / design.std(0).clip(min=1e-6)
    roots = np.sqrt(weights)[:, None]
    inner_design, inner_features = (
        ((values - _photo_means(values, photos, weights)) * roots)[reference]
        for values in (design, features)
    )
    gram = inner_design.T @ inner_design
    # The second term keeps it regular where each photo has one patch.
    gram += (1e-3 * np.trace(gram) / len(gram) + 1e-9) * np.eye(len(gram))
    slopes = np.linalg.solve(gram, inner_design.T @ inner_features)
    residue = inner_features - inner_design @ slopes
    scale = np.sqrt((residue**2).sum(0) / weights[reference].sum()).clip(min=1e-3)
    return (features - design @ slopes) / scale


def _photo_means(values: np.ndarray, photos: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of each row's photo (n, k)."""
    totals = np.bincount(photos, weights).clip(min=1e-12)
    means = np.stack([np.bincount(photos, weights * column) for column in values.T], 1)
    return (means / totals[:, None])[photos]


def _fit(features: np.ndarray, weights: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the direction (F,) and the offset of linear discriminant analysis."""
    means, covariance = [], np.zeros((features.shape[1],) * 2)
    for value in (0, 1):
        x, w = features[side == value], weights[side == value] / weights[side == value].sum()
        means.append(w @ x)
        deviations = x - means[-1]
        covariance += (w[:, None] * deviations).T @ deviations / 2
    diagonal = np.diag(np.diag(covariance) + 1e-6)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal
    direction = np.linalg.solve(covariance, means[1] - means[0])
    return direction, float(direction @ (means[0] + means[1]) / 2)


def _measure_distances(
    features: np.ndarray, photos: np.ndarray, weights: np.ndarray, count: int
) -> np.ndarray:
    """Return the weighted mean Euclidean distance of the patches of each pair of photos."""
    order = np.argsort(photos, kind="stable")
    x, w, photo = features[order].astype(np.float32), weights[order], photos[order]
    totals = np.bincount(photo, w, count).clip(min=1e-12)
    w = w / totals[photo]
    present = np.unique(photo)
    starts = np.searchsorted(photo, present)
    squares = (x**2).sum(1)
    result = np.zeros((count, count))
    for index, start in enumerate(starts):
        rows = slice(start, starts[index + 1] if index + 1 < len(starts) else len(x))
        squared = squares[rows, None] + squares[None] - 2 * (x[rows] @ x.T)
        mean = w[rows] @ np.sqrt(squared.clip(min=0))
        result[present[index], present] = np.add.reduceat(mean * w, starts)
    return (result + result.T) / 2


def _assign_folds(names: Sequence[str]) -> np.ndarray:
    """Return a fold for each photo (photos,), the same for equal names."""
    unique = sorted(set(names))
    folds = {name: index % min(FOLDS, len(unique)) for index, name in enumerate(unique)}
    return np.array([folds[name] for name in names])
