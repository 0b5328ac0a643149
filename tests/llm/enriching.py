"""A store that has the tokens of items, as if a chat model had been asked."""

from __future__ import annotations

import json
from pathlib import Path

from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.llm import ask, enrichment
from llm4rec_cli.llm.requests import Answer
from llm4rec_cli.llm.store import Store, key_of
from llm4rec_cli.runs import stages
from llm4rec_cli.runs.spec import RunSpec


def enrich(spec: RunSpec, cache: Path) -> None:
    """Keeps an answer about each item of a spec's dataset: the words of its title."""
    llm, settings = spec.llm, spec.config.enrichment
    asked = enrichment.questions(prepare(spec.config.dataset, cache), settings, llm)
    identity = stages.item_reader(spec).identity()
    with Store(ask.store_path(llm, cache)) as store:
        for told, request in asked.requests.items():
            first, *others = json.loads(told)["title"].split()
            text = json.dumps({"use": [first], "audience": others[:1], "key_words": others[1:]})
            store.keep(
                key_of(identity, request),
                identity,
                request,
                Answer(text, "stop", 1, 1, 0.0, "", "2026-01-01T00:00:00"),
                0.0,
            )
