"""A reproducibility checklist, filled from finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm4rec_cli.labels import LABELS
from llm4rec_cli.results.result import CHECKPOINTS, Result
from llm4rec_cli.results.tables import markdown
from llm4rec_cli.results.variants import Variant, variants
from llm4rec_cli.results.words import protocol_in_words, tuning_in_words
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run.catalog import read_json
from llm4rec_cli.run.folder import ENVIRONMENT

NOT_STATED = "not stated"


def checklist(runs: Sequence[Result]) -> str:
    """Return the checklist of these runs, one section per variant, in Markdown."""
    parts = [
        "# Reproducibility checklist",
        f"Filled from the files of the runs; what they do not say is {NOT_STATED!r}.",
    ]
    for variant in variants(runs):
        model, words = variant.name
        parts.append(f"## {model} on {variant.first_run.dataset}, {variant.first_run.task}")
        parts.append(markdown(["question", "answer"], [[question, text] for question, text in _rows(variant, words)]))
        parts.append("\n".join(["Deviations from the paper:", "", *_listed(variant.deviations)]))
        parts.append("\n".join(["Warnings:", "", *_listed(w for run in variant.runs for w in run.warnings)]))
    return "\n\n".join(parts) + "\n"


def _rows(variant: Variant, words: str) -> list[tuple[str, str]]:
    run = variant.first_run
    environments = [read_json(own.folder / ENVIRONMENT) for own in variant.runs]
    tuned = any(own.tuning for own in variant.runs)
    get = run.settings.get
    return [
        ("settings that differ from the default", words or "none"),
        ("data", f"{run.dataset}, fingerprint {run.dataset_fingerprint or NOT_STATED}"),
        ("licence of the data", get("dataset.licence") or NOT_STATED),
        ("filters", f"{get('dataset.user_core')}-core users, {get('dataset.item_core')}-core items"),
        ("split", f"{run.split_rule}, dataset.seed={get('dataset.seed')}"),
        ("evaluation", f"{protocol_in_words(run)}; {run.n_examples:,} examples"),
        ("seeds", ", ".join(str(own.seed) for own in variant.runs)),
        ("search for settings", tuning_in_words(run) if tuned else NOT_STATED),
        ("initial weights", _initial_weights(run)),
        ("parameters", f"{run.n_parameters:,}, trained: {run.n_trainable:,}"),
        (
            "hardware",
            _distinct(_hardware(own, environment) for own, environment in zip(variant.runs, environments, strict=True)),
        ),
        ("precision", _distinct(", ".join((own.arithmetic or {}).values()) for own in variant.runs)),
        ("packages", _distinct(_packages(environment) for environment in environments)),
        ("code", _distinct(str(environment.get("commit") or "") for environment in environments)),
        ("seconds", "; ".join(_seconds(own) for own in variant.runs) or NOT_STATED),
        ("peak memory", f"{max(own.peak_rss_mb for own in variant.runs):,} MB"),
        ("chat model", f"{run.llm.model}, {run.llm.requests:,} requests" if run.llm else "none"),
        ("answers per example", "yes" if all(own.columns for own in variant.runs) else "no"),
        (
            "labels",
            "; ".join(f"{name}: {LABELS[name].condition}" for name in variant.labels if name in LABELS) or "none",
        ),
        ("command", f"`llm4rec {'eval' if run.trained_run else 'train'} {' '.join(run.overrides)}`"),
    ]


def _listed(sentences: Iterable[str]) -> list[str]:
    return [f"- {sentence}" for sentence in dict.fromkeys(sentences)] or ["- none stated"]


def _distinct(answers: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(answer or NOT_STATED for answer in answers))


def _initial_weights(run: Result) -> str:
    if run.imported:
        return f"imported: {run.imported.file}, sha256 {run.imported.sha256}"
    if run.trained_run:
        return f"those of {run.trained_run}"
    if run.init_from:
        return f"pre-trained on {run.init_from.dataset}, seed {run.init_from.seed}, {run.init_from.config_hash}"
    return f"encoder {run.text_encoder}" if run.text_encoder else "random, or none"


def _hardware(run: Result, environment: Mapping[str, Any]) -> str:
    """Return platform, processors and device."""
    root = run.folder / CHECKPOINTS
    step = read_json(root / checkpoints.TRAINING_DONE).get("best_step")
    trained_on = read_json(root / f"checkpoint-{step}" / checkpoints.MANIFEST).get("trained_on")
    cpus = environment.get("cpus")
    facts = [environment.get("platform"), f"{cpus} CPUs" if cpus else None, trained_on and f"trained on {trained_on}"]
    return ", ".join(str(fact) for fact in facts if fact)


def _packages(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages")
    named = packages.items() if isinstance(packages, dict) else ()
    return ", ".join([f"Python {environment.get('python', NOT_STATED)}", *(f"{name} {own}" for name, own in named)])


def _seconds(run: Result) -> str:
    return ", ".join(f"{phase} {seconds:.0f}" for phase, seconds in run.seconds.items())
