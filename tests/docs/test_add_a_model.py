"""The model of docs/develop/add-a-model.md is complete: copied from the page, it is valid, trains and conforms."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.commands import DOCS, ROOT

PAGE = (DOCS / "develop/add-a-model.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
SECONDS = 600  # for each command


@pytest.mark.slow
def test_the_model_of_the_page_is_a_whole_one(tmp_path):
    for folder in ("llm4rec_cli", "conf", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("llm4rec_cli", "validate", "model/running_mean", "search/running_mean")
    assert "running_mean" in run("llm4rec_cli", "train", "model=running_mean", "trainer.epochs=1")
    assert "passed" in run("pytest", "-n", "0", "-q", "tests/models/test_conformance.py", "-k", "running_mean")
