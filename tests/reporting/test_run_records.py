"""Records of a run, read from its folder."""

from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.reporting.run_records import read_run


def test_the_folder_of_an_adaptation_has_the_records_of_its_training(tmp_path: Path) -> None:
    run = tmp_path / "work/runs/adapt"
    run.mkdir(parents=True)
    with pytest.raises(UserError, match=r"has no config\.yaml: set run=FOLDER of a training"):
        read_run(tmp_path)
    (run / "config.yaml").write_text("scale: 4\n")
    assert read_run(tmp_path).folder == run
    assert read_run(tmp_path).config == {"scale": 4}
