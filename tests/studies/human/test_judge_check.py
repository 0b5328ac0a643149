"""The check of a chat model that judges: hand-made judges with one habit each."""

from dataclasses import replace

from llm4rec_studies.human import judge_check
from llm4rec_studies.human.agreement import Scale
from llm4rec_studies.human.judge_check import FOREIGN, INTACT, SHUFFLED, Preference
from llm4rec_studies.human.sheets import Example, Key, Sheet

TEXTS = [
    ("a warm light tent", "it is fine", "good"),
    ("the zip of the bag breaks", "it is fine", "bad zip"),
    ("two kites fly high", "it is not fine", "good"),
    ("soap that smells of pine", "it is fine", "smell of pine"),
]
EXAMPLES = [
    Example(f"item {i}", "4", "", dict(zip("ABC", texts, strict=True)), f"ab-{i}") for i, texts in enumerate(TEXTS)
]
KEY = Key(
    sheet="ab",
    dataset="demo",
    dataset_fingerprint="f",
    task="explanation",
    split="test",
    protocol="explanation",
    seed=0,
    scale=Scale.score,
    criteria=["clarity"],
    runs=[],
    systems=["p5", "chatgptrec", "reference"],
    examples={e.name: {"A": ["reference"], "B": ["p5"], "C": ["chatgptrec"]} for e in EXAMPLES},
)
PROBES = list(judge_check.probes(EXAMPLES, KEY))


def check(judge, scale=Scale.score):
    """Return the check of `judge`, a function of the texts shown, in their order, that returns their scores."""
    parsed = []
    for probe in PROBES:
        labels, texts = probe.example.texts.keys(), [*probe.example.texts.values()]
        values = judge(texts)
        parsed.append({} if values is None else {"clarity": dict(zip(labels, values, strict=True))})
    sheet = Sheet("ab", "explanation", scale, ["clarity"], EXAMPLES)
    return judge_check.preferences(sheet, 0, PROBES, parsed)["clarity"]


def test_damaged_texts_are_the_users_own_in_disorder_and_another_users():
    of_users = {texts[0] for texts in TEXTS}
    assert len(PROBES) == len(EXAMPLES)
    for probe, (own, *_) in zip(PROBES, TEXTS, strict=True):
        texts = dict(zip(probe.kinds, probe.example.texts.values(), strict=True))
        assert texts[INTACT] == own
        assert texts[SHUFFLED] != own and sorted(texts[SHUFFLED].split()) == sorted(own.split())
        assert texts[FOREIGN] in of_users - {own}
    assert len({probe.kinds for probe in PROBES}) > 1, "the intact text has no fixed place"


def test_a_text_of_one_word_is_not_shuffled_and_a_lone_one_has_no_foreign_text():
    key = replace(KEY, examples={"ab-9": {"A": ["reference"], "B": ["p5", "chatgptrec"]}})
    lone = Example("item", "", "", {"A": "good", "B": "bad"}, "ab-9")
    assert list(judge_check.probes([lone], key)) == []


def test_the_intact_text_is_compared_with_each_damage_and_ties_count_half():
    originals = {text for texts in TEXTS for text in texts}
    sees_disorder = check(lambda texts: [5 if text in originals else 1 for text in texts])
    assert (sees_disorder[SHUFFLED].mean, sees_disorder[SHUFFLED].n) == (1, 4)
    assert sees_disorder[FOREIGN].mean == 0.5, "the text of another example is as orderly"
    by_rank = check(lambda texts: [1 + (text not in originals) for text in texts], Scale.rank)
    assert by_rank[SHUFFLED].mean == 1, "of ranks, the lower is the better"


def test_a_judge_without_answers_has_no_numbers():
    measured = check(lambda texts: None)
    assert measured[SHUFFLED] == measured[FOREIGN] == Preference(None, None, 0)
