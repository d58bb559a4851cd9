from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.evaluation.tables import check_names, shorten_names


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["bicubic", "df2k"], ["bicubic", "df2k"]),
        (["work/dped/runs/default"], ["dped/runs/default"]),
        (
            ["work/dped/runs/default", "work/df2k/runs/default"],
            ["dped/runs/default", "df2k/runs/default"],
        ),
        (["runs/a", "runs/b/"], ["a", "b"]),
        (["runs/a/generator.safetensors", "runs/a/best.safetensors"], ["a", "a/best"]),
        (["x/a", "y/a"], ["x/a", "y/a"]),
        (["a", "x/a"], ["a", "x/a"]),
        (["/far/models/models-DF2K_JPEG", "best.pth"], ["models-DF2K_JPEG", "best"]),
        (["run", "run/generator.safetensors"], ["run", "run/generator.safetensors"]),
        (
            ["a/runs/default", "a/runs/default, strength 0.5", "b/x.pth, strength 0"],
            ["a/runs/default", "a/runs/default, strength 0.5", "x, strength 0"],
        ),
    ],
)
def test_short_names_tell_models_apart(names: list[str], short: list[str]) -> None:
    assert list(shorten_names(names).values()) == short
    assert len(set(short)) == len(short)


def test_folders_without_a_name_have_that_of_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "run")
    assert shorten_names([".", "..", "bicubic"]) == {".": "run", "..": "work", "bicubic": "bicubic"}
    assert shorten_names(["x/..", ".."]) == {"x/..": "run", "..": "work"}


@pytest.mark.parametrize(
    "names", [["runs/a", "runs/a/"], ["./a", "a"], ["bicubic", "bicubic"], ["x/../a.pth", "a.pth"]]
)
def test_one_model_is_named_once(names: list[str]) -> None:
    with pytest.raises(UserError, match="are the same; name each model once"):
        check_names(names, ["bicubic", "df2k"])


def test_a_published_name_is_no_path() -> None:
    check_names(["bicubic", "df2k", "./df2k", "runs/a", "runs/b"], ["bicubic", "df2k"])
