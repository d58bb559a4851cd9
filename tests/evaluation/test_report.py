import csv
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from config_files import config_of
from realsr.evaluation.protocol import Protocol
from realsr.evaluation.report import (
    Report,
    Setting,
    compare,
    describe_weights,
    estimate_mean,
    mean_scores,
    write_csv,
    write_json,
)
from realsr.evaluation.scoring import Results
from realsr.evaluation.tables import format_markdown, format_report
from toy_metrics import ToyMetric, ToySetMetric

SETTING = Setting(
    config_of(Protocol, "mine", 3, ["psnr", "lpips", "fid"], note="by us"),
    ["crop=3"],
    4,
    "fp32",
    "cpu",
)
METRICS = {
    "psnr": ToyMetric(higher_is_better=True, digits=2),
    "lpips": ToyMetric(higher_is_better=False, digits=4),
    "fid": ToySetMetric(digits=1),
}
BICUBIC = {
    "a": {"psnr": 20.0, "lpips": 0.5},
    "b": {"psnr": 30.0, "lpips": 0.7},
    "c": {"psnr": 25.0, "lpips": 0.9},
}
OURS = {
    "a": {"psnr": 21.0, "lpips": 0.4},
    "b": {"psnr": 30.5, "lpips": 0.6},
    "c": {"psnr": 24.0, "lpips": 0.2},
}


def report(**changes: object) -> Report:
    results = Results(
        {"bicubic": BICUBIC, "work/runs/x": OURS},
        {"bicubic": {"fid": 100.26}, "work/runs/x": {"fid": 8.0}},
    )
    for name, value in changes.items():
        setattr(results, name, value)
    return Report(SETTING, METRICS, results, {"work/runs/x": {"source": "x"}})


def load_strictly(path: Path) -> dict[str, object]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content: dict[str, object] = json.loads(path.read_text(), parse_constant=refuse)
    return content


def test_json_holds_all_numbers_and_what_they_hold_for(tmp_path: Path) -> None:
    write_json(tmp_path / "new/metrics.json", report(failures={"d": "damaged"}))
    content = load_strictly(tmp_path / "new/metrics.json")
    models = content.pop("models")
    versions = content.pop("versions")
    assert content == {
        "protocol": {
            "name": "mine", "crop": 3, "metrics": ["psnr", "lpips", "fid"], "hr_side": None, "lr": "bicubic",
            "note": "by us", "changed": ["crop=3"], "rounding": "8 bit",
        },
        "scale": 4, "lr": None, "precision": "fp32", "device": "cpu", "failed": {"d": "damaged"},
    }  # fmt: skip
    assert isinstance(versions, dict)
    assert {"python", "torch", "lpips", "realsr"} <= versions.keys()
    assert isinstance(models, dict)
    ours = models["work/runs/x"]
    assert ours["weights"] == {"source": "x"}
    assert ours["mean"] == {"psnr": pytest.approx(75.5 / 3), "lpips": pytest.approx(0.4)}
    assert ours["interval"]["psnr"] == list(estimate_mean([21.0, 30.5, 24.0]).interval or ())
    assert ours["sets"] == {"fid": 8.0}
    assert ours["images"] == OURS
    against = ours["against"]["bicubic"]
    assert against["psnr"] == {
        "mean": pytest.approx(0.5 / 3), "interval": list(estimate_mean([1.0, 0.5, -1.0]).interval or ()), "better": 2,
    }  # fmt: skip
    assert against["lpips"]["better"] == 3, "less is better"
    assert models["bicubic"]["against"] == {}


