"""`llm4rec prepare`: build a dataset from raw files, and compare its statistics with the paper's."""

from __future__ import annotations

from llm4rec_cli import processes
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.runs.folder import Outcome
from llm4rec_cli.runs.spec import RunSpec


def run(composed: Composed) -> Outcome:
    """Prepare one dataset, unless it is cached, and print its statistics."""
    from llm4rec_cli.data import store
    from llm4rec_cli.data.prepare import prepare
    from llm4rec_cli.data.statistics import PART_COLUMNS, comparison, parts, remarks
    from llm4rec_cli.reporting.tables import Content, say, show

    spec = RunSpec.resolve_unchecked(composed, "prepare")
    settings = spec.config.dataset
    dataset = prepare(settings, spec.cache)
    folder = store.dataset_folder(spec.cache, settings.name, dataset.fingerprint)
    if not processes.is_first():
        return Outcome("done", folder)
    manifest = dataset.manifest
    if manifest["impressions"]:  # nothing is filtered
        show(Content(f"{settings.name}: parts", PART_COLUMNS, parts(manifest)))
    else:
        steps = [
            [s["domain"], s["step"], f"{s['users']:,}", f"{s['items']:,}", f"{s['interactions']:,}"]
            for s in manifest["counts"]
        ]
        show(Content(f"{settings.name}: filters", ["domain", "step", "users", "items", "interactions"], steps))
    rows = [
        [c.statistic, f"{c.ours:,}", "–" if c.paper is None else f"{c.paper:,}"]
        for c in comparison(manifest, settings.paper)
    ]
    show(Content(f"{settings.name}: statistics", ["statistic", "ours", "paper"], rows))
    say(*remarks(manifest, settings.paper))
    print(f"dataset folder: {folder}")
    return Outcome("done", folder)
