"""What models say of the settings of recorded runs, in tests/golden/deviations.json.

GOLDEN=write python -m pytest tests/models/test_deviations.py -n 0
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

from llm4rec_cli.config.registry import MODELS
from llm4rec_cli.config.schema import TaskConfig
from llm4rec_cli.config.walk import typed
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
        trained = [*model.deviations(task.name), *model.task_deviations(task)]
        is_published = (MODELS / run.model / "published.py").exists()
        imported = [*model.imported_deviations(), *model.task_deviations(task)] if is_published else []
        words = [model.display_name(), model.labels(task.name), dict(model.paper_method(task.name))]
        facts[run.model].append([trained, imported, words, sorted(model.unused_settings(task))])
        sentences |= {*trained, *imported}
    hashes = {name: hashlib.sha256(json.dumps(facts[name]).encode()).hexdigest()[:12] for name in sorted(facts)}
    observed = {"models": hashes, "sentences": sorted(sentences)}
    if WRITES:
        FILE.write_text(json.dumps(observed, indent=1, ensure_ascii=False) + "\n")
    assert observed == json.loads(FILE.read_text())
