"""The text tasks: explain why a user likes or dislikes an item (explanation), and write the title of their review
(review_summary)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.capabilities import Writer
from llm4rec_cli.config.schema import Config, TaskConfig, Written
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.beyond_accuracy import by_group_of_sums, frequency_groups, of_sums
from llm4rec_cli.evaluation.bootstrap import bootstrap_of_sums
from llm4rec_cli.evaluation.paper_text import paper_columns
from llm4rec_cli.evaluation.sentiment import sentiment_classifier, sentiment_columns
from llm4rec_cli.evaluation.text import bleu_counts, diversity, signatures, text_columns, text_metrics, text_values
from llm4rec_cli.tasks import base
from llm4rec_cli.tasks.base import Evaluation, answer_in_batches, example_rows

examples = base.examples


def protocol(task: TaskConfig) -> str:
    """Return the protocol's name: the column that predictions are compared with."""
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
    written: Any = config.task.written
    texts = write(model, examples, written, config.trainer.eval_batch_size)
    return text_values(texts, _column(split, examples, written.value))


def validation_score(model: Writer, split: Split, examples: Examples, config: Config) -> float:
    """Return the task's selection metric on these examples; higher is better."""
    written: Any = config.task.written
    texts = write(model, examples, written, config.trainer.eval_batch_size)
    references = _column(split, examples, written.value)
    columns = text_columns(text_values(texts, references), bleu_counts(texts, references))
    return (diversity(texts) | of_sums(columns, text_metrics))[config.task.selection]


def evaluate(model: Writer, split: Split, examples: Examples, config: Config) -> Evaluation:
    """Generate the texts and score them, overall and by the item's training frequency."""
    written: Any = config.task.written
    texts = write(model, examples, written, config.trainer.eval_batch_size)
    references = _column(split, examples, written.value)
    features = None
    if written == Written.explanation and "feature" in split.dataset.interactions:
        features = _column(split, examples, "feature")
    counts = bleu_counts(texts, references) | paper_columns(texts, references)
    columns = text_columns(text_values(texts, references, features), counts)
    columns |= _sentiment(split, examples, written, texts)
    overall = of_sums(columns, text_metrics)
    rng = stream(config.dataset.seed, "bootstrap")
    intervals = bootstrap_of_sums(columns, text_metrics, examples.user, rng, config.task.bootstrap)
    predictions = example_rows(split, examples)
    groups = frequency_groups(predictions["target_train_count"].to_numpy())
    breakdown = {"target_train_count": by_group_of_sums(columns, text_metrics, groups)}
    predictions["reference"], predictions["prediction"] = references, texts
    if features is not None:
        predictions["feature"] = features
    return Evaluation(overall | diversity(texts), intervals, breakdown, predictions, signatures())


def _sentiment(split: Split, examples: Examples, written: Written, texts: list[str]) -> dict[str, NDArray[Any]]:
    """Return the columns of `sentiment`; empty where ratings are missing or all alike."""
    if "rating" not in split.dataset.interactions:
        return {}
    stars = split.dataset.interactions["rating"].to_numpy(dtype=np.float64)
    training = split.assignment == TRAIN
    own_texts = split.dataset.interactions[written.value][training].fillna("").tolist()
    classifier = sentiment_classifier(own_texts, stars[training])
    return {} if classifier is None else sentiment_columns(classifier, texts, stars[examples.row])


def _column(split: Split, examples: Examples, name: str) -> list[str]:
    """Return what users wrote in this column; empty where they wrote nothing."""
    return split.dataset.interactions[name].iloc[examples.row].fillna("").tolist()
