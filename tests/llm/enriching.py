"""Fill a store with tokens of items, as if a chat model had written them."""

from __future__ import annotations

import json
from pathlib import Path

from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.llm import completions, enrichment
from llm4rec_cli.llm.requests import Completion
from llm4rec_cli.llm.store import Store, cache_key
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job


def enrich(job: Job, cache: Path) -> None:
    """Store a completion for each item of a job's dataset: the words of its title."""
    llm, settings = job.llm, job.config.enrichment
    items = enrichment.item_requests(prepare(job.config.dataset, cache), settings, llm, job.config.dataset.seed)
    identity = stages.enrichment_backend(job).identity()
    with Store(completions.store_path(llm, cache)) as store:
        for item_text, request in items.requests.items():
            first, *others = json.loads(item_text)["title"].split()
            text = json.dumps({"use": [first], "audience": others[:1], "key_words": others[1:]})
            completion = Completion(text, "stop", 1, 1, 0.0, "", "2026-01-01T00:00:00")
            store.add(cache_key(identity, request), identity, request, completion, 0.0)
