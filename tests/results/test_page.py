"""The report as an HTML page: well-formed, escaped and self-contained."""

import json
import re
from html.parser import HTMLParser

import pytest

from llm4rec_cli.results.page import page
from llm4rec_cli.results.variants import groups, variants
from tests.results.finished_runs import metrics_json, rankings, write_run

VOID = {"meta", "link", "br", "hr", "img", "input"}
FREQUENCY = {"target_train_count": {"0": {"n": 5, "ndcg@10": 0.1}, "20+": {"n": 95, "ndcg@10": 0.2}}}

TRAINING = {"epochs": 3, "best_epoch": 3, "valid_ndcg@10": 0.3, "rows": 10}


class Reader(HTMLParser):
    """Collects the elements of a page; asserts that each is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def make_page(tmp_path):
    """make_page(**facts): page of a floor and a trained variant of two seeds with these entries of metrics.json."""

    def make(**facts):
        runs = []
        for seed in (0, 1):
            facts = {"intervals": {"ndcg@10": [0.05, 0.15]}, "breakdown": FREQUENCY, "training": TRAINING} | facts
            metrics = metrics_json(seed=seed, **facts)
            folder = tmp_path / f"seed{seed}"
            runs.append(write_run(folder, metrics, rankings([0, 5, 20, 70])))
            log = [{"epoch": e, "loss": 5.0 / e, "valid": 0.1 * e} for e in (1, 2, 3)]
            (folder / "train_log.jsonl").write_text("\n".join(map(json.dumps, log)))
        floor = metrics_json(
            0.05, model="popularity", seconds={"train": 0.0, "evaluate": 0.0}, intervals={"ndcg@10": [0.04, 0.06]}
        )
        runs.append(write_run(tmp_path / "floor", floor, rankings([0, 5, 20, 70])))
        return page(groups(variants(runs)))

    return make


def test_the_page_is_well_formed_and_has_a_plot_of_each_kind(make_page):
    reader = Reader(make_page())
    assert reader.tags.count("figure") == 4
    words = " ".join(reader.text)
    for caption in ("ndcg@10 by model", "occurs in training", "training loss and validation", "against time"):
        assert caption in words


def test_the_page_loads_nothing(make_page):
    text = make_page()
    links = [value for name, value in Reader(text).attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert all(value.startswith(("#", "data:,")) for value in links)
    assert "<script" not in text
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in text


def test_whatever_is_typed_is_shown_as_typed(make_page):
    typed = "model.x=<b>&\"'{{1+1}}$a$</b>"
    text = make_page(overrides=[typed], labels=["<i>"], deviations=["<script>alert(1)</script>"])
    assert "<b>&" not in text
    assert "<script" not in text
    assert "<i>" not in text
    assert typed in " ".join(Reader(text).text)


def test_ids_are_unique_and_links_lead_to_them(make_page):
    attributes = Reader(make_page()).attributes
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value for name, value in attributes if name in ("href", "xlink:href") and value[0] == "#"}
    assert links <= {f"#{name}" for name in ids}


def test_without_matplotlib_the_page_names_the_extra_to_install(make_page, monkeypatch):
    assert "matplotlib" not in make_page()
    monkeypatch.setattr("llm4rec_cli.results.page.CAN_DRAW", False)
    reader = Reader(make_page())
    assert "figure" not in reader.tags
    assert "pip install 'llm4rec[studies]'" in reader.text
