"""The notebooks of the documentation: they run, and their recorded outputs are those of their code."""

import copy
import json
import sys
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (extra dev)")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra dev)")
pytest.importorskip("skimage", reason="scikit-image is not installed (extra demo)")
pytest.importorskip("spandrel", reason="spandrel is not installed (extra spandrel)")

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
import record_notebooks  # noqa: E402

SLOW = {"evaluate_folder", "own_photos"}
ADVICE = "run python docs/record_notebooks.py"
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
RUNS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW))
    for path in NOTEBOOKS
]


@pytest.mark.parametrize("path", RUNS)
def test_a_notebook_runs_and_gives_the_recorded_kinds_of_outputs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent / "src"))
    recorded = nbformat.read(path, as_version=4)
    fresh = record_notebooks.record(record_notebooks.execute(recorded, tmp_path), tmp_path)
    for old, new in zip(recorded.cells, fresh.cells, strict=True):
        if new.cell_type == "code":
            kinds = record_notebooks.list_kinds(old)
            assert kinds == record_notebooks.list_kinds(new), f"{ADVICE}\n{new.source}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_recorded_outputs_belong_to_the_code_and_are_small_and_without_paths(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.recorded.sources == record_notebooks.hash_sources(notebook), ADVICE
    assert len(text.encode()) <= record_notebooks.MAX_BYTES
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any("image" in kind for cell in code for kind in record_notebooks.list_kinds(cell))
    for cell in code:
        assert cell.execution_count is None
        assert not any(output.output_type == "error" for output in cell.outputs)
        assert not {output.get("name") for output in cell.outputs} & {"stderr"}
        assert "/tmp" not in json.dumps(cell.outputs)
        assert str(Path.home()) not in json.dumps(cell.outputs)


def test_a_changed_code_cell_is_noticed_and_a_changed_text_is_not() -> None:
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    expected = record_notebooks.hash_sources(notebook)
    for kind, same in (("markdown", True), ("code", False)):
        changed = copy.deepcopy(notebook)
        next(cell for cell in changed.cells if cell.cell_type == kind).source += " "
        assert (record_notebooks.hash_sources(changed) == expected) == same


def test_a_record_has_no_durations_paths_counts_or_messages(tmp_path: Path) -> None:
    output = nbformat.v4.new_output
    cell = nbformat.v4.new_code_cell(
        "1", execution_count=3, metadata={"execution": {"iopub.execute_input": "12:00"}}
    )
    cell.outputs = [
        output("stream", name="stdout", text=f"{tmp_path}/work/a.png in 12.5 s, 3 steps"),
        output("stream", name="stderr", text="warning"),
        output("execute_result", data={"text/plain": f"'{tmp_path}'"}, execution_count=3),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    [recorded] = record_notebooks.record(notebook, tmp_path).cells
    assert (recorded.execution_count, recorded.metadata) == (None, {})
    stream, result = recorded.outputs
    assert stream.text == "work/a.png in … s, 3 steps"
    assert result == {
        "output_type": "execute_result",
        "metadata": {},
        "data": {"text/plain": "'.'"},
        "execution_count": None,
    }