def test_text_tells_the_same(tmp_path: Path) -> None:
    protocol, computed, _, count, head, first, second, _, title, _, paired = format_report(
        report()
    ).splitlines()
    assert protocol.startswith("protocol mine, changed: crop=3: x4, 8 bit, 3 border pixels cropped")
    assert computed == "fp32 on cpu; by us"
    assert count.startswith("3 images")
    assert head.split() == ["psnr", "↑", "lpips", "↓", "fid", "↓"]
    low, high = estimate_mean([20.0, 30.0, 25.0]).interval or (0, 0)
    assert first.split() == [
        "bicubic",
        "25.00",
        f"[{low:.2f},",
        f"{high:.2f}]",
        "0.7000",
        "[0.5000,",
        "0.9000]",
        "100.3",
    ]
    assert second.startswith("x        25.17 [")
    assert title.startswith("difference from bicubic")
    assert paired.startswith("x  +0.17 [-1.00, +1.00] 2/3  -0.3000 [-0.7000, -0.1000] 3/3")
    columns = {line.find("[") for line in (first, second)}
    assert len(columns) == 1, "in line"

    text = format_markdown(report())
    assert "|  | psnr ↑ | lpips ↓ | fid ↓ |\n| --- | --- | --- | --- |\n| bicubic | 25.00 [" in text
    assert "| b | x | 30.50 | 0.6000 |" in text

    write_csv(tmp_path / "scores.csv", report())
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert rows[3] == {"image": "b", "model": "work/runs/x", "psnr": "30.5", "lpips": "0.6"}


def test_equal_images_are_told_and_leave_json_strict(tmp_path: Path) -> None:
    equal = report(
        scores={"x": {"a": {"psnr": math.inf, "lpips": 0.0}, "b": {"psnr": 30.0, "lpips": 0.1}}}
    )
    write_json(tmp_path / "metrics.json", equal)
    models = load_strictly(tmp_path / "metrics.json")["models"]
    assert isinstance(models, dict)
    assert models["x"]["images"]["a"] == {"psnr": None, "lpips": 0.0}
    assert (models["x"]["mean"]["psnr"], models["x"]["interval"]["psnr"]) == (None, None)
    assert models["x"]["mean"]["lpips"] == 0.05
    text = format_report(equal)
    assert "equal to HR, so PSNR and its mean are infinite: a (x)" in text
    assert "x inf 0.0500 [0.0000, 0.1000]" in " ".join(text.split())
    assert "difference" not in text


def test_what_was_left_out_is_told() -> None:
    failures = report(failures={"d": "damaged", "fid": "too few images"}, sets={})
    assert "damaged" not in format_report(failures), "callers raise it as an error"
    text = format_markdown(failures)
    assert "left out:\n  d: damaged\n  fid: too few images" in text
    assert text.count("—") == 2


def test_one_image_has_no_interval() -> None:
    one = report(scores={"bicubic": {"a": BICUBIC["a"]}, "x": {"a": OURS["a"]}}, sets={})
    text = format_report(one)
    assert "1 image\n" in text
    assert "x  +1.00 1/1  -0.1000 1/1" in text


def test_weights_are_known_by_their_content(tmp_path: Path) -> None:
    for suffix in ("param", "bin"):
        (tmp_path / f"net.{suffix}").write_bytes(suffix.encode())
    files = describe_weights(tmp_path / "net.param")["files"]
    assert files == {
        str(tmp_path / f"net.{s}"): hashlib.sha256(s.encode()).hexdigest() for s in ("param", "bin")
    }


def test_the_interval_is_the_normal_one_for_many_images() -> None:
    values = np.random.default_rng(0).normal(27, 2, 2000).tolist()
    estimate = estimate_mean(values)
    assert estimate.mean == pytest.approx(np.mean(values))
    assert estimate.interval is not None
    half = norm.ppf(0.975) * np.std(values) / math.sqrt(len(values))
    assert estimate.interval == pytest.approx(
        (np.mean(values) - half, np.mean(values) + half), abs=0.05 * half
    )


def test_the_interval_of_two_values_lies_between_them() -> None:
    assert estimate_mean([1.0, 2.0]).interval == (1.0, 2.0), (
        "a quarter of the resamples is of one image alone"
    )
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
    assert mean_scores({"a": {"x": 1.0, "y": 4.0}, "b": {"x": 2.0, "y": 6.0}}) == {
        "x": 1.5,
        "y": 5.0,
    }
