from itertools import pairwise

import numpy as np
import pytest

from realsr.domains.two_sample import Part, Patches, nan_mean, separate


def make(
    shift: float,
    content_shift: float = 0.0,
    slope: float = 0.0,
    photos: int = 12,
    scatter: float = 1.0,
) -> Patches:
    """Two sets of photos whose features differ by `shift` and depend on the content by `slope`.

    scatter: of the features in the second set, relative to the first.
    """
    rng = np.random.default_rng(0)
    count = 40
    sides = np.repeat([0, 1], photos)
    index = np.repeat(np.arange(2 * photos), count)
    content = rng.normal(size=(len(index), 6))
    content[:, 1] += content_shift * sides[index]
    own = 0.3 * rng.normal(size=(2 * photos, 5))  # photos of one set differ
    features = rng.normal(size=(len(index), 5)) + own[index]
    features[sides[index] == 1] *= scatter
    features += slope * content[:, 1:2] + shift * sides[index, None]
    return Patches(features, content, index, sides, [f"{i}" for i in range(2 * photos)])


def score(patches: Patches) -> tuple[float, float]:
    parts, once = separate(patches), np.ones(len(patches.sides))
    accuracies, distances = (
        np.array([compute(part, once) for part in parts])
        for compute in (Part.mean_accuracy, Part.kernel_distance)
    )
    return float(nan_mean(accuracies, 0)), float(nan_mean(distances, 0))


def test_equal_sets_cannot_be_told_apart() -> None:
    accuracy, distance = score(make(0))
    assert 0.4 < accuracy < 0.6
    assert abs(distance) < 0.02


def test_the_distance_grows_where_the_accuracy_cannot() -> None:
    results = [score(make(shift)) for shift in (0.5, 1, 2, 4, 8)]
    assert all(a[1] < b[1] for a, b in pairwise(results))
    assert results[-1][0] > 0.99
    assert results[-1][1] < 1


def test_the_unit_of_the_distance_is_the_scatter_of_the_first_set() -> None:
    # Features of LR without noise scatter more than a camera's; its mean is farther all the same.
    results = [
        score(make(shift, scatter=scatter))[1] for shift, scatter in ((2, 1), (3, 2), (4, 4))
    ]
    assert all(a + 0.05 < b for a, b in pairwise(results))


def test_other_content_is_not_a_difference() -> None:
    accuracy, distance = score(make(0, content_shift=1, slope=3))
    assert accuracy < 0.6
    assert distance < 0.03
    # Without the correction the means of the features would be 3 standard deviations apart.
    assert score(make(3))[0] > 0.95


def test_the_kernel_distance_is_the_energy_distance_between_photos() -> None:
    distances = np.array([[0.5, 2, 5, 6], [2, 0.5, 7, 8], [5, 7, 0.5, 3], [6, 8, 3, 0.5]])
    result = Part(np.full(4, 0.5), distances, np.ones(4), np.array([0, 0, 1, 1]), 1.0)
    energy = (5 + 6 + 7 + 8) / 4 - (2 + 3) / 2
    assert result.kernel_distance(np.ones(4)) == pytest.approx(energy / (energy + 2))
    # The first photo twice: its pair with itself is left out.
    counts = np.array([[2, 1, 1, 1]])
    energy = (2 * (5 + 6) + 7 + 8) / 6 - (2 + 3) / 2
    assert result.kernel_distance(counts) == pytest.approx([energy / (energy + 2)])


def test_test_photos_are_not_training_photos() -> None:
    # Each photo has its own feature and no set has one: only memory could tell them apart.
    rng = np.random.default_rng(1)
    sides, index = np.repeat([0, 1], 16), np.repeat(np.arange(32), 40)
    features = rng.normal(size=(32, 8))[index] + 0.01 * rng.normal(size=(1280, 8))
    content = rng.normal(size=(1280, 6))
    accuracy, distance = score(Patches(features, content, index, sides, list(map(str, range(32)))))
    assert accuracy < 0.75
    assert abs(distance) < 0.1


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_sets_without_common_brightness_have_no_score() -> None:
    patches = make(1)
    patches.content[:, 0] = 10 * patches.sides[patches.photos]
    parts, once = separate(patches), np.ones(len(patches.sides))
    assert parts
    for part in parts:
        assert part.overlap == 0
        assert np.isnan(part.mean_accuracy(once))
        assert np.isnan(part.kernel_distance(once))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_sets_of_equal_patches_have_the_distance_0() -> None:
    patches = make(0)
    patches.features[:], patches.content[:] = 0, 0
    assert score(patches) == (0.5, 0)
