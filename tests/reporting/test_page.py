"""The report as an HTML page: well-formed, escaped and self-contained."""

import json
import re
from html.parser import HTMLParser

import pytest

from llm4rec_cli.reporting.page import page
from llm4rec_cli.reporting.tables import Content
from llm4rec_cli.reporting.variants import groups, variants
from tests.reporting.finished_runs import metrics_json, rankings, write_run

CLAIMS = ("claim", "words", "source", "verdict", "because")
NO_CLAIMS = Content("claims", CLAIMS, [])
VOID = {"meta", "link", "br", "hr", "img", "input"}
FREQUENCY = {"target_train_count": {"0": {"n": 5, "ndcg@10": 0.1}, "20+": {"n": 95, "ndcg@10": 0.2}}}


class Reader(HTMLParser):
    """Collects the elements of a page; asserts that each is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
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

    def make(claims=NO_CLAIMS, **facts):
        runs = []
        for seed in (0, 1):
            metrics = metrics_json(seed=seed, intervals={"ndcg@10": [0.05, 0.15]}, breakdown=FREQUENCY, **facts)
            folder = tmp_path / f"seed{seed}"
            runs.append(write_run(folder, metrics, rankings([0, 5, 20, 70])))
            log = [{"epoch": e, "loss": 5.0 / e, "valid": 0.1 * e} for e in (1, 2, 3)]
            (folder / "train_log.jsonl").write_text("\n".join(map(json.dumps, log)))
        floor = metrics_json(
            0.05, model="popularity", seconds={"train": 0.0, "evaluate": 0.0}, intervals={"ndcg@10": [0.04, 0.06]}
        )
        runs.append(write_run(tmp_path / "floor", floor, rankings([0, 5, 20, 70])))
        return page(groups(variants(runs)), claims)

    return make


def test_the_page_is_well_formed_and_has_a_plot_of_each_kind(make_page):
    reader = Reader(make_page())
    assert reader.tags.count("svg") == 4
    words = " ".join(reader.text)
    for caption in ("ndcg@10 by model", "occurs in training", "training loss and validation", "against seconds"):
        assert caption in words


def test_the_page_loads_nothing(make_page):
    text = make_page()
    links = [value for name, value in Reader(text).attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert all(value.startswith(("#", "data:,")) for value in links)
    assert "<script" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_whatever_is_typed_is_shown_as_typed(make_page):
    typed = "model.x=<b>&\"'{{1+1}}$a$</b>"
    text = make_page(overrides=[typed], labels=["<i>"], deviations=["<script>alert(1)</script>"])
    assert "<b>&" not in text
    assert "<script" not in text
    assert "<i>" not in text
    assert typed in " ".join(Reader(text).text)


def test_ids_are_unique_and_links_lead_to_them(make_page):
    ids = [value for name, value in Reader(make_page()).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {
        value[1:]
        for name, value in Reader(make_page()).attributes
        if name in ("href", "xlink:href") and value[0] == "#"
    }
    assert targets <= set(ids)


def test_every_plot_has_a_label_for_screen_readers(make_page):
    labels = [value for name, value in Reader(make_page()).attributes if name == "aria-label"]
    assert sum("ndcg@10" in label or "training loss" in label for label in labels) >= 4


def test_the_same_runs_make_the_same_page(make_page):
    assert make_page() == make_page()


def test_a_papers_number_is_on_the_page_and_in_its_plot(make_page):
    text = make_page(dataset="amazon2018-scientific")
    assert "Compared with the papers" in text
    assert "diamonds: papers' numbers" in " ".join(Reader(text).text)
    assert "Compared with the papers" not in make_page()


def test_runs_without_intervals_have_tables_only(tmp_path):
    text = page(groups(variants([write_run(tmp_path, metrics_json())])), NO_CLAIMS)
    assert "<svg" not in text
    assert "0.1000" in text


def test_claims_are_shown_with_their_verdicts(make_page):
    rows = [["a", "A beats B.", "a paper", "supported", "so"], ["a", "A beats B.", "a paper", "not run", ""]]
    reader = Reader(make_page(claims=Content("claims", CLAIMS, rows)))
    words = [word.strip() for word in reader.text]
    assert words.count("A beats B.") == 1
    assert "supported" in words
    assert "not run" in words
    assert ("id", "claims") in reader.attributes
    assert ("id", "claims") not in Reader(make_page()).attributes
