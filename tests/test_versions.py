"""constraints.txt: the tested versions lie in the ranges that pyproject.toml allows, and none is missing."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TESTED = {
    canonicalize_name(name): version
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
    for name, version in [line.split("==")]
}
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.mark.parametrize("declared", DECLARED)
def test_a_tested_version_is_allowed(declared):
    requirement = Requirement(declared)
    assert requirement.specifier.contains(TESTED[canonicalize_name(requirement.name)], prereleases=True)
