import re
from xml.etree import ElementTree

from plot_encoders import draw, rows_of


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
    line("sasrec, initial text vectors", f"{LAST} model.encoder.instruction=This item: {{text}} In one word"),
    line("sasrec, initial text vectors", LAST, "0.0612"),
    line("sasrec, initial text vectors", f"{MINILM} dataset.control=shuffle_text"),
    line("sasrec, initial text vectors", MINILM),
    line("sasrec"),
    line("unisrec", MINILM, dataset="films"),
]


def test_rows_are_in_the_order_of_models_and_encoders():
    rows = [(row.model.partition(",")[0], row.encoder, row.permuted) for row in rows_of(TABLE, "shop")]
    assert rows == [
        ("sasrec", "", False),
        ("sasrec", "minilm", False),
        ("sasrec", "minilm", True),
        ("sasrec", "smollm2 last", False),
        ("sasrec", "smollm2 instruction", False),
    ]
    assert rows_of(TABLE, "shop")[3][3:] == (0.0612, 0.07, 0.08)


def test_each_value_is_drawn_once_and_said_in_words():
    picture = draw(TABLE)
    ElementTree.fromstring(picture)
    said = re.findall("<title>(.*?)</title>", picture)
    assert len(said) == 6
    assert "sasrec, initial, SmolLM2, last token: 0.0612 (0.0700 to 0.0800)" in said
    assert picture.count("stroke-dasharray") == 1
