"""The code of the notebooks runs, with small models. Outputs are not stored."""

import json
from functools import partial

import pytest

from llm4rec_cli import api
from tests.docs.commands import DOCS

SMALL = ("model.hidden_size=16", "model.inner_size=16", "model.layers=1", "trainer.epochs=1", "task.max_examples=50")
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def code_cells(notebook):
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_the_cells_of_a_notebook_run(notebook, tmp_path, cache, monkeypatch, capfd):
    def small(function, *overrides, **options):
        return function(*overrides, *SMALL, **options)

    for name in ("train", "evaluate"):
        monkeypatch.setattr(api, name, partial(small, getattr(api, name)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    names = {}
    for cell in code_cells(notebook):
        exec("".join(cell["source"]), names)
    assert capfd.readouterr().err == ""
    assert len(names["table"]) == 6  # four floors and two models
    assert len(names["predictions"].columns) > 5


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_is_stored_without_outputs(notebook):
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(notebook))


def test_there_is_a_notebook():
    assert NOTEBOOKS
