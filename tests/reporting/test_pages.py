import base64
import itertools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from realsr.core.errors import UserError
from realsr.imaging import write_uint8
from realsr.reporting.pages import (
    FILES,
    Card,
    Cards,
    Comparison,
    Facts,
    Link,
    PageTable,
    Section,
    embed,
    embed_data,
    write_page,
)
from realsr.reporting.run_page import compare_samples, show_config
from realsr.reporting.run_records import RunRecords, read_run
from realsr.reporting.svg_plots import COLOURS, Line, plot_intervals, plot_lines


def decode(source: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_names_from_files_are_text_and_never_markup(tmp_path: Path) -> None:
    name = '<script>alert(1)</script>"&\udce9'
    lines = [Line(name, np.arange(3), np.arange(3)), Line("b", np.arange(3), np.ones(3))]
    plot = plot_lines(name, lines, name)
    blocks = [
        Facts({name: name}),
        PageTable(name, [name], [[Link(name, "#x")]]),
        Cards([Card(name, [embed(np.zeros((2, 2, 3), np.uint8), name)], [name], "x")]),
    ]
    write_page(tmp_path / "a.html", name, name, [Section("s", name, blocks)])
    text = (tmp_path / "a.html").read_text(encoding="utf-8") + plot.svg
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") >= 10
    rows = plot_intervals(name, {name: (1.0, (0.5, 1.5))}).svg
    assert "<script>" not in rows


def test_pictures_and_data_are_embedded_without_loss() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    picture = embed(pixels, "a")
    assert (picture.width, picture.height) == (7, 5)
    assert np.array_equal(decode(picture.source), pixels)
    link = embed_data(b"\x00a", "x.json", "x")
    assert base64.b64decode(link.target.partition(",")[2]) == b"\x00a"


def test_a_sample_is_compared_by_its_views(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    views = {name: rng.integers(0, 256, (1000, 800, 3)).astype(np.uint8) for name in "abcd"}
    lr = rng.integers(0, 256, (250, 200, 3)).astype(np.uint8)
    (tmp_path / "samples/x").mkdir(parents=True)
    strip = np.concatenate([lr.repeat(4, 0).repeat(4, 1), *list(views.values())[1:]], axis=1)
    write_uint8(tmp_path / "samples/x/step_0000009.png", strip)
    _, block = compare_samples(RunRecords(tmp_path, {"scale": 4}))
    assert isinstance(block, Comparison)
    assert list(block.images) == ["LR", "bicubic", "SR", "HR"]
    assert (block.name, block.note) == ("x", "Step 9.")
    assert (block.left, block.right) == ("bicubic", "SR")
    # The centre of 320 pixels, at a multiple of the scale; LR at its own size.
    assert np.array_equal(decode(block.images["HR"].source), views["d"][340:660, 240:560])
    assert np.array_equal(decode(block.images["LR"].source), lr[85:165, 60:140])


def test_a_configuration_is_compared_with_that_of_its_track() -> None:
    defaults = {"track": "t", "seed": 0, "trainer": {"batch": 16, "crop": 128}, "added": None}
    config = {"track": "t", "seed": 0, "trainer": {"batch": 8, "crop": 128}, "loss": {"x": {}}}
    table, _ = show_config(config, defaults)
    assert table.rows == [["trainer.batch", "8", "16"], ["loss.x", "{}", "—"]]  # type: ignore[union-attr]
    [same, _] = show_config(defaults, defaults)
    assert "All keys have the defaults" in str(same)
    [unknown, _] = show_config(config, None)
    assert "not installed" in str(unknown)


def test_the_folders_of_a_run_are_found_after_a_move(tmp_path: Path) -> None:
    run = tmp_path / "moved/runs/default"
    for folder in (run, tmp_path / "moved/pairs", tmp_path / "photos"):
        folder.mkdir(parents=True)
    text = "scale: 4\nwork_dir: old/w\nrun: old/w/runs/default\npairs_dir: old/w/pairs\npool_dir: old/w/pool\n"
    (run / "config.yaml").write_text(f"{text}data: {{source: {tmp_path / 'photos'}}}\n")
    records = read_run(run)
    assert records.place("pairs_dir") is not None
    assert records.place("pairs_dir").resolve() == tmp_path / "moved/pairs"  # type: ignore[union-attr]
    assert records.place("data.source") == tmp_path / "photos"
    assert records.place("pool_dir") is None
    assert records.place("data.target") is None


def test_the_folder_of_an_adaptation_has_the_records_of_its_training(tmp_path: Path) -> None:
    run = tmp_path / "work/runs/adapt"
    run.mkdir(parents=True)
    with pytest.raises(UserError, match=r"has no config\.yaml: set run=FOLDER of a training"):
        read_run(tmp_path)
    (run / "config.yaml").write_text("scale: 4\n")
    assert read_run(tmp_path).folder == run
    assert read_run(tmp_path).config == {"scale": 4}


@pytest.mark.parametrize("text", ["a: [", "- a", "a: 1", "\udce9"])
def test_a_folder_without_a_configuration_is_no_run(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="set run=FOLDER of a training"):
        read_run(tmp_path)


def test_a_plot_states_its_values_and_has_ids_of_its_own() -> None:
    line = Line("psnr", np.arange(1000), np.linspace(20, 30, 1000))
    first, second = (plot_lines("Curve", [line], "step").svg for _ in range(2))
    assert 'aria-label="Curve, from left to right: psnr 20 to 30"' in first
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= own


def contrast(a: str, b: str) -> float:
    """The contrast of two colours (WCAG 2.2), 1 to 21."""

    def luminance(colour: str) -> float:
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_plots_have_contrast_in_both_schemes() -> None:
    css = (FILES / "report.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in css.split("@media")[:2]]
    assert all(len(scheme) == 8 for scheme in schemes)
    for scheme in schemes:
        names = itertools.product(("ink", "faint", "link", "failed"), ("page", "panel", "mark"))
        for text, ground in names:
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground, scheme)
        assert all(contrast(colour, scheme["page"]) >= 3 for colour in COLOURS)
