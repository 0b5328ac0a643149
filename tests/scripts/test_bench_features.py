"""All contenders encode texts to the same vectors."""

import bench_features as bench
import numpy as np
import pytest

TEXTS = ["red nail polish", "a soft hair brush", "soap", "shampoo for dry hair, with oil of almonds, 250 ml", ""]


def test_all_contenders_give_each_text_the_same_vector():
    vectors = {name: encode() for name, encode in bench.contenders(TEXTS).items()}
    default = vectors[bench.DEFAULT]
    assert default.shape == (len(TEXTS), 384)
    assert bench.worst_cosine(vectors[bench.FP32], default) > 0.99999
    assert bench.worst_cosine(vectors[bench.BF16], default) > 0.9995
    assert bench.worst_cosine(default[::-1], default) < 0.9  # texts differ


def test_the_worst_cosine_does_not_depend_on_lengths():
    vectors, others = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[5.0, 0.0], [4.0, 3.0]])
    assert bench.worst_cosine(vectors, others) == pytest.approx(24 / 25)


def test_a_run_prints_each_contender_and_exits_with_its_verdict(cache, monkeypatch, bench_prints):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    bench_prints(bench.main, ["--texts", "8", "--rounds", "1"], "### 8 distinct texts of demo", *bench.DESCRIPTIONS)
