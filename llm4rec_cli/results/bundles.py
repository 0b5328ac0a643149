"""Bundles: folders of runs that somebody hands over, with a manifest of their files; `llm4rec bundle` makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.evaluation.metrics import METRICS, may_be_missing
from llm4rec_cli.files import sha256
from llm4rec_cli.labels import UNVERIFIED
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.sealed import COMPLETE, FILES, has_link, is_inside, read_manifest

MANIFEST = "bundle.json"
TOLERANCE = 1e-6  # of a recomputed metric


def marked(result: Result) -> Result:
    """Return a result with the name of the bundle that it is in, and labelled if the bundle or its numbers do not hold;
    a result in no bundle as it is."""
    if len(result.folder.parents) < 4 or not (result.outputs / MANIFEST).is_file():
        return result
    is_sound = not files_with_problems(result.outputs.resolve()) and _numbers_hold(result)
    labels = result.labels if is_sound else [*result.labels, UNVERIFIED]
    return replace(result, bundle=result.outputs.resolve().name, labels=labels)


def _numbers_hold(result: Result) -> bool:
    try:
        return not any(problems_of_numbers(result))
    except (Llm4RecError, ValueError, KeyError, TypeError):  # answers that cannot be read
        return False


@cache
def files_with_problems(folder: Path) -> tuple[str, ...]:
    """Return `problems_of_files`, which reads every file of a bundle, as it was at the first call."""
    return tuple(problems_of_files(folder))


def problems_of_files(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the files of a bundle: an incomplete or damaged manifest, names that leave the folder,
    links, files that are missing, altered or not in the manifest."""
    manifest = read_manifest(folder, MANIFEST)
    if manifest is None or not manifest[COMPLETE]:
        yield f"{MANIFEST} is {'damaged' if manifest is None else 'incomplete: making it was interrupted'}"
        return
    for name, fact in manifest[FILES].items():
        path = folder / name
        if not is_inside(name):
            yield f"{name} leaves the folder"
        elif has_link(folder, name):
            yield f"{name} is or passes a link"
        elif not path.is_file():
            yield f"{name} is missing"
        elif not isinstance(fact, dict) or path.stat().st_size != fact.get("bytes"):
            yield f"{name} has another size than in {MANIFEST}"
        elif sha256(path) != fact.get("sha256"):
            yield f"{name} has another hash than in {MANIFEST}"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in {*manifest[FILES], MANIFEST}:
            yield f"{name} is not in {MANIFEST}"


def problems_of_numbers(result: Result) -> Iterator[str]:
    """Yield each metric that does not follow from the stored ranks, ratings or values per example."""
    for name, value in recomputed(result).items():
        stored = result.metrics[name]
        if not abs(value - stored) <= TOLERANCE * max(1.0, abs(stored)):
            yield f"{result.address.as_posix()}: {name} is {stored:.6f}, and {value:.6f} by its answers"


def recomputed(result: Result) -> dict[str, float]:
    """Return the metrics that can be computed from the stored answers."""
    import numpy as np

    from llm4rec_cli.results.answers import score_answers

    bases = {metric.name for metric in METRICS}
    scored = score_answers(result, [name for name in result.metrics if name.partition("@")[0] in bases])
    if scored is None:
        return {}
    sums = {name: np.asarray(column.sum()) for name, column in scored.columns.items()}
    values = {name: float(value) for name, value in scored.metrics(sums).items() if name in result.metrics}
    return {name: value for name, value in values.items() if value == value or not may_be_missing(name)}  # NaN
