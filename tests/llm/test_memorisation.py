"""Probes of a chat model's memory of a dataset: what is asked, and what a model that knows it by heart scores."""

import numpy as np
import pytest

from llm4rec_cli.llm import memorisation
from llm4rec_cli.llm.requests import Completion, Request
from tests.support.builders import tiny_dataset

WORDS = ("red", "blue", "old", "new", "big")
TITLES = [f"{a} {b} story" for a in WORDS for b in WORDS if a != b]  # 20
SEQUENCES = [[(u + i) % 20 for i in range(4)] for u in range(30)]
N = sum(map(len, SEQUENCES))
PLAIN = tiny_dataset(
    SEQUENCES, TITLES, rating=[float(1 + i % 5) for i in range(N)], timestamp=[8e8 + i for i in range(N)]
)
DATASET = memorisation.RecDataset(
    **{**vars(PLAIN), "items": PLAIN.items.assign(title=TITLES), "manifest": PLAIN.manifest | {"name": "tiny"}}
)


def completion(logprobs):
    return Completion("", "stop", 1, 1, 0.0, "fake", "now", tuple(logprobs), tuple(1 for _ in logprobs))


def test_every_probe_is_asked_with_true_ends_of_other_records():
    probes = memorisation.requests(DATASET, 10, 0)
    assert list(probes) == list(memorisation.PROBES)
    for name, requests in probes.items():
        assert len(requests) == 10
        for request in requests:
            assert len(set(request.continuations)) == memorisation.ENDS
        assert memorisation.requests(DATASET, 10, 0)[name] == requests != memorisation.requests(DATASET, 10, 1)[name]


def test_the_first_end_completes_the_record():
    probes = memorisation.requests(DATASET, 10, 0)
    (item, title), *_ = [(last_line(r), r.continuations[0]) for r in probes["items"]]
    assert DATASET.items.set_index("item_id")["title"][item.rstrip("|")] == title
    (beginning, end), *_ = [(last_line(r), r.continuations[0]) for r in probes["titles"]]
    assert beginning + end in TITLES
    (before, last), *_ = [(last_line(r), r.continuations[0]) for r in probes["next_item"]]
    user, history = before.split(": ")
    number = int(np.flatnonzero(DATASET.user_ids == user)[0])
    ids = DATASET.items["item_id"].to_numpy()
    assert [*history.split(), last] == [str(ids[i]) for i in SEQUENCES[number]]
    (ids_of_row, end), *_ = [(last_line(r), r.continuations[0]) for r in probes["rows"]]
    rating, time = end.split("\t")
    row = int(float(time) - 8e8)
    assert float(rating) == 1 + row % 5 and ids_of_row.split("\t")[0] == str(DATASET.user_ids[row // 4])


def last_line(request):
    return request.messages[0]["content"].splitlines()[-1]


def ends(*offered):
    """A request for one of these ends, the first of which is true."""
    return Request(({"role": "user", "content": "a line"},), offered)


def test_shares_count_ties_in_part_and_have_an_interval():
    different = [ends(*(str((i + j) % 50) for j in range(5))) for i in range(50)]
    always = memorisation.score(different, [completion([-1, -2, -2, -2, -2])] * 50)
    assert (always.share, always.chance, always.n) == (1, pytest.approx(0.2), 50) and always.above_chance
    ties = memorisation.score(different, [completion([-1] * 5)] * 50)
    assert ties.share == pytest.approx(0.2) and not ties.above_chance
    never = memorisation.score(different, [completion([-2, -1, -2, -2, -2])] * 50)
    assert never.share == 0 and never.low == pytest.approx(0)


def test_a_model_that_always_prefers_the_frequent_end_is_at_chance():
    stars = "5" * 60 + "4" * 25 + "3" * 10 + "2" * 3 + "1" * 2
    requests = [ends(true, *(other for other in "54321" if other != true)) for true in stars]
    answers = [completion([float(end) for end in request.continuations]) for request in requests]
    biased = memorisation.score(requests, answers)
    assert biased.share == biased.chance == 0.6 and not biased.above_chance
    rare = [ends("a", "b", "c", "d", "e"), ends("b", "a", "c", "d", "b"), ends("b", "a", "c", "d", "e")]
    assert memorisation.score(rare[:1] * 3, [completion([-1] * 5)] * 3).chance == 1
    knows = memorisation.score(requests, [completion([0, -1, -1, -1, -1])] * 100)
    assert knows.share == 1 and knows.above_chance


def written(text):
    return Completion(text, "stop", 1, 1, 0.0, "fake", "now")


def test_an_end_counts_as_written_alone_or_after_the_beginning_of_its_record():
    request = Request(({"role": "user", "content": "Complete this one:\nu1\ti7\t"},), ("5\t881250949", "4\t1"))
    for text in ("5\t881250949", " 5  881250949 \nu2\ti8", "u1\ti7\t5\t881250949"):
        assert memorisation.score_verbatim([request], [written(text)]).share == 1
    for text in ("", "5", "4\t1", "The line ends with 5\t881250949"):
        assert memorisation.score_verbatim([request], [written(text)]).share == 0
    (free,) = memorisation.to_be_written([request])
    assert free.continuations is None and free.messages == request.messages


def test_chance_of_written_ends_is_that_of_the_ends_of_other_records():
    stars = [*"5" * 60, *"4" * 40]
    requests = [ends(true, "none") for true in stars]
    always = memorisation.score_verbatim(requests, [written("5")] * 100)
    assert always.share == 0.6 and always.chance == pytest.approx((60 * 59 + 40 * 60) / (100 * 99))
    assert not always.above_chance
    knows = memorisation.score_verbatim(requests, [written(true) for true in stars])
    assert knows.share == 1 and knows.above_chance
    assert knows.chance == pytest.approx((60 * 59 + 40 * 39) / (100 * 99))


def test_one_lucky_end_is_no_sign_of_memory():
    requests = [ends(str(i), "none") for i in range(200)]
    answers = [written("0"), *[written("nothing")] * 199]
    lucky = memorisation.score_verbatim(requests, answers)
    assert lucky.share == lucky.chance == 1 / 200 and not lucky.above_chance


def test_a_dataset_without_titles_or_ratings_has_fewer_probes():
    bare = memorisation.RecDataset(
        **{
            **vars(DATASET),
            "items": DATASET.items.drop(columns="title"),
            "interactions": DATASET.interactions.drop(columns=["rating", "timestamp"]),
        }
    )
    assert list(memorisation.requests(bare, 10, 0)) == ["next_item"]
