"""The deviations of models from their papers, and what they say of recorded runs, in tests/golden/deviations.json.

GOLDEN=write python -m pytest tests/models/test_deviations.py -n 0
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

import pytest

from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.config.registry import MODELS, model_names
from llm4rec_cli.config.schema import TaskConfig
from llm4rec_cli.config.statements import SHARED, content, sections
from llm4rec_cli.config.walk import typed
from llm4rec_cli.conformance.builders import resolved
from llm4rec_cli.results.records import read_records
from tests.support.golden import FOLDER, WRITES

FILE = FOLDER / "deviations.json"
RECORDED = FOLDER.parents[1] / "docs/recorded"


def test_recorded_settings_have_the_deviations_names_and_labels_that_they_had():
    facts, sentences = defaultdict(list), set()
    for run in read_records(RECORDED):
        model, task = run.settings.model_config, typed(TaskConfig, {"floors": [], **run.config["task"]})
        if run.model == "ensemble":
            continue  # which reads its members' folders
        trained = [*model.deviations(task, task.name).values()]
        is_published = (MODELS / run.model / "published.py").exists()
        imported = [*model.deviations(task, None).values()] if is_published else []
        words = [model.display_name(), model.labels(task.name), dict(model.paper_method(task.name))]
        facts[run.model].append([trained, imported, words, sorted(model.unused_settings(task))])
        sentences |= {*trained, *imported}
    hashes = {name: hashlib.sha256(json.dumps(facts[name]).encode()).hexdigest()[:12] for name in sorted(facts)}
    observed = {"models": hashes, "sentences": sorted(sentences)}
    if WRITES:
        FILE.write_text(json.dumps(observed, indent=1, ensure_ascii=False) + "\n")
    assert observed == json.loads(FILE.read_text())


def test_each_shared_sentence_is_one_of_several_models():
    used = [name for model in model_names() for name in sections(model).get("deviations", {})]
    assert {name for name in content(SHARED) if used.count(name) < 2} == {"from_scratch"}  # which generic code reads


P5, P4 = ("model=p5", "dataset=demo"), ("model=prompt4nr", "dataset=mind-small")


def applying(*overrides):
    config = resolved(*map(hydra_override, overrides))
    return {*config.model.deviations(config.task, config.task.name)}


@pytest.mark.parametrize(
    ("base", "override", "changed"),
    [
        ((*P5, "task=sequential"), "model.index=leaky_p5", "digits item_tokens stars statistics_of_users"),
        ((*P5, "task=sequential"), "model.whole_word=training", "whole_words"),
        ((*P5, "task=sequential"), "model.loss=by_length_twice", "answer_loss"),
        ((*P5, "task=sequential"), "model.ask.sequential=2-4+2-5", "several_prompts"),
        ((*P5, "task=sequential"), "model.samples.targets=last_three", "every_target"),
        ((*P5, "task=sequential"), "model.samples.sequential_per=interaction", "sequential_per"),
        ((*P5, "task=sequential"), "model.samples.negatives=whole", "negatives"),
        ((*P5, "task=direct"), "model.samples.direct_item=0", "direct_item"),
        ((*P5, "task=direct"), "model.samples.direct_per=interaction", "direct_per"),
        ((*P5, "task=direct"), "model.ask.direct=5-1", "decoding every_target other_family several_prompts yes_no"),
        ((*P5, "task=rating"), "task=explanation", "by_feature greedy_texts mean_stars usual_feature"),
        (P4, "model.attention=shared", "history_position shared_states short_candidates"),
        ((*P4, "model.attention=shared"), "prompt=prompt4nr/hybrid_utility", "history_position"),
        (P4, "model.titles=6", "history_size"),
        (P4, "model.loss=pointwise", "listwise"),
        (P4, "model.draw=fixed", "fresh_negatives"),
        (("model=nrms", "dataset=mind-small"), "model.aggregation=mean", "bert means"),
    ],
)
def test_a_setting_decides_about_the_deviations_that_it_is_named_in(base, override, changed):
    assert applying(*base) ^ applying(*base, override) == {*changed.split()}
