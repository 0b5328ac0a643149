import re
from xml.etree import ElementTree

from plot_encoders import draw


def line(model, variant="", mean="0.0743 ± 0.0005", dataset="shop"):
    return {
        "dataset": dataset,
        "model": model,
        "variant": variant,
        "ndcg@10": mean,
        "ndcg@10 low": "0.07",
        "ndcg@10 high": "0.08",
    }


MINILM = "trainer.epochs=100 model.encoder.name=minilm model.encoder.dimension=256 model.encoder.whiten=True"
LAST = MINILM.replace("minilm", "smollm2") + " model.encoder.pooling=last"
TABLE = [
    line("unisrec", MINILM.replace("True", "False")),  # not whitened
    line("popularity"),
    line("sasrec, initial text vectors", LAST, "0.0612"),
    line("sasrec, initial text vectors", f"{MINILM} dataset.control=shuffle_text"),
    line("sasrec, initial text vectors", MINILM),
    line("sasrec"),
    line("unisrec", MINILM, dataset="films"),
]


def test_each_value_is_drawn_once_and_said_in_words():
    picture = draw(TABLE)
    ElementTree.fromstring(picture)
    said = re.findall("<title>(.*?)</title>", picture)
    assert len(said) == 5
    assert "sasrec, initial, SmolLM2, last token: 0.0612 (0.0700 to 0.0800)" in said
    assert picture.count("stroke-dasharray") == 1
