"""The generated parts of the documentation, and pages that list what the code declares."""

import ast
import re
import sys
from pathlib import Path

import pytest

from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.keys import all_declarations
from llm4rec_cli.config.registry import model_names
from llm4rec_cli.config.schema import Control
from llm4rec_cli.config.statements import sections
from llm4rec_cli.evaluation.metrics import METRICS
from llm4rec_cli.labels import CONTROL, LABELS
from llm4rec_cli.results.records import read_records
from llm4rec_studies.paper_tables import definitions, reproduction
from llm4rec_studies.paper_tables.definitions import Size
from tests.docs.commands import DOCS, PAGES, ROOT
from tests.results.finished_runs import metrics_json, write_run

sys.path.insert(0, str(ROOT / "scripts"))
import docs_config
import docs_pages

PACKAGES = ("llm4rec_cli", "llm4rec_studies", "llm4rec_zoo")


def rows(markdown: str) -> dict[str, list[str]]:
    """Return the cells of each row by the first cell, without backticks."""
    cells = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in markdown.splitlines() if line.startswith("| `")]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_reference_names_every_key_of_the_config():
    leaves = {setting.key for setting in all_declarations() if not setting.is_node}
    assert len(leaves) > 100
    assert sorted(leaves - rows(docs_config.config_keys()).keys()) == []


def test_a_key_has_its_type_range_default_source_role_and_meaning():
    keys = rows(docs_config.config_keys())
    assert keys["trainer.patience"][:2] == ["integer ≥ 1", "`10`"]
    assert keys["trainer.patience"][2].startswith("evaluations (one per epoch)")
    assert keys["trainer.patience"][3:] == [
        "training",
        "epochs without a better validation metric; unlimited for keep=last",
    ]
    assert keys["split"] == [
        "`valid` \\| `test`",
        "`test`",
        "the evaluated split; tuning uses split=valid",
        "question",
        "",
    ]
    # The group's files set no value, so its table has no column for their source.
    expected = ["number ≥ 0, < 1", "`0.0`", "intervention", "share of items held out of training"]
    assert keys["dataset.cold_items"] == expected
    assert keys["model.pretraining.drop"][1:3] == ["`0.2`", "code: per position, for both"]


def test_every_part_of_a_page_is_known_and_every_known_part_is_on_a_page():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    marks = [mark for text in texts for mark, *_ in docs_pages.PART.findall(text)]
    assert sorted(marks) == sorted(docs_pages.PARTS)
    built = [mark for text in texts for mark in docs_pages.BUILT_PART.findall(text)]
    assert sorted(built) == sorted(docs_pages.BUILT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_generated_parts_are_current(page):
    text = page.read_text(encoding="utf-8")
    if "generated: commands" in text and sys.version_info[:2] != (3, 11):
        pytest.skip("argparse of other versions of Python writes another help")
    current = docs_pages.with_parts(text)
    assert str(docs_pages.ROOT) not in current, "a page names a folder of this machine"
    assert current == text, "python scripts/docs_pages.py"


def test_the_front_page_links_every_page():
    front = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).as_posix() for page in PAGES if page.is_relative_to(DOCS)]
    assert [page for page in pages if page != "index.md" and f"]({page})" not in front] == []


def test_the_help_of_every_command_is_shown(monkeypatch):
    monkeypatch.setattr(docs_pages, "output_of", lambda *arguments: " ".join(arguments))
    text = docs_pages.commands()
    assert all(f"## {command}\n" in text for command in (command.typed for command in commands().values()))


def test_bad_input_shows_every_case():
    cases = docs_pages.yaml.safe_load(docs_pages.BAD_INPUT.read_text(encoding="utf-8"))
    sections = [*(cases[name].values() for name in ("refused", "read", "trained", "failed")), [cases["damaged"]]]
    n_cases = sum(len(case) for section in sections for case in section) + len(cases["large"]) + len(cases["typed"])
    titles, n_lines_a_head = 6, 2
    table = [line for line in docs_pages.bad_input().splitlines() if line.startswith("|")]
    assert len(table) == n_cases + titles * n_lines_a_head


def test_every_metric_is_defined():
    page = (DOCS / "reference/metrics.md").read_text(encoding="utf-8")
    assert [metric.name for metric in METRICS if not re.search(rf"`{metric.name}(@K)?`", page)] == []


def labels_in(file: Path) -> set[str]:
    """Return the words with hyphens that a file's functions on labels name."""
    functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    return {
        node.value
        for function in functions
        if "labels" in function.name
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and re.fullmatch(r"[a-z]+(-[a-z]+)+", str(node.value))
    } - {"bert-base-uncased"}


def test_every_label_is_declared():
    named = set().union(*(labels_in(file) for package in PACKAGES for file in (ROOT / package).rglob("*.py")))
    named |= {label for model in model_names() for label in sections(model).get("labels", {})}
    recorded = [run.labels for run in read_records(docs_pages.RECORDED)]
    assert {"few-impressions", "substitute-encoder", "cold-items"} <= named
    assert named | set().union(*recorded) <= LABELS.keys()
    assert {f"{CONTROL}{control.name}" for control in Control if control is not Control.none} <= LABELS.keys()


def test_every_field_of_a_recorded_run_is_explained():
    page = (DOCS / "reference/run-folder.md").read_text(encoding="utf-8")
    fields = {field for run in read_records(docs_pages.RECORDED) for field in run.content()}
    assert len(fields) > 40
    assert [field for field in sorted(fields) if f"`{field}`" not in page] == []


def test_a_papers_page_shows_the_recorded_cells_of_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(docs_pages, "RECORDED", tmp_path)
    assert "never run" in docs_pages.papers("unisrec")
    assert "###" not in docs_pages.papers("unisrec")
    metrics = metrics_json(dataset="amazon2018-scientific", metrics={"recall@10": 0.1082, "ndcg@10": 0.05})
    run = write_run(tmp_path / "run", metrics)
    table = definitions.table("unisrec/main")
    (cell,) = table.cells("SASRec", "Scientific")
    shown = [*reproduction.lines(table, cell, Size.cpu, [run], None)]
    reproduction.record(tmp_path, table, Size.cpu, shown, "a machine", whole=[cell])
    page = docs_pages.papers("unisrec")
    assert "1 of 54 cells run at the size of a CPU" in page
    assert "### `unisrec/main`" in page
    assert "| SASRec | recall@10 | 0.1080 | 0.1082 | 1 |" in page
    assert "###" not in docs_pages.papers("p5")
