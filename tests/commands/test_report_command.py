import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_work import TINY, Command, files

from browser import console_messages, open_page, outside_requests
from realsr.provenance.manifest import read_manifest
from realsr.reporting.pages import MAX_BYTES
from realsr.training.run import recorded_threads

SMALL = ("+track=dped", "data.source=photos", *TINY)


class PageFacts(HTMLParser):
    """What the tests ask of a page: ids, links, addresses of pictures, alternatives, text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.alternatives: list[str | None] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.ids += [str(values["id"])] if "id" in values else []
        if tag == "a":
            self.links.append(str(values["href"]))
        if tag == "img":
            self.sources.append(str(values.get("src", "")))
            self.alternatives.append(values.get("alt"))
        if tag == "svg":
            self.alternatives.append(values.get("aria-label"))

    def handle_data(self, data: str) -> None:
        self.text += data


def check(path: Path) -> PageFacts:
    """The page is whole in itself: each link leads to a part of it, and all pictures are in it."""
    assert path.stat().st_size < MAX_BYTES
    page = PageFacts(path)
    assert len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert link.startswith("data:") or link.removeprefix("#") in page.ids, link
    assert all(source.startswith("data:image/") or not source for source in page.sources)
    assert None not in page.alternatives
    assert not re.search(r'(src|href)="https?:', path.read_text(encoding="utf-8"))
    return page


def test_a_run_is_shown_and_can_be_repeated(command: Command, source: Path, tmp_path: Path) -> None:
    # One thread is the tests' setting; the repetition has to take it from the record.
    torch.set_num_threads(2)
    outcome = command("train", *SMALL, "work_dir=A", "pool=kernels_and_noise")
    assert outcome.code == 0, outcome.log
    run = tmp_path / "A/runs/default"
    assert recorded_threads(run) == 2
    outcome = command("report", "run=A/runs/default")
    assert outcome.code == 0, outcome.log
    assert "report   A/runs/default/report.html" in outcome.log
    page = check(run / "report.html")
    for text in (
        "2 of 2, complete", "trainer.max_steps", "realsr_release", "Loss: generator",
        "estimated from", "a tile of", "HR from", "held out of the", "torch",
    ):  # fmt: skip
        assert text in page.text, text
    # The defaults of the track are not listed as differences.
    differences = page.text.partition("Keys that differ")[2].partition("All keys")[0]
    assert "trainer.crop" in differences
    assert "trainer.ema" not in differences
    # Photo -> kernel -> LR -> run, each a link.
    anchors = {link.partition("-")[0] for link in page.links}
    assert anchors >= {"#photo", "#kernel", "#patch", "#pair", "#summary"}

    torch.set_num_threads(1)
    before = files(tmp_path / "A")
    outcome = command("train", "from_run=A/runs/default", "work_dir=B")
    assert outcome.code == 0, outcome.log
    again = tmp_path / "B/runs/default"
    assert recorded_threads(again) == 2
    assert torch.get_num_threads() == 1
    for name in ("generator", "best"):
        a, b = (load_file(folder / f"{name}.safetensors") for folder in (run, again))
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert files(tmp_path / "A") == before, "the run is only read"
    assert {path.name for path in (tmp_path / "B").iterdir()} == {"pool", "pairs", "runs"}

    # Other keys, groups among them, change just those.
    outcome = command("train", "from_run=A/runs/default", "work_dir=C", "seed=5", "loss=pixel")
    assert outcome.code == 0, outcome.log
    a, c = (read_manifest(tmp_path / name / "runs/default")["training"]["config"] for name in "AC")
    gone = {key for key in a if key.startswith(("loss.gan", "discriminator."))}
    assert gone
    assert {key: a[key] for key in a.keys() - gone} == c

    assert "set work_dir=FOLDER" in command("train", "from_run=A/runs/default").log
    outcome = command("train", "+track=dped", "from_run=A/runs/default", "work_dir=D")
    assert "+track=dped: from_run=A/runs/default has its own track: remove it" in outcome.log
    assert "from_run=A: has no config.yaml" in command("train", "from_run=A", "work_dir=D").log
    assert "is a key of realsr.train only" in command("demo", "from_run=A/runs/default").log


def test_a_sweep_of_four_jobs_of_which_one_fails(
    command: Command, source: Path, tmp_path: Path
) -> None:
    outcome = command(
        "train", "-m", "hydra.sweep.dir=OUT/sweep", *SMALL, "trainer.max_steps=1",
        "seed=0,1,2,-1", "work_dir=OUT/${seed}",
    )  # fmt: skip
    assert outcome.code == 1
    outcome = command("report", "sweep=OUT/sweep")
    assert outcome.code == 0, outcome.log
    assert "4 jobs, 1 failed" in outcome.log
    page = check(tmp_path / "OUT/sweep/report.html")
    assert "failed: seed=-1: expected" in page.text
    lines = [
        line for line in outcome.log.splitlines() if re.match(r"\d +(OUT/)?-?\d", line.strip())
    ]
    states = [line.rpartition("  ")[2] for line in lines]
    assert states[:3] == ["complete"] * 3
    scores = json.loads((tmp_path / "OUT/1/runs/default/metrics.json").read_text())["models"]
    assert f"{scores['best']['mean']['psnr']:.2f}" in lines[1]
    assert "has no records of jobs" in command("report", "sweep=OUT/1").log


def test_pools_are_described_and_compared(command: Command, source: Path, tmp_path: Path) -> None:
    arguments = ("+track=dped", f"data.source={source}", *TINY, "pool.estimator.count=4")
    assert command("estimate_kernels", *arguments, "pool=gaussian", "pool_dir=A").code == 0
    assert command("collect_noise", *arguments, "pool_dir=A").code == 0
    assert (
        command("estimate_kernels", *arguments, "pool=gaussian_isotropic", "pool_dir=B").code == 0
    )

    outcome = command("report", "pool_dir=A")
    assert outcome.code == 0, outcome.log
    assert "kernels for scale 2: 4" in outcome.log
    assert "gaussian_0003" in outcome.log
    assert "correlation with G" in outcome.log
    page = check(tmp_path / "A/report.html")
    [data] = [link for link in page.links if link.startswith("data:")]
    facts = json.loads(base64.b64decode(data.partition(",")[2]))
    assert len(facts["kernels"]["x4"]["kernels"]) == 4
    assert facts["noise"]["patches"] == len(list((tmp_path / "A/noise").iterdir()))

    before = files(tmp_path)
    outcome = command("report", "pool_dir=A", "compare=B", "output=new/report.html")
    assert outcome.code == 0, outcome.log
    assert "B - A" in outcome.log
    assert "noise patches: in A only" in outcome.log
    assert {name for name in files(tmp_path) if name not in before} == {"new/report.html"}
    assert "B: 4 kernels" in check(tmp_path / "new/report.html").text

    (tmp_path / "B/kernels/gaussian_0002_kernel_x4.mat").write_bytes(b"torn")
    outcome = command("report", "pool_dir=B")
    assert outcome.code == 1
    assert "skipped because unreadable" in outcome.log
    assert "gaussian_0002_kernel_x4.mat: not a readable .mat file" in outcome.log
    assert "B: 3 kernels" not in check(tmp_path / "B/report.html").text


def test_an_evaluation_is_shown(command: Command, source: Path, tmp_path: Path) -> None:
    outcome = command(
        "evaluate", "weights=[bicubic]", "data.hr=photos", "output=E", "save_images=true",
        "figures=[a]", "device=cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    outcome = command("report", "evaluation=E")
    assert outcome.code == 0, outcome.log
    page = check(tmp_path / "E/report.html")
    mean = json.loads((tmp_path / "E/metrics.json").read_text())["models"]["bicubic"]["mean"]
    assert f"{mean['psnr']:.2f}" in page.text
    assert "crops of a by each model" in page.alternatives


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to show: set one of run=DIR, sweep=DIR, pool_dir=DIR or evaluation=DIR"),
        (("run=photos", "sweep=photos"), "run=photos sweep=photos: set one of"),
        (("run=nowhere",), "run=nowhere: no such folder"),
        (("run=photos",), "run=photos: has no config.yaml"),
        (("evaluation=photos",), "evaluation=photos: has no metrics.json"),
        (("pool_dir=photos",), "photos: has neither kernels"),
        (("run=photos", "compare=photos"), "compare=photos: compares two pools"),
        (("run=photos", "output=photos/a.png"), "output=photos/a.png: expected a file FILE.html"),
    ],
    ids=str,
)
def test_what_cannot_be_shown_is_refused(
    arguments: tuple[str, ...], message: str, command: Command, source: Path
) -> None:
    outcome = command("report", *arguments)
    assert outcome.code == 1
    assert message in outcome.log


def test_a_page_works_in_a_browser(command: Command, source: Path, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import Select

    assert command("train", *SMALL, "work_dir=A", "pool=kernels_and_noise").code == 0
    assert command("report", "run=A/runs/default").code == 0
    with open_page(tmp_path / "A/runs/default/report.html") as driver:
        slider = driver.find_element("css selector", "img-comparison-slider")

        def position() -> int:
            return int(slider.get_attribute("aria-valuenow"))

        # The divider moves by the pointer and by the keys.
        assert position() == 50
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
        offset = slider.size["width"] // 4
        ActionChains(driver).move_to_element_with_offset(slider, offset, 0).click().perform()
        assert position() == pytest.approx(75, abs=2)
        ActionChains(driver).key_down(Keys.LEFT).pause(0.5).key_up(Keys.LEFT).perform()
        assert position() < 75

        # A choice changes the picture.
        left = driver.find_element("css selector", "select[data-side=left]")
        image = driver.find_element("css selector", "[slot=first]")
        source_before = image.get_attribute("src")
        Select(left).select_by_visible_text("LR")
        assert image.get_attribute("src") != source_before
        assert image.get_attribute("alt").startswith("LR of")
        assert driver.execute_script("return arguments[0].naturalWidth", image) > 0

        # From the run back to a photo, by the links.
        for kind in ("pair", "kernel", "photo"):
            link = driver.find_element("css selector", f"a[href^='#{kind}-']")
            target = link.get_attribute("href").partition("#")[2]
            driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
            link.click()
            card = driver.find_element("css selector", ":target")
            assert card.get_attribute("id") == target
            assert card.is_displayed()

        assert console_messages(driver) == []
        assert outside_requests(driver) == []
    # On a phone nothing but tables, plots and text in frames is wider than the window.
    with open_page(tmp_path / "A/runs/default/report.html", width=390, dark=True) as driver:
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", colour))) < 60
