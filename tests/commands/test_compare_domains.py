import json
from pathlib import Path

from small_work import TINY, Command

from realsr.data.pool_files import JPEG_TABLES, JpegTables, write_jpeg_tables
from realsr.imaging import read_uint8


def test_pairs_are_compared_with_the_photos(command: Command, make_photos, tmp_path: Path) -> None:
    source = make_photos({"a": (512, 512), "b": (512, 640), "c": (512, 512)}, "photos")
    arguments = ("+track=dped", f"data.source={source}", "work_dir=OUT", *TINY)
    ended = command("make_pairs", *arguments, "pool=bicubic")
    assert ended.code == 0, ended.said
    assert "LR (b, without what online_degradation adds) and the source photos (a)" in ended.said
    pairs = tmp_path / "OUT" / "pairs"
    assert (pairs / "domains.png").is_file()
    record = (pairs / "manifest.json").read_text()
    assert "compare" not in record

    (pairs / "domains.png").unlink()  # nothing is compared again without new pairs
    assert command("make_pairs", *arguments, "pool=bicubic", "compare=false").code == 0
    assert (pairs / "manifest.json").read_text() == record
    assert not (pairs / "domains.png").exists()
    ended = command("make_pairs", *arguments, "pool=bicubic", "compare=false", "work_dir=OUT2")
    assert ended.code == 0, ended.said
    assert not (tmp_path / "OUT2" / "pairs" / "domains.png").exists()

    ended = command(
        "compare_domains", f"a={source}", f"b={pairs / 'LR'}", "output=GAP", "workers=0"
    )
    assert ended.code == 0, ended.said
    assert "classifier" in ended.said
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
        ended = command("compare_domains", *folders, key)
        assert f"is used without {absent} of a pool: set noise_pool_dir=POOL" in ended.said
    table = tuple(range(1, 65))
    write_jpeg_tables(tmp_path / JPEG_TABLES, [JpegTables(table, table, "4:2:0")])
    ended = command("compare_domains", *folders, key, f"noise_pool_dir={tmp_path}")
    assert ended.code == 0, "no noise patches are needed"
    assert "is used without" not in ended.said


def test_wrong_input_is_explained(command: Command, make_photos) -> None:
    source = make_photos({"a": (128, 128), "small": (40, 200)}, "photos")
    ended = command("compare_domains", f"a={source}", f"b={source}", "output=GAP", "workers=0")
    assert ended.code == 1
    assert "200x40 pixels are too few" in ended.said
    ended = command("compare_domains", f"a={source}", f"b={source}", f"output={source}")
    assert ended.code == 1
    assert "the same folder" in ended.said
    keys = ("online_degradation=high_order", "output=GAP")
    ended = command("compare_domains", f"a={source}", f"b={source}", *keys)
    assert ended.code == 1
    assert "makes LR from HR" in ended.said
    keys = ("online_degradation=noise_model", f"noise_pool_dir={source}", "output=GAP")
    ended = command("compare_domains", f"a={source}", f"b={source}", *keys)
    assert ended.code == 1
    assert "noise_model.json: missing" in ended.said
