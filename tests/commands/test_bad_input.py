import errno
import re
from functools import partial
from pathlib import Path

import pytest
from small_work import TINY, Command, files, write_photos

from config_files import takes
from full_disk import full_disk

STAGES = ("estimate_kernels", "collect_noise", "make_pairs", "train", "check_data")


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ([], "has no images; expected"),
        (["notes.txt"], "has no images; expected"),
        (["inner/a.png"], "Its subfolders inner contain images"),
    ],
)
def test_folders_without_photos(
    name: str, content: list[str] | None, message: str, command: Command, tmp_path: Path
) -> None:
    for file in content or []:
        (tmp_path / "photos" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / file).write_bytes(b"x")
    if content == []:
        (tmp_path / "photos").mkdir()
    outcome = command(name, "+track=dped", "data.source=photos", "work_dir=out", *TINY)
    assert outcome.code == 1
    assert message in outcome.log
    assert not files(tmp_path / "out")


def test_no_source_given(command: Command) -> None:
    outcome = command("train", "+track=dped", *TINY)
    assert outcome.code == 1
    assert "data.source is not set" in outcome.log
    assert "set data.source=FOLDER" in outcome.log


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("scale=5", "scale=5: expected 1, 2, 3, 4 or 8"),
        (
            "online_degradation=noise_jpeg online_degradation.quality=[95,30]",
            "online_degradation.quality=[95, 30]: expected [lowest,highest]",
        ),
        ("trainer.best_by=fid", "trainer.best_by=fid: expected one of psnr, ssim, lpips"),
        (
            "kernels.name=guess",
            "kernels.name=guess: expected one of camera, from_mat, gaussian, kernelgan, spectral",
        ),
        ("kernels.seeds=0", "kernels.seeds=0: expected 1 or more"),
        (
            "kernels.gates.max_x=9",
            "kernels.gates.max_x: expected min_ or max_ and the name of a reported number (sum",
        ),
        (
            "pool=from_mat",
            "folder=None: no such folder; set pool.estimator.folder to a folder of .mat files",
        ),
        ("pairs.hr=[source,target]", "data.target is not set"),
        ("pairs.clean_up=0", "pairs.clean_up=0: expected 1 or more"),
        ("trainer.crop=30", "trainer.crop=30: expected a multiple of scale=4"),
    ],
)
def test_what_a_later_stage_cannot_do_is_refused_by_the_first(
    argument: str, message: str, command: Command, source: Path, tmp_path: Path
) -> None:
    arguments = [value for value in TINY if value.partition("=")[0] != argument.partition("=")[0]]
    outcome = command(
        "train", "+track=dped", "data.source=photos", "work_dir=out", *arguments, *argument.split()
    )
    assert outcome.code == 1
    assert message in outcome.log
    assert not files(tmp_path / "out")


@pytest.mark.parametrize("name", ["estimate_kernels", "collect_noise", "make_pairs"])
def test_a_truncated_file_among_good_ones(
    name: str, command: Command, source: Path, tmp_path: Path
) -> None:
    bad = source / "b.png"
    bad.write_bytes(bad.read_bytes()[:500])
    arguments = ("+track=dped", "data.source=photos", "work_dir=out", "pool=noise_only", *TINY)
    outcome = command(name, *arguments)
    assert outcome.code == 1
    assert "1 of 3 failed" in outcome.log
    assert "b.png" in outcome.log
    assert "Repair or remove these files, then repeat the command" in outcome.log
    summaries = ("manifest.json", "kernels.png")
    made = {
        path: time for path, time in files(tmp_path / "out").items() if not path.endswith(summaries)
    }
    assert {re.split(r"[_.]", Path(path).name)[0] for path in made} == {"a", "c"}
    assert command(name, *arguments).code == 1, "as long as the file is there"
    bad.unlink()
    assert command(name, *arguments).code == 0
    after = files(tmp_path / "out")
    assert {path: after[path] for path in made} == made, "what was done is not done again"


