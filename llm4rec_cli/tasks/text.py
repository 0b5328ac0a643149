"""The writing tasks: why does this user like or dislike this item (explanation), and what is their review headed
(review_summary)?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llm4rec_cli.capabilities import Writer
from llm4rec_cli.config.schema import Config, SplitName, Written
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.beyond_accuracy import by_group_of_sums, frequency_groups
from llm4rec_cli.evaluation.bootstrap import bootstrap_of_sums
from llm4rec_cli.evaluation.paper_text import paper_columns
from llm4rec_cli.evaluation.text import (
    bleu_counts,
    diversity,
    signatures,
    text_columns,
    text_metrics,
    text_values,
)
from llm4rec_cli.tasks.base import Evaluation, answers, asked_about, limited, part_examples


def examples(split: Split, part: SplitName, config: Config, cache: Path) -> Examples:
    """What the task asks: the part's examples where a user wrote such a text, under the dataset's control.

    Raises:
        DataError: the part holds none.
    """
    return limited(part_examples(split, part, config), config)


def protocol(task: Any) -> str:
    """The protocol's name: the column that answers are compared with."""
    return str(task.written.value)


def write(model: Writer, asked: Examples, written: Written, batch_size: int) -> list[str]:
    """The model's texts for all examples, at most `batch_size` at a time."""
    given = answers(model, asked, batch_size, lambda batch: model.write(batch, written), "writing")
    return [text for batch in given for text in batch]


def validation_score(model: Writer, split: Split, asked: Examples, config: Config) -> float:
    """The task's selection metric on these examples; higher is better."""
    written: Any = config.task.written
    texts = write(model, asked, written, config.trainer.eval_batch_size)
    references = _column(split, asked, written.value)
    columns = text_columns(text_values(texts, references), bleu_counts(texts, references))
    metrics = text_metrics({name: column.sum() for name, column in columns.items()})
    return float((diversity(texts) | metrics)[config.task.selection])


def evaluate(model: Writer, split: Split, asked: Examples, config: Config) -> Evaluation:
    """Asks for the texts and scores them, apart also by how often the item occurs in training."""
    written: Any = config.task.written
    texts = write(model, asked, written, config.trainer.eval_batch_size)
    references = _column(split, asked, written.value)
    features = None
    if written == Written.explanation and "feature" in split.dataset.interactions:
        features = _column(split, asked, "feature")
    counts = bleu_counts(texts, references) | paper_columns(texts, references)
    columns = text_columns(text_values(texts, references, features), counts)
    (whole,) = by_group_of_sums(columns, text_metrics, {"all": np.ones(len(asked), dtype=bool)}).values()
    del whole["n"]
    rng = stream(config.dataset.seed, "bootstrap")
    intervals = bootstrap_of_sums(columns, text_metrics, asked.user, rng, config.task.bootstrap)
    predictions = asked_about(split, asked)
    groups = frequency_groups(predictions["target_train_count"].to_numpy())
    breakdown = {"target_train_count": by_group_of_sums(columns, text_metrics, groups)}
    predictions["reference"], predictions["prediction"] = references, texts
    if features is not None:
        predictions["feature"] = features
    return Evaluation(whole | diversity(texts), intervals, breakdown, predictions, signatures())


def _column(split: Split, asked: Examples, name: str) -> list[str]:
    """What users wrote about the examples; empty where nothing."""
    return split.dataset.interactions[name].fillna("").iloc[asked.row].tolist()
