import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.data.pairs import Pair, hold_out, keep_large, list_pairs
from realsr.imaging import ImageError

MakePairs = Callable[..., Path]


def test_pairs_are_matched_by_name_and_sorted(make_pairs: MakePairs) -> None:
    folder = make_pairs({"b": (8, 9), "a": (10, 8)})
    (folder / "HR" / "notes.txt").write_text("no image")
    assert list_pairs(folder, 2) == [
        Pair(name, folder / "HR" / f"{name}.png", folder / "LR" / f"{name}.png")
        for name in ("a", "b")
    ]


@pytest.mark.parametrize("kind", ["HR", "LR"])
def test_a_missing_folder_names_the_command_that_makes_it(kind: str, make_pairs: MakePairs) -> None:
    folder = make_pairs({"a": (8, 8)})
    (folder / kind / "a.png").unlink()
    with pytest.raises(ImageError, match=f"{kind} has no images"):
        list_pairs(folder, 2)
    (folder / kind).rmdir()
    with pytest.raises(UserError, match=rf"{kind}: no such folder.*realsr\.make_pairs"):
        list_pairs(folder, 2)


def test_unequal_names_are_listed(make_pairs: MakePairs) -> None:
    folder = make_pairs(dict.fromkeys("abcdefgh", (8, 8)))
    for name in "bcdefg":
        (folder / "LR" / f"{name}.png").unlink()
    with pytest.raises(UserError, match=r"only .*HR has b, c, d, e, f, g\."):
        list_pairs(folder, 2)


def test_wrong_sizes_are_told_with_the_scale(make_pairs: MakePairs) -> None:
    folder = make_pairs({"a": (8, 10)})
    with pytest.raises(UserError, match=r"at scale=4.*a \(HR 20x16, LR 10x8\)"):
        list_pairs(folder, 4)


def test_a_file_that_is_no_image_is_named(make_pairs: MakePairs) -> None:
    folder = make_pairs({"a": (8, 8)})
    (folder / "LR" / "a.png").write_bytes(b"half")
    with pytest.raises(UserError, match=r"LR/a\.png: not a readable image"):
        list_pairs(folder, 2)


def pairs_named(count: int) -> list[Pair]:
    return [Pair(f"p{i}", Path(f"HR/p{i}.png"), Path(f"LR/p{i}.png")) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [(20, 0.1, 2), (5, 0.1, 1), (2, 0.9, 1), (1, 0.5, 0), (10, 0.0, 0), (10, 0.99, 9)],
)
def test_hold_out_splits_into_disjoint_parts(count: int, fraction: float, held: int) -> None:
    pairs = pairs_named(count)
    kept, out = hold_out(pairs, fraction, seed=0)
    assert len(out) == held
    assert kept, "something is left to train on"
    assert sorted(kept + out, key=pairs.index) == pairs


def test_hold_out_depends_on_names_and_seed_and_not_on_the_order() -> None:
    pairs = pairs_named(30)
    out = {pair.name for pair in hold_out(pairs, 0.2, seed=0)[1]}
    assert {pair.name for pair in hold_out(pairs[::-1], 0.2, seed=0)[1]} == out
    assert {pair.name for pair in hold_out(pairs, 0.2, seed=1)[1]} != out


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match=rf"data\.held_out={fraction}: expected"):
        hold_out(pairs_named(3), fraction, seed=0)


def test_keep_large_leaves_out_what_has_no_room(
    make_pairs: MakePairs, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = list_pairs(make_pairs({"exact": (8, 9), "narrow": (20, 7), "large": (20, 20)}), 2)
    with caplog.at_level(logging.WARNING):
        assert [pair.name for pair in keep_large(pairs, 16)] == ["exact", "large"]
    assert "1 pairs are ignored, since they are smaller than a crop of 16: narrow" in caplog.text
    with pytest.raises(
        UserError, match=r"no HR image is as large as a crop of 48.*smaller trainer\.crop"
    ):
        keep_large(pairs, 48)


def test_pairs_made_elsewhere_may_have_the_names_of_published_sets(make_pairs: MakePairs) -> None:
    folder = make_pairs({"a": (8, 8), "b": (8, 8)})
    for kind, ending in (("HR", "_HR"), ("LR", "_LR2")):
        for name in "ab":
            (folder / kind / f"{name}.png").rename(folder / kind / f"{name}{ending}.png")
    pairs = list_pairs(folder, 2)
    assert [(pair.name, pair.hr.name, pair.lr.name) for pair in pairs] == [
        (f"{name}_HR", f"{name}_HR.png", f"{name}_LR2.png") for name in "ab"
    ]
    (folder / "LR" / "a_LR2.png").rename(folder / "LR" / "low_a.png")
    (folder / "LR" / "b_LR2.png").rename(folder / "LR" / "low_b.png")
    assert [pair.lr.name for pair in list_pairs(folder, 2, lr_name="low_{}")] == [
        "low_a.png",
        "low_b.png",
    ]
