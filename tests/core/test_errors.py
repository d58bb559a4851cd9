from pathlib import Path

import pytest

from realsr.core.errors import UserError, import_extra


def test_a_library_that_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(UserError, match=r"photos needs none: pip install 'realsr\[extra\]'"):
        import_extra("none", "photos", "extra")


def test_the_cause_is_named_if_an_installed_library_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text("from math import nonexistent\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"cannot be imported \(cannot import name 'nonexistent'"):
        import_extra("broken_library", "photos", "extra")
