"""The reference computes the same as our model."""

import bench_training as bench
import numpy as np
import pytest

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.data.split import leave_one_out
from tests.models import naive

pytestmark = pytest.mark.numeric

# train parts of 7, 1, 4, 2, 5, 3 and 2 items: no sequence is longer than max_length inputs, so no window cuts a prefix
SEQUENCES = [[0, 1, 2, 3, 3, 4, 0, 5, 6], [4, 5, 6], [7, 1, 1, 2, 0, 3], [6, 5, 4, 3], [2, 9, 8, 9, 1, 7, 7], [8, 0]]
SMALL = ["model.hidden_size=16", "model.inner_size=12", "model.max_length=6"]


def test_the_reference_has_the_loss_and_gradients_of_our_one_pass():
    job = bench.training_job([*SMALL, "trainer.batch_size=4", "model.dropout=0"])
    split = leave_one_out(tiny_dataset(SEQUENCES))
    model = bench.stages.build(job, split)
    naive.randomise(model)
    reference, prefixes = bench.build_reference(job.config, model), bench.PrefixRows(split, job.model.max_length)
    rows = model.training_rows()
    loss = model.train()(**rows.batch(0, list(range(len(rows)))))["loss"]
    expected = reference.train()(**prefixes.batch(np.arange(len(prefixes))))
    assert_close(loss, expected, rel=1e-4)
    ours, theirs = naive.gradients(loss, model), naive.gradients(expected, reference)
    assert ours.keys() == theirs.keys()
    for key in theirs:
        assert_close(ours[key], theirs[key], rel=1e-3, msg=key)


def test_a_run_prints_each_contender(monkeypatch, bench_prints):
    for name, value in {"TARGETS": 1, "REFERENCE_BATCH": 8}.items():
        monkeypatch.setattr(bench, name, value)
    small = [*SMALL, "trainer.batch_size=512", "model.layers=1"]
    bench_prints(bench, small, "### sasrec on demo, 16-d, 160 items", bench.REFERENCE, bench.FP32, bench.BF16)
