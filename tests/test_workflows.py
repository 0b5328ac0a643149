"""The files that GitHub reads fit their schemas, and name scripts and folders of this repository."""

import re
from pathlib import Path

import check_jsonschema
import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = [file for file in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if file.name != "config.yml"]
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [ROOT / ".github/ISSUE_TEMPLATE/config.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_fit_their_schema(schema, capsys):
    files = [str(file) for file in SCHEMAS[schema]]
    code = check_jsonschema.main(["--builtin-schema", schema, *files], standalone_mode=False)
    assert (code or 0) == 0, capsys.readouterr().out


def test_workflows_call_scripts_that_exist():
    called = {name for file in WORKFLOWS for name in re.findall(r"scripts/[\w.]+", file.read_text(encoding="utf-8"))}
    assert {"scripts/test.sh", "scripts/test_versions.sh"} <= called
    assert [name for name in sorted(called) if not (ROOT / name).is_file()] == []


def test_the_image_copies_what_its_build_needs():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    used = re.findall(r"/source/(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    included = re.search(r"^include = \[(.*)\]", project, re.MULTILINE)[1]
    needed = {*used, *re.findall('"/([^"]+)"', included)}
    assert {"constraints.txt", "conf", "README.md"} <= needed
    assert [name for name in needed if name in ignored or not (ROOT / name).exists()] == []