def test_train_stops_at_a_truncated_file_and_goes_on_when_it_is_gone(
    command: Command, source: Path
) -> None:
    (source / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    arguments = ("+track=dped", "data.source=photos", "work_dir=out", *TINY)
    outcome = command("train", *arguments)
    assert outcome.code == 1
    assert "b.png" in outcome.log
    (source / "b.png").unlink()
    assert command("train", *arguments).code == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "estimate_kernels",
            "60x40 pixels are too few for kernel estimation; use a photo of at least 66",
        ),
        ("collect_noise", "60x40 pixels are too few for a noise tile of 64"),
    ],
)
def test_photos_that_are_too_small(name: str, message: str, command: Command, source: Path) -> None:
    write_photos(source, "s", (40, 60))
    outcome = command(
        name,
        "+track=dped",
        "data.source=photos",
        "work_dir=out",
        *TINY,
        "noise.size=64",
        "noise.max_variance=5000",
    )
    assert outcome.code == 1
    assert "s.png" in outcome.log
    assert message in outcome.log


def test_pairs_smaller_than_a_crop(command: Command, source: Path) -> None:
    outcome = command(
        "train", "+track=dped", "data.source=photos", "work_dir=out", *TINY, "trainer.crop=64"
    )
    assert outcome.code == 1
    assert "no HR image is as large as a crop of 64" in outcome.log


def test_no_noise_found_says_what_threshold_would(
    command: Command, source: Path, tmp_path: Path
) -> None:
    arguments = ("+track=dped", "data.source=photos", "work_dir=out", *TINY)
    outcome = command("collect_noise", *arguments, "noise.max_variance=0.5")
    assert outcome.code == 1
    assert "none of 108 tiles" in outcome.log
    assert "Variances of the" in outcome.log
    found = re.search(r"noise\.max_variance=([\d.]+) would yield up to (\d+) patches", outcome.log)
    assert found
    outcome = command("collect_noise", *arguments, f"noise.max_variance={found[1]}")
    assert outcome.code == 0, "and it can be said at once, without overwrite"
    assert len(list((tmp_path / "out/pool/noise").iterdir())) == int(found[2])


@pytest.mark.parametrize("name", STAGES)
def test_the_source_is_not_written_into(name: str, command: Command, source: Path) -> None:
    before = files(source)
    for argument in filter(
        partial(takes, name), ("work_dir=photos", "pool_dir=photos", "pairs_dir=photos")
    ):
        outcome = command(name, "+track=dped", "data.source=photos", *TINY, argument)
        assert outcome.code == 1
        assert "the same folder" in outcome.log
        assert "choose another work_dir" in outcome.log
    assert files(source) == before


def test_one_name_in_source_and_target(command: Command, source: Path, target: Path) -> None:
    write_photos(target, "a", (64, 64))
    outcome = command(
        "make_pairs",
        "+track=df2k",
        "data.source=photos",
        "data.target=clean",
        "work_dir=out",
        *TINY,
    )
    assert outcome.code == 1
    assert "a is in both data.source and data.target" in outcome.log


@pytest.mark.parametrize("name", ["estimate_kernels", "make_pairs", "train"])
@pytest.mark.parametrize(
    "depth", ["out", "out/pool", "out/pool/kernels", "out/pairs", "out/pairs/LR", "out/runs"]
)
def test_a_file_where_a_folder_should_be(
    name: str, depth: str, command: Command, source: Path, tmp_path: Path
) -> None:
    (tmp_path / depth).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / depth).write_text("precious")
    arguments = (
        "pairs.hr=[source]",
        "kernels=kernelgan",
        "data.source=photos",
        "work_dir=out",
        *TINY,
    )
    outcome = command(name, "+track=df2k", *arguments)
    needed = {"estimate_kernels": "pool", "make_pairs": "pairs"}.get(name)
    if (needed and depth != "out" and needed not in depth) or (name, depth) == (
        "train",
        "out/pool/kernels",
    ):
        assert outcome.code == 0, "it has nothing to do there: df2k shrinks by bicubic"
    else:
        assert outcome.code == 1, outcome.log
        assert f"{depth} is a file, but a folder is expected: set another" in outcome.log
    assert (tmp_path / depth).read_text() == "precious"


