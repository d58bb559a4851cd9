import math

import numpy as np
import pytest
from scipy.stats import norm

from realsr.evaluation.statistics import compare, estimate_mean, mean_scores


def test_the_interval_is_the_normal_one_for_many_images() -> None:
    values = np.random.default_rng(0).normal(27, 2, 2000).tolist()
    estimate = estimate_mean(values)
    assert estimate.mean == pytest.approx(np.mean(values))
    assert estimate.interval is not None
    half = norm.ppf(0.975) * np.std(values) / math.sqrt(len(values))
    assert estimate.interval == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.05 * half)


def test_the_interval_of_two_values_lies_between_them() -> None:
    assert estimate_mean([1.0, 2.0]).interval == (1.0, 2.0), "a quarter of the resamples is of one image alone"
    assert estimate_mean([3.0, 3.0, 3.0]).interval == (3.0, 3.0)
    assert estimate_mean([3.0]) == estimate_mean([3.0])
    assert estimate_mean([3.0]).interval is None


def test_it_is_the_same_each_time_whatever_else_is_computed() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 5.0]
    first = estimate_mean(values)
    estimate_mean([2.0, 1.0])
    assert estimate_mean(values) == first


def test_infinite_values_have_an_infinite_mean_and_no_interval() -> None:
    estimate = estimate_mean([math.inf, 20.0])
    assert estimate.mean == math.inf
    assert estimate.interval is None


def test_pairs_tell_a_small_steady_difference_that_means_do_not() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(27, 4, 40)
    values = reference + rng.normal(0.1, 0.1, 40)
    difference = compare(values.tolist(), reference.tolist(), higher_is_better=True)
    assert difference.mean == pytest.approx(float(np.mean(values - reference)))
    assert difference.interval is not None
    assert 0 < difference.interval[0] < difference.mean < difference.interval[1] < 0.2
    assert (difference.better, difference.images) == (int((values > reference).sum()), 40)
    alone = estimate_mean(values.tolist()).interval
    assert alone is not None
    assert alone[1] - alone[0] > 1


def test_better_follows_the_metric_s_direction_and_equal_is_not_better() -> None:
    values, reference = [1.0, 2.0, math.inf, math.inf], [2.0, 2.0, math.inf, 30.0]
    assert compare(values, reference, higher_is_better=True).better == 1
    assert compare(values, reference, higher_is_better=False).better == 1
    assert compare(values[:3], reference[:3], higher_is_better=True).mean == pytest.approx(-1 / 3)


def test_means_of_each_metric() -> None:
    assert mean_scores({"a": {"x": 1.0, "y": 4.0}, "b": {"x": 2.0, "y": 6.0}}) == {"x": 1.5, "y": 5.0}
