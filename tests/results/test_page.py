"""The report as an HTML page: well-formed, escaped and self-contained."""

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from llm4rec_cli.results.page import page
from llm4rec_cli.results.tables import Content
from llm4rec_cli.results.variants import groups, variants
from tests.results.finished_runs import metrics_json, rankings, run, write_run

CLAIMS = ("claim", "words", "source", "verdict", "because")
NO_CLAIMS = Content("claims", CLAIMS, [])
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
        return page(groups(variants(runs)), claims)

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
    ids = [value for name, value in Reader(make_page()).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {
        value[1:]
        for name, value in Reader(make_page()).attributes
        if name in ("href", "xlink:href") and value[0] == "#"
    }
    assert targets <= set(ids)


def test_every_chart_has_a_caption_and_the_same_in_words(make_page):
    text = make_page()
    figures = re.findall("<figure>.*?</figure>", text, re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        reader = Reader(figure)
        assert reader.tags[:2] == ["figure", "figcaption"]
        assert ("role", "img") in reader.attributes
        assert any(name == "aria-label" and "sasrec" in value for name, value in reader.attributes)


def test_the_page_opens_with_a_matrix_whose_cells_lead_to_their_sections(make_page):
    text = make_page()
    overview = text[text.index("<nav") : text.index("</nav>")]
    assert text.index("<nav") < text.index("<section")
    rows = dict(re.findall(r'<th scope="row">(\w+)</th>\s*<td class="number([^"]*)"><a href="#g1">', overview))
    assert rows == {"sasrec": " best", "popularity": " floor"}


def test_what_was_not_run_is_grey_and_says_so(tmp_path):
    facts = {"metrics": {"ndcg@10": 0.1}, "intervals": {"ndcg@10": [0, 1]}}
    text = page(groups(variants([run(**facts), run(task="direct", model="unisrec", **facts)])), NO_CLAIMS)
    assert text.count('<td class="none"><span class="spoken">not run</span></td>') == 2


def test_headings_are_nested_and_every_heading_of_a_table_has_a_scope(make_page):
    text = make_page(dataset="amazon2018-scientific")
    levels = [int(level) for level in re.findall(r"<h(\d)", text)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all('scope="' in heading for heading in re.findall("<th[ >][^>]*", text))
    assert '<html lang="en">' in text


@pytest.mark.parametrize("scheme", [0, 1])
def test_words_and_lines_have_contrast_in_light_and_dark(make_page, scheme):
    style = re.findall(":root {(.*?)}", make_page(), re.DOTALL)[scheme]
    colours = dict(re.findall("--([a-z0-9]+): (#[0-9a-f]+);", style))
    for background in ("card", "page"):
        for words in ("ink", "quiet", "accent"):
            assert contrast(colours[words], colours[background]) >= 4.5
    assert contrast(colours["accent"], colours["best"]) >= 4.5
    assert all(contrast(colours[f"c{i}"], colours["card"]) >= 3 for i in range(8))


def contrast(a, b):
    """The contrast ratio of two colours, WCAG 2.2."""
    low, high = sorted(map(luminance, (a, b)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_the_same_runs_make_the_same_page(make_page):
    assert make_page() == make_page()


def test_a_papers_number_is_on_the_page_and_in_its_plot(make_page):
    text = make_page(dataset="amazon2018-scientific")
    assert "Compared with the papers" in text
    assert "a published number" in " ".join(Reader(text).text)
    assert "Compared with the papers" not in make_page()


def test_runs_without_intervals_have_tables_and_a_link_only():
    text = page(groups(variants([run()])), NO_CLAIMS)
    assert "<figure" not in text
    assert "0.1000" in text
    assert '<li><a href="#g1">' in text


def test_claims_are_shown_with_their_verdicts(make_page):
    results = [("a", "supported"), ("a", "inconclusive")]
    rows = [[name, f"{name} is so.", "a paper", verdict, ""] for name, verdict in results]
    text = make_page(claims=Content("claims", CLAIMS, rows))
    reader = Reader(text)
    assert [word.strip() for word in reader.text].count("a is so.") == 1
    judged = text[text.index('id="claims"') :]
    assert "<b>supported</b>" in judged
    assert "<b>inconclusive</b>" in judged
    assert ("id", "claims") in reader.attributes
    assert ("id", "claims") not in Reader(make_page()).attributes
