"""The README: short, with badges that tell the truth, links that lead somewhere, and commands that work."""

import re
import tomllib

import yaml

from llm4rec_cli import __version__
from tests.docs.commands import README, lines
from tests.support.driver import call

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def badge(name: str) -> str:
    """What a badge shows, as its title says."""
    picture = (ROOT / f"docs/assets/badge-{name}.svg").read_text(encoding="utf-8")
    return re.search("<title>(.*)</title>", picture)[1]


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 110
    assert len(re.sub(r"<!--.*?-->", "", TEXT).split()) <= 980


def test_badges_and_citation_show_version_python_and_licence():
    lowest, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert PROJECT["version"] == __version__
    assert badge("version") == f"version: {__version__}"
    assert badge("python") == f"python: 3.{lowest} – 3.{int(beyond) - 1}"
    assert badge("licence") == f"licence: {PROJECT['license']}"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (__version__, PROJECT["license"])


def test_links_and_pictures_are_files_of_this_repository():
    targets = {link or picture for link, picture in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", TEXT)}
    assert len(targets) > 15
    assert [target for target in sorted(targets) if not (ROOT / target).is_file()] == []


def test_pictures_request_nothing():
    for file in (ROOT / "docs/assets").glob("*.svg"):
        picture = file.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"http|href|url\((?!#)|@import|<script", picture), file


def test_the_example_of_your_own_data_works(tmp_path):
    (block,) = re.findall(r"here `(conf/dataset/\S+)`.*?```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / block[0]
    config = yaml.safe_load(block[1])
    names = config["columns"]
    folder = tmp_path / config["raw_dir"]
    for made in (file.parent, folder):
        made.mkdir(parents=True)
    file.write_text(block[1])
    sales = [f"u{user},i{item},{item}" for user in range(6) for item in range(6)]
    header = f"{names['user_id']},{names['item_id']},{names['timestamp']}"
    (folder / config["domains"]["shop"]["interactions"]).write_text("\n".join([header, *sales]))
    products = [f"i{item},Tent {item},tents" for item in range(6)]
    header = ",".join(names[column] for column in ("item_id", "title", "categories"))
    (folder / config["domains"]["shop"]["items"]).write_text("\n".join([header, *products]))
    typed = [words for words in lines(README) if "dataset=mine" in words]
    assert [words[0] for words in typed] == ["prepare", "train"]
    prepared = call(*typed[0], cwd=tmp_path, cache=tmp_path / "cache")
    assert prepared.code == 0, prepared.err
    assert re.search(r"users +\S* *6\b", prepared.out)
    composed = call(*typed[1], "--cfg", "job", cwd=tmp_path, cache=tmp_path / "cache")
    assert composed.code == 0, composed.err
