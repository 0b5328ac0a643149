"""Export the weights of a finished run with its config and a model card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from llm4rec_cli.config.overrides import command_line, key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.data import store
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.evaluation.metrics import table_metrics
from llm4rec_cli.files import fill_new, write_json, write_text
from llm4rec_cli.labels import LABELS
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.describe import count_in_words, protocol_in_words, shown_as, tuning_in_words
from llm4rec_cli.results.result import CHECKPOINTS, CONFIG, METRICS, STATUS, Result
from llm4rec_cli.results.results import find_result, named_results
from llm4rec_cli.results.tables import markdown
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run.catalog import read_json
from llm4rec_cli.run.folder import ENVIRONMENT
from llm4rec_studies.portable import config_of, without_paths

CARD = "README.md"
WEIGHTS = "model.safetensors"
OF_THE_RUN = {METRICS, STATUS, ENVIRONMENT, "arithmetic.json"}  # JSON files of a run that belong to no weights


def export_model(name: str, out: Path, outputs: Path, cache: str | None = None) -> Path:
    """Write weights, config, numbers and a model card of a finished run to a folder and return it.

    Args:
        name: as `compare` takes it. Of an evaluation, the weights of the trained run are written, with its own numbers.
        cache: of the dataset, for the numbers of items and users; None = the default.

    Raises:
        RunError, UsageError: there is no such run, it has no weights, or the folder exists.
    """
    (run,) = named_results([name], outputs)
    trained = run
    if run.trained_run:
        trained = find_result(run.outputs / run.trained_run) or run
    raise_first(_problems_of_run(trained))
    dataset = store.dataset_folder(cache_folder(cache), run.dataset, run.dataset_fingerprint)
    return fill_new(out, partial(_write, run, trained, dataset))


def _write(run: Result, trained: Result, dataset: Path, folder: Path) -> None:
    checkpoint = checkpoints.selected(trained.folder / CHECKPOINTS)
    shutil.copyfile(checkpoint.folder / checkpoints.WEIGHTS, folder / WEIGHTS)
    write_text(folder / CONFIG, yaml.safe_dump(config_of(run), sort_keys=False, allow_unicode=True))
    write_json(folder / METRICS, without_paths(run.content()))
    for file in trained.folder.glob("*.json"):
        if file.name not in OF_THE_RUN:
            shutil.copyfile(file, folder / file.name)
    if dataset.exists():
        loaded = store.load(dataset)
        for kind, ids in (("item", loaded.items["item_id"].to_numpy()), ("user", loaded.user_ids)):
            table = pd.DataFrame({kind: range(len(ids)), f"{kind}_id": ids})
            table.to_csv(folder / f"{kind}s.csv", index=False)
    write_text(folder / CARD, model_card(run, trained, dataset.exists()))


def _problems_of_run(run: Result) -> Iterator[UsageError]:
    if not config_class(run.model).traits.trainable:
        yield UsageError(f"{shown_as(run)} is not trained and has no weights", "name a run of a trained model")


def model_card(run: Result, trained: Result, has_numbers: bool) -> str:
    """Return the model card of a run, in Markdown with metadata as on the Hugging Face Hub."""
    head = {"library_name": "llm4rec", "tags": ["recommendation", run.task], "datasets": [run.dataset]}
    licence = run.settings.get("dataset.licence") or "not stated"
    packages = read_json(trained.folder / ENVIRONMENT).get("packages", {})
    typed = [o for o in without_paths(trained.overrides) if key_typed(o) not in ("dataset.raw_dir", "force")]
    needs_files = ["dataset.raw_dir=PATH"] if any(key_typed(o) == "dataset.raw_dir" for o in trained.overrides) else []
    sections: list[tuple[str, list[str]]] = [
        (
            "Data",
            [
                f"- {run.dataset}, fingerprint `{run.dataset_fingerprint}`",
                f"- licence of the data: {licence}",
                f"- evaluated on: {protocol_in_words(run)}; {count_in_words(run, run.n_examples)}",
            ],
        ),
        (
            "Training",
            [
                f"- seed {trained.seed}; settings in `{CONFIG}`; search for settings: {tuning_in_words(trained)}",
                f"- parameters: {trained.n_parameters:,}, trained: {trained.n_trainable:,}",
                f"- packages: {', '.join(f'{name} {version}' for name, version in packages.items()) or 'not recorded'}",
            ],
        ),
        ("Labels", [f"- `{name}`: {LABELS[name].condition if name in LABELS else ''}" for name in run.labels]),
        ("Deviations from the paper", [f"- {deviation}" for deviation in without_paths(run.deviations)]),
        ("Warnings", [f"- {warning}" for warning in without_paths(run.warnings)]),
    ]
    numbers = " `items.csv` and `users.csv` map its rows to the ids of the data." if has_numbers else ""
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {shown_as(run)} on {run.dataset}, {run.task}",
        markdown(["metric", "value", "95 % interval over users"], _metric_rows(run)),
        *(f"## {title}\n\n" + "\n".join(lines or ["- none"]) for title, lines in sections),
        "## Use",
        f"Train it again:\n\n```bash\n{command_line('train', [*typed, *needs_files])}\n```",
        f"The weights are plain tensors.{numbers}\n\n```python\nfrom safetensors.torch import load_file\n\n"
        f'weights = load_file("{WEIGHTS}")\n```',
    ]
    return "\n\n".join(parts) + "\n"


def _metric_rows(run: Result) -> list[list[str]]:
    names: list[Any] = [name for name in table_metrics(run.protocol) if name in run.metrics] or [*run.metrics]
    return [
        [name, f"{run.metrics[name]:.4f}", "–".join(f"{end:.4f}" for end in run.intervals.get(name, ()))]
        for name in names
    ]