@pytest.mark.parametrize("output", ["plain", "plain/new"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("evaluate", ("weights=[bicubic]", "data.hr=photos", "output={}")),
        ("export", ("weights=nowhere", "output={}/onnx")),
        ("export", ("weights=nowhere", "output={}/generator.pth")),
        ("survey_noise", ("+track=df2k", "data.source=photos", "noise_pool_dir={}", *TINY)),
    ],
)
def test_a_file_where_an_output_should_be(
    output: str,
    name: str,
    arguments: tuple[str, ...],
    command: Command,
    source: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "plain").write_text("precious")
    outcome = command(name, *(argument.format(output) for argument in arguments))
    assert outcome.code == 1
    assert "plain is a file, but a folder is expected: set another" in outcome.log
    assert (tmp_path / "plain").read_text() == "precious"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["estimate_kernels", "collect_noise", "make_pairs", "train"])
def test_a_full_disk_or_a_read_only_place(
    name: str, code: int, command: Command, source: Path, tmp_path: Path
) -> None:
    arguments = (
        "+track=df2k",
        "kernels=kernelgan",
        "pairs.hr=[source]",
        "data.source=photos",
        "work_dir=out",
        *TINY,
    )
    with full_disk(code, writes=2):
        outcome = command(name, *arguments)
    assert outcome.code == 1, outcome.log
    assert "the disk says no" in outcome.log
    assert "Traceback" not in outcome.log
    assert not [path for path in files(tmp_path / "out") if path.endswith(".tmp")]
    outcome = command(name, *arguments)
    assert outcome.code == 0, outcome.log


def test_missing_vgg_weights(
    command: Command, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    arguments = ("+track=dped", "data.source=photos", "work_dir=out", *TINY, "loss=realsr")
    outcome = command("train", *arguments)
    assert outcome.code == 1
    for way in (" into ", "loss.perceptual.weights=FILE", "loss.perceptual.weight=0"):
        assert way in outcome.log
    assert not (tmp_path / "out").exists()
    assert command("train", *arguments, "loss.perceptual.weight=0").code == 0, "the third, at once"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("trainer.device=cuda:99", "device=cuda:99: "),
        ("trainer.crop=18", "trainer.crop=18: expected a multiple of scale=4"),
        ("discriminator=vgg128", "needs images of 128x128 pixels"),
        ("scale=3", "3"),
    ],
)
def test_what_cannot_be_trained_is_told_before_the_work(
    argument: str, message: str, command: Command, source: Path, tmp_path: Path
) -> None:
    outcome = command("train", "+track=dped", "data.source=photos", "work_dir=out", *TINY, argument)
    assert outcome.code == 1
    assert message in outcome.log
    assert not (tmp_path / "out").exists()


def test_check_data_says_what_is_there_and_what_is_not(
    command: Command, source: Path, target: Path
) -> None:
    outcome = command("check_data", "+track=df2k", "data.source=photos")
    assert outcome.code == 1
    assert (
        "3 images from 96x96 to 96x96 (the track's data set has 2650 images: Flickr2K corrupted"
        in outcome.log
    )
    assert "3 of 3 photos are narrower than two noise tiles (noise.size=256)" in outcome.log
    assert "data.target is not given" in outcome.log
    assert (
        "data.validation: not given, optional (the track's data set has 100 images" in outcome.log
    )
    arguments = ("+track=df2k", "data.source=photos", "data.target=clean")
    outcome = command(
        "check_data", *arguments, "init=nowhere.pth", "loss.perceptual.weights=vgg.pth"
    )
    assert outcome.code == 1
    assert "init: nowhere.pth: no such file" in outcome.log
    assert "loss.perceptual.weights=vgg.pth: no such file" in outcome.log
    outcome = command("check_data", *arguments)
    assert outcome.code == 0
    assert "all photos that track df2k needs can be read" in outcome.log
    (target / "z.jpg").write_bytes(b"half")
    outcome = command("check_data", *arguments)
    assert outcome.code == 1
    assert "2 images from 66x49 to 66x49, 1 unreadable" in outcome.log
    assert "z.jpg" in outcome.log
