import json
from pathlib import Path

from small_work import TINY, Command

from realsr.data.pool_files import JPEG_TABLES, JpegTables, write_jpeg_tables
from realsr.imaging import read_uint8


def test_pairs_are_compared_with_the_photos(command: Command, make_photos, tmp_path: Path) -> None:
    source = make_photos({"a": (512, 512), "b": (512, 640), "c": (512, 512)}, "photos")
    arguments = ("+track=dped", f"data.source={source}", "work_dir=OUT", *TINY)
    outcome = command("make_pairs", *arguments, "pool=bicubic")
    assert outcome.code == 0, outcome.log
    assert "LR (b, without what online_degradation adds) and the source photos (a)" in outcome.log
    pairs = tmp_path / "OUT" / "pairs"
    assert (pairs / "domains.png").is_file()
    record = (pairs / "manifest.json").read_text()
    assert "compare" not in record

    (pairs / "domains.png").unlink()  # nothing is compared again without new pairs
    assert command("make_pairs", *arguments, "pool=bicubic", "compare=false").code == 0
    assert (pairs / "manifest.json").read_text() == record
    assert not (pairs / "domains.png").exists()
    outcome = command("make_pairs", *arguments, "pool=bicubic", "compare=false", "work_dir=OUT2")
    assert outcome.code == 0, outcome.log
    assert not (tmp_path / "OUT2" / "pairs" / "domains.png").exists()

    outcome = command(
        "compare_domains", f"a={source}", f"b={pairs / 'LR'}", "output=GAP", "workers=0"
    )
    assert outcome.code == 0, outcome.log
    assert "classifier" in outcome.log
    facts = json.loads((tmp_path / "GAP" / "domains.json").read_text())
    assert facts["a"]["photos"] == ["a", "b", "c"]
    assert read_uint8(tmp_path / "GAP" / "domains.png").shape[2] == 3


def test_a_degradation_without_the_files_of_its_pool_is_reported(
    command: Command, make_photos, tmp_path: Path
) -> None:
    source = make_photos({"a": (256, 256)}, "photos")
    folders = (f"a={source}", f"b={source}", "output=GAP", "workers=0")
    for name, absent in (("Grain", "noise"), ("Blocks", "jpeg_tables")):
        key = f"online_degradation={{name: toy_degradation.{name}}}"
        outcome = command("compare_domains", *folders, key)
        assert f"is used without {absent} of a pool: set noise_pool_dir=POOL" in outcome.log
    table = tuple(range(1, 65))
    write_jpeg_tables(tmp_path / JPEG_TABLES, [JpegTables(table, table, "4:2:0")])
    outcome = command("compare_domains", *folders, key, f"noise_pool_dir={tmp_path}")
    assert outcome.code == 0, "no noise patches are needed"
    assert "is used without" not in outcome.log


def test_wrong_input_is_explained(command: Command, make_photos) -> None:
    source = make_photos({"a": (128, 128), "small": (40, 200)}, "photos")
    outcome = command("compare_domains", f"a={source}", f"b={source}", "output=GAP", "workers=0")
    assert outcome.code == 1
    assert "200x40 pixels are too few" in outcome.log
    outcome = command("compare_domains", f"a={source}", f"b={source}", f"output={source}")
    assert outcome.code == 1
    assert "the same folder" in outcome.log
    keys = ("online_degradation=high_order", "output=GAP")
    outcome = command("compare_domains", f"a={source}", f"b={source}", *keys)
    assert outcome.code == 1
    assert "makes LR from HR" in outcome.log
    keys = ("online_degradation=noise_model", f"noise_pool_dir={source}", "output=GAP")
    outcome = command("compare_domains", f"a={source}", f"b={source}", *keys)
    assert outcome.code == 1
    assert "noise_model.json: missing" in outcome.log
