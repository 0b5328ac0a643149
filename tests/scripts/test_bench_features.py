"""All contenders encode texts to the same vectors, and FLOP are counted correctly."""

import bench_features as bench
import numpy as np
import pytest
import torch
from bench_common import Timing, flops_per_unit
from transformers import BertConfig, BertModel

from llm4rec_cli.config.schema import EncoderConfig, Pooling, Precision

TEXTS = ["red nail polish", "a soft hair brush", "soap", "shampoo for dry hair, with oil of almonds, 250 ml", ""]


def test_all_contenders_give_each_text_the_same_vector():
    vectors = {
        name: encode()
        for name, encode in bench.contenders(TEXTS, EncoderConfig("minilm", Pooling.mean, 256, Precision.bf16)).items()
    }
    default = vectors[bench.DEFAULT]
    assert default.shape == (len(TEXTS), 384)
    assert bench.worst_cosine(vectors[bench.FP32], default) > 0.99999
    assert bench.worst_cosine(vectors[bench.BF16], default) > 0.9995
    assert bench.worst_cosine(default[::-1], default) < 0.9  # texts differ


def test_the_worst_cosine_does_not_depend_on_lengths():
    vectors, others = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[5.0, 0.0], [4.0, 3.0]])
    assert bench.worst_cosine(vectors, others) == pytest.approx(24 / 25)


def test_needed_operations_are_those_that_run_where_nothing_is_padded():
    config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    model = BertModel(config, add_pooling_layer=False).eval()

    def encode():
        with torch.no_grad():
            return len(model(input_ids=torch.ones(3, 7, dtype=torch.long)).last_hidden_state)

    assert flops_per_unit(encode) == bench.needed_flops(config, np.array([7, 7, 7]))


def test_equal_texts_have_a_row_of_their_own():
    timings = {bench.DEFAULT: Timing(10, 9, 11), bench.BF16: Timing(40, 30, 50)}
    row = bench.equal_texts_row([{"encoding": bench.DEFAULT, "worst cosine": "1"}], timings, 1.5)
    assert (row["encoding"], row["speed-up"], row["worst cosine"]) == (bench.ONCE, "6.00", "")
    assert row["texts/s: median (min–max)"] == "60.0"
