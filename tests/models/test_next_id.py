from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from llm4rec_cli.config.schema import Index, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.models.baselines.config import NextIdConfig
from tests.data.test_real_data import prepared

DATASET = tiny_dataset([[0, 2, 3], [4, 1, 2], [3, 5, 0]], n_items=6)


def test_guesses_the_number_after_the_highest_of_the_history(build):
    scores = build("next_id", DATASET).score(leave_one_out(DATASET).examples(SplitName.test))
    assert scores.tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]]  # no item after 5
    examples = leave_one_out(DATASET).examples(SplitName.test)
    scores = build("next_id", DATASET).score(replace(examples, end=examples.start))
    assert scores.tolist() == [[0] * 6] * 3


def hit_rate(build, dataset, index, seed=0):
    dataset = replace(dataset, manifest=dataset.manifest | {"split": {"rule": "leave_one_out", "seed": seed}})
    examples = leave_one_out(dataset).examples(SplitName.test)
    examples = replace(examples, candidates=examples.target[:, None])  # the target alone: scored 1 if it is guessed
    return build("next_id", dataset, index=index).score(examples).mean().item()


def test_uses_the_numbers_of_an_index(build):
    # Each user has new items, in an order that the dataset's own numbers do not show.
    dataset = tiny_dataset(np.random.default_rng(0).permutation(800).reshape(200, 4).tolist())
    assert hit_rate(build, dataset, Index.leaky_p5) == 1
    assert hit_rate(build, dataset, Index.sequential) < 0.02
    assert hit_rate(build, dataset, Index.random) < 0.02
    assert hit_rate(build, dataset, None) < 0.02
    dataset = tiny_dataset([[4, 1, 3, 0, 2]], n_items=6)
    examples = leave_one_out(dataset).examples(SplitName.test)
    assert build("next_id", dataset, index=Index.leaky_p5).score(examples).tolist() == [[0, 0, 1, 0, 0, 0]]


def test_an_index_without_numbers_is_refused_and_the_name_in_tables_shows_the_index():
    for kind in (Index.collaborative, Index.semantic):
        with pytest.raises(UsageError, match=f"model.index={kind.name} does not number items"):
            raise_first(NextIdConfig(name="next_id", index=kind).problems(SimpleNamespace()))
    assert NextIdConfig(name="next_id").display_name() == "next_id"
    assert NextIdConfig(name="next_id", index=Index.leaky_p5).display_name() == "next_id, leaky_p5 numbers"


@pytest.mark.real_data
def test_on_beauty_only_leaky_numbers_are_guessed(build, tmp_path):
    dataset, _ = prepared("amazon2014-beauty", "amazon2014-beauty", tmp_path)
    leaky = [hit_rate(build, dataset, Index.leaky_p5, seed) for seed in range(5)]
    assert np.mean(leaky) == pytest.approx(0.0556, abs=0.002)  # mean of 20 seeds: 0.0556, standard deviation 0.0014
    assert hit_rate(build, dataset, None) == pytest.approx(0.0441, abs=1e-4)
    assert hit_rate(build, dataset, Index.sequential) < 0.005
    assert hit_rate(build, dataset, Index.random) < 0.001
