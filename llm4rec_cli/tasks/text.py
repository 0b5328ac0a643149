"""The text tasks: explain why a user likes or dislikes an item (explanation), and write the title of their review
(review_summary)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.capabilities import Writer
from llm4rec_cli.config.schema import Config, TaskConfig, Written
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.other_texts import other_texts
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.evaluation.beyond_accuracy import of_sums
from llm4rec_cli.evaluation.paper_text import paper_columns
from llm4rec_cli.evaluation.sentiment import sentiment_classifier, sentiment_columns
from llm4rec_cli.evaluation.text import (
    FITS,
    bleu_counts,
    diversity,
    nearer_shares,
    signatures,
    text_columns,
    text_metrics,
    text_values,
)
from llm4rec_cli.tasks import base
from llm4rec_cli.tasks.base import Evaluation, answer_in_batches, evaluation_of_sums

examples = base.examples


def protocol(task: TaskConfig) -> str:
    assert task.written is not None
    return task.written.value


def write(model: Writer, examples: Examples, written: Written, batch_size: int) -> list[str]:
    """Return the model's texts for all examples, at most `batch_size` at a time."""
    batches = answer_in_batches(model, examples, batch_size, lambda batch: model.write(batch, written), "writing")
    return [text for batch in batches for text in batch]


def per_example(
    model: Writer, split: Split, examples: Examples, config: Config
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return (n,) values of each metric that is a mean over examples."""
    return text_values(*_written(model, split, examples, config))


def validation_score(model: Writer, split: Split, examples: Examples, config: Config) -> float:
    """Return the task's selection metric on these examples; higher is better."""
    texts, references = _written(model, split, examples, config)
    columns = text_columns(text_values(texts, references), bleu_counts(texts, references))
    return (diversity(texts) | of_sums(columns, text_metrics))[config.task.selection]


def evaluate(model: Writer, split: Split, examples: Examples, config: Config) -> Evaluation:
    """Generate the texts and score them, overall and by the item's training frequency."""
    texts, references = _written(model, split, examples, config)
    features = None
    if config.task.written == Written.explanation and "feature" in split.dataset.interactions:
        features = _column(split, examples, "feature")
    counts = bleu_counts(texts, references) | paper_columns(texts, references)
    values = text_values(texts, references, features) | _fits(split, examples, config.task, texts, references)
    columns = text_columns(values, counts)
    columns |= _sentiment(split, examples, config.task, texts)
    result = evaluation_of_sums(columns, text_metrics, split, examples, config)
    answers = {"reference": references, "prediction": texts} | ({} if features is None else {"feature": features})
    return replace(
        result,
        metrics=result.metrics | diversity(texts),
        predictions=result.predictions.assign(**answers, **values),
        signatures=signatures(),
    )


def _written(model: Writer, split: Split, examples: Examples, config: Config) -> tuple[list[str], list[str]]:
    """Return the model's texts and the users'."""
    written: Any = config.task.written
    texts = write(model, examples, written, config.trainer.eval_batch_size)
    return texts, _column(split, examples, written.value)


def _fits(
    split: Split, examples: Examples, task: TaskConfig, texts: list[str], references: list[str]
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return (n,) `fits_user` and `fits_item`."""
    others = other_texts(split, examples, protocol(task))
    return {name: nearer_shares(texts, references, drawn) for name, drawn in zip(FITS, others, strict=True)}


def _sentiment(split: Split, examples: Examples, task: TaskConfig, texts: list[str]) -> dict[str, NDArray[Any]]:
    """Return the columns of `sentiment`; empty where ratings are missing or all alike."""
    if "rating" not in split.dataset.interactions:
        return {}
    stars = split.dataset.interactions["rating"].to_numpy(dtype=np.float64)
    training = split.assignment == TRAIN
    own_texts = split.dataset.interactions[protocol(task)][training].fillna("").tolist()
    classifier = sentiment_classifier(own_texts, stars[training])
    return {} if classifier is None else sentiment_columns(classifier, texts, stars[examples.row])


def _column(split: Split, examples: Examples, name: str) -> list[str]:
    """Return what users wrote in this column; empty where they wrote nothing."""
    return split.dataset.interactions[name].iloc[examples.row].fillna("").tolist()
