"""Controls and costs of chat models in tables, of runs built by hand."""

from dataclasses import replace

from llm4rec_cli.results import chat
from llm4rec_cli.results.variants import Group, Variant
from tests.results.finished_runs import metrics_json, run, write_run

USAGE = {"requests": 10, "prompt_tokens": 5000, "cached_tokens": 100, "answer_tokens": 200}
USAGE |= {"seconds": 50.0, "cost": 0.25}
CONTROLS = {
    "users": 50,
    "metric": "ndcg@10",
    "value": 0.1,
    "invalid": 0.25,
    "variations": {"order 2": {"value": 0.2, "difference": 0.1, "low": -0.05, "high": 0.25, "invalid": 1.0}},
    "wordings": 0.03,
    "order": {"orders": 3, "share": 0.4, "mean_rank": [10.4, 90.6]},
    "popularity": -0.2,
    "llm": USAGE,
}
CHAT = {"model": "chatgptrec", "llm": {"backend": "local", "model": "smollm2", **USAGE}, "n_examples": 10}


def test_costs_include_controls_but_not_in_the_seconds_of_a_user():
    assert chat.costs(run(**CHAT)) == ["10", "5,000", "100", "200", "50", "5.0", "0.2500"]
    assert chat.costs(run(**CHAT, controls=CONTROLS)) == ["20", "10,000", "200", "400", "100", "5.0", "0.5000"]


def test_a_model_that_reads_item_tokens_costs_what_these_did():
    enriched = run(enrichment=USAGE, n_examples=10)
    assert chat.costs(enriched) == ["10", "5,000", "100", "200", "50", "", "0.2500"]
    assert chat.costs(run(**CHAT, enrichment=USAGE))[0] == "20"
    assert chat.has_costs(enriched) and not chat.has_costs(run())


def test_what_a_chat_model_has_memorised_is_shown_once_by_the_most_records(tmp_path):
    score = {"share": 0.5, "low": 0.4, "high": 0.6, "chance": 0.25, "n": 1200}
    scores = {"rows": score | {"made_up": 0.3}, "titles": score | {"made_up": None}}
    older = {"rows": score | {"share": 0.9, "n": 30}}
    answering = [metrics_json(**CHAT, memorisation=measured) for measured in (older, scores)]
    reading = metrics_json(enrichment=USAGE, memorisation=scores)  # reads texts that a chat model wrote
    other = metrics_json(**CHAT, memorisation=older)
    names = ["smollm2", "smollm2", "smollm2", "another"]
    runs = [
        write_run(tmp_path / f"{i}", metrics, config={"llm": {"model": name}})
        for i, (metrics, name) in enumerate(zip([*answering, reading, other], names, strict=True))
    ]
    cells = ["0.40–0.60", "0.25"]
    group = Group([Variant([run]) for run in runs], [])
    known = next(content for content in chat.tables(group) if "true end" in content.title)
    assert [list(row) for row in known.rows] == [
        ["smollm2", "rows", "0.50", *cells, "0.30", "1,200"],
        ["smollm2", "titles", "0.50", *cells, "", "1,200"],
        ["another", "rows", "0.90", *cells, "", "30"],
    ]
    mixed = Group([*group.members, Variant([replace(runs[3], dataset_fingerprint="g")])], [])
    assert [row[:3] for row in chat.memorisation(mixed)][-2:] == [["another", "f", "rows"], ["another", "g", "rows"]]
