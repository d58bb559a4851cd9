from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from realsr.core.components import bind, build_component, find_component, list_components
from realsr.core.errors import UserError
from realsr.core.ranges import Range


class Blur:
    def __init__(
        self,
        width: Annotated[float, Range(above=0)],
        sizes: tuple[int, int],
        file: Path | None,
        mode: Literal["soft", "hard"],
        scale: int,
    ) -> None:
        self.values = width, sizes, file, mode, scale


VALUES = {"name": "x.Blur", "width": 2, "sizes": [3, 4], "file": "a.mat", "mode": "soft"}


def arguments(**changes: Any) -> Mapping[str, Any]:
    return bind(Blur, "kernels", VALUES | changes, {"scale": 4, "device": "cpu"})


def test_values_take_the_types_of_the_signature() -> None:
    bound = arguments()
    assert bound == {
        "width": 2.0,
        "sizes": (3, 4),
        "file": Path("a.mat"),
        "mode": "soft",
        "scale": 4,
    }
    assert isinstance(bound["width"], float)
    assert arguments(file=None)["file"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "kernels.width=0.0: expected above 0"),
        ({"width": "wide"}, "kernels.width=wide: expected a number"),
        ({"width": True}, "kernels.width=True: expected a number"),
        ({"sizes": [3]}, r"kernels.sizes=\[3\]: expected a list in brackets of 2"),
        ({"mode": "mild"}, "kernels.mode=mild: expected one of soft, hard"),
        (
            {"with": 1},
            "unknown key kernels.with. Did you mean kernels.width.*x.Blur has: width, sizes, file, mode",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        arguments(**changes)


def test_a_missing_value_is_asked_for() -> None:
    with pytest.raises(
        UserError, match=r"kernels: x.Blur needs width, file: set kernels.width=… kernels.file=…"
    ):
        bind(Blur, "kernels", {"name": "x.Blur", "sizes": [1, 2], "mode": "hard"}, {"scale": 4})


def test_a_short_name_is_a_file_of_the_room() -> None:
    assert {"rrdb", "patchgan", "vgg128"} <= set(list_components("realsr.networks"))
    assert find_component("realsr.networks", "generator", {"name": "rrdb"}).__name__ == "RRDB"
    with pytest.raises(
        UserError,
        match=r"generator.name=rddb: expected one of .*rrdb.*, or a custom module.Class",
    ):
        find_component("realsr.networks", "generator", {"name": "rddb"})


def test_own_code_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_blur_component.py").write_text(
        "class Box:\n    def __init__(self, **values):\n        self.values = values\n"
    )
    box = build_component(
        "realsr.networks", "kernels", {"name": "own_blur_component.Box", "side": 3}, scale=2
    )
    assert box.values == {"side": 3}
    with pytest.raises(UserError, match=r"has no Ball; it defines Box"):
        build_component("realsr.networks", "kernels", {"name": "own_blur_component.Ball"})


def test_a_failure_of_own_code_names_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_broken_component.py").write_text(
        "class Box:\n    def __init__(self, side):\n        1 / side\n"
    )
    with pytest.raises(
        UserError,
        match=r"calling it with \(side=0\) failed: ZeroDivisionError.*component.py, line 3",
    ):
        build_component(
            "realsr.networks", "kernels", {"name": "own_broken_component.Box", "side": 0}
        )
