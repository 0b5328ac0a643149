"""Whether the stored texts of finished runs fit their user and item, by ROUGE-L and by a frozen text encoder.

Prints one Markdown row per run: ROUGE-L, then `fits_user` and `fits_item` by both measures, with 95 % intervals over
users. The overrides name the data, the task and `task.max_examples` of the runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision, SplitName
from llm4rec_cli.data.other_texts import other_texts
from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.evaluation.text import nearer_shares, rouge_l
from llm4rec_cli.results.results import named_results
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks.text import protocol
from llm4rec_cli.text.features import encode_texts

EXAMPLE = """example:
  python scripts/texts_that_fit.py RUN RUN task=explanation dataset=xrec-amazon dataset.raw_dir=PATH"""
ENCODER = EncoderConfig("minilm", Pooling.mean, 256, Precision.bf16)


def row(name: str, answers: pd.DataFrame, others: Mapping[str, Sequence[Sequence[str]]], cache: Path) -> str:
    """Return a Markdown row of one run.

    Args:
        answers: stored predictions, in the order of the examples.
        others: metric -> for each example the texts that it compares with.
    """
    generated, references = answers["prediction"].tolist(), answers["reference"].tolist()
    drawn = {text for texts in others.values() for example in texts for text in example}
    measures = (rouge_l, cosine([*generated, *references, *drawn], cache))
    cells = [name, estimate(answers["rougeL"].to_numpy(), answers)]
    for texts in others.values():
        cells += [estimate(nearer_shares(generated, references, texts, measure), answers) for measure in measures]
        cells.append(f"{sum(len(example) > 0 for example in texts):,}")
    return f"| {' | '.join(cells)} |"


def cosine(texts: Sequence[str], cache: Path) -> Callable[[str, str], float]:
    """Return the cosine similarity of two of these texts by the encoder."""
    distinct = sorted(set(texts))
    vectors = encode_texts(distinct, ENCODER, cache, "cpu").numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    place = {text: i for i, text in enumerate(distinct)}
    return lambda a, b: round(float(vectors[place[a]] @ vectors[place[b]]), 6)


def estimate(values: NDArray[np.floating], answers: pd.DataFrame) -> str:
    """Return the mean over the examples that have a value, with its interval."""
    kept = ~np.isnan(values)
    if not kept.any():
        return "–"
    users = answers["user_id"].to_numpy()[kept]
    low, high = bootstrap_intervals({"": values[kept]}, stream(0, "bootstrap"), user=users)[""]
    return f"{values[kept].mean():.3f} ({low:.3f}–{high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, then overrides of the data and the task")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    typed = parser.parse_args()
    overrides = [name for name in typed.runs if "=" in name]
    job = Job.unchecked(compose(overrides), "prepare")
    split, parts = stages.load_examples(job)
    examples = parts[SplitName.test.value]
    others = dict(zip(("fits_user", "fits_item"), other_texts(split, examples, protocol(job.config.task)), strict=True))
    print("| model | ROUGE-L | fits_user | by MiniLM | n | fits_item | by MiniLM | n |")
    print("|---|---|---|---|---|---|---|---|")
    for run in named_results([name for name in typed.runs if "=" not in name], typed.outputs):
        answers = run.answers()
        if answers["user_id"].tolist() != split.dataset.user_ids[examples.user].tolist():
            raise SystemExit(f"{run.folder} is not of these data: type its overrides of dataset and task.max_examples")
        print(row(f"{run.shown_as}, seed {run.seed}", answers, others, job.cache))


if __name__ == "__main__":
    main()
