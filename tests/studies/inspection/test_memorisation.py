"""Probes of a chat model's memory of a dataset: what is asked, and what a model that knows it by heart scores."""

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.llm.requests import TEXT, Completion, Request
from llm4rec_studies.inspection import memorisation

WORDS = ("red", "blue", "old", "new", "big")
TITLES = [f"{a} {b} story" for a in WORDS for b in WORDS if a != b]  # 20
SEQUENCES = [[(u + i) % 20 for i in range(4)] for u in range(30)]
N = sum(map(len, SEQUENCES))
PLAIN = tiny_dataset(
    SEQUENCES, TITLES, rating=[float(1 + i % 5) for i in range(N)], timestamp=[8e8 + i for i in range(N)]
)
DATASET = replace(PLAIN, items=PLAIN.items.assign(title=TITLES))


def completion(logprobs):
    return Completion("", "stop", 1, 1, 0.0, "fake", "now", tuple(logprobs), tuple(1 for _ in logprobs))


def test_every_probe_is_posed_with_true_ends_of_other_records():
    probes = memorisation.probes(DATASET, 10, 0)
    assert list(probes) == list(memorisation.PROBES)
    for name, probe in probes.items():
        assert len(probe.records) == 10 and len(probe.made_up) == (0 if name == "titles" else 10)
        for request in (*probe.records, *probe.made_up):
            assert len(set(request.continuations)) == memorisation.ENDS
        assert memorisation.probes(DATASET, 10, 0)[name] == probe != memorisation.probes(DATASET, 10, 1)[name]


def test_the_first_end_completes_the_record():
    for copy, dataset in (("records", DATASET), ("made_up", memorisation.with_next_ids(DATASET))):
        of = {name: getattr(probe, copy) for name, probe in memorisation.probes(DATASET, 10, 0).items()}
        title_of = dataset.items.set_index("item_id")["title"]
        ids = dataset.items["item_id"].to_numpy()
        for request in of["titles"]:
            assert last_line(request) + request.continuations[0] in TITLES
        for request in of["items"]:
            assert title_of[last_line(request).rstrip("|")] == request.continuations[0]
        for request in of["next_item"]:
            user, history = last_line(request).split(": ")
            number = int(np.flatnonzero(dataset.user_ids == user)[0])
            assert [*history.split(), request.continuations[0]] == [str(ids[i]) for i in SEQUENCES[number]]
        for request in of["rows"]:
            rating, time = request.continuations[0].split("\t")
            row = int(float(time) - 8e8)
            user, item, _ = last_line(request).split("\t")
            assert float(rating) == 1 + row % 5
            assert user == str(dataset.user_ids[row // 4]) and item == str(ids[SEQUENCES[row // 4][row % 4]])


def test_as_a_text_a_record_goes_on_with_the_space_before_its_end():
    messages, texts = (memorisation.probes(DATASET, 10, 0, as_text) for as_text in (False, True))
    for name, probe in texts.items():
        for request, other in zip(probe.records, messages[name].records, strict=True):
            assert request.messages[0]["role"] == TEXT and "Complete this one" not in request.messages[0]["content"]
            assert last_line(request) == last_line(other).rstrip(" ")
            space = " " if name in ("titles", "next_item") else ""
            assert request.continuations == tuple(space + end for end in other.continuations)


def test_ids_of_a_made_up_copy_are_the_next_ones_in_order():
    dataset = replace(
        DATASET,
        items=DATASET.items.assign(item_id=[str(7 * i % 20) for i in range(20)]),
        user_ids=np.array([f"{'AB'[i % 2]}{i}C" for i in range(30)], dtype=object),
    )
    made_up = memorisation.with_next_ids(dataset)
    assert list(made_up.items["item_id"]) == [str((7 * i + 1) % 20) for i in range(20)]
    assert list(made_up.items["title"]) == TITLES
    in_order = [f"A{i}C" for i in range(0, 30, 2)] + [f"B{i}C" for i in range(1, 30, 2)]
    following = dict(zip(in_order, [*in_order[1:], in_order[0]], strict=True))
    assert list(made_up.user_ids) == [following[user] for user in dataset.user_ids]


def near_ids(n_users, n_items):
    """A dataset whose users go on with an item that is numbered close to those before it."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, n_items - 40, n_users)
    return tiny_dataset([[int(start + step) for step in rng.permutation(40)[:8]] for start in starts], [""] * n_items)


def nearest(requests):
    """Answer with the end that is numbered closest to the beginning, as whoever knows nothing can."""
    answers = []
    for request in requests:
        history = [number_of(raw_id) for raw_id in last_line(request).split(": ")[1].split()]
        distances = [abs(number_of(end) - np.mean(history)) for end in request.continuations]
        answers.append(completion([-distance for distance in distances]))
    return answers


def number_of(raw_id):
    return int("".join(filter(str.isdecimal, raw_id)))


def test_a_rule_that_follows_the_order_of_ids_is_no_memory():
    probe = memorisation.probes(near_ids(400, 900), 200, 0)["next_item"]
    hits = [memorisation.likeliest(requests, nearest(requests)) for requests in probe]
    score = memorisation.score(*hits)
    assert score.above_chance and score.made_up > 0.5
    assert not memorisation.is_memory(score)
    knows = memorisation.likeliest(probe.records, [completion([0, -1, -1, -1, -1])] * 200)
    assert memorisation.is_memory(memorisation.score(knows, hits[1]))


def last_line(request):
    return request.messages[0]["content"].splitlines()[-1]


def ends(*offered):
    """A request for one of these ends, the first of which is true."""
    return Request(({"role": "user", "content": "a line"},), offered)


def test_shares_count_ties_in_part_and_have_an_interval():
    different = [ends(*(str((i + j) % 50) for j in range(5))) for i in range(50)]
    always = memorisation.score(memorisation.likeliest(different, [completion([-1, -2, -2, -2, -2])] * 50))
    assert (always.share, always.chance, always.n) == (1, pytest.approx(0.2), 50) and always.above_chance
    ties = memorisation.score(memorisation.likeliest(different, [completion([-1] * 5)] * 50))
    assert ties.share == pytest.approx(0.2) and not ties.above_chance
    never = memorisation.score(memorisation.likeliest(different, [completion([-2, -1, -2, -2, -2])] * 50))
    assert never.share == 0 and never.low == pytest.approx(0)


def test_a_model_that_always_prefers_the_frequent_end_is_at_chance():
    stars = "5" * 60 + "4" * 25 + "3" * 10 + "2" * 3 + "1" * 2
    requests = [ends(true, *(other for other in "54321" if other != true)) for true in stars]
    answers = [completion([float(end) for end in request.continuations]) for request in requests]
    biased = memorisation.score(memorisation.likeliest(requests, answers))
    assert biased.share == biased.chance == 0.6 and not biased.above_chance
    rare = [ends("a", "b", "c", "d", "e"), ends("b", "a", "c", "d", "b"), ends("b", "a", "c", "d", "e")]
    assert memorisation.score(memorisation.likeliest(rare[:1] * 3, [completion([-1] * 5)] * 3)).chance == 1
    knows = memorisation.score(memorisation.likeliest(requests, [completion([0, -1, -1, -1, -1])] * 100))
    assert knows.share == 1 and knows.above_chance


def written(text):
    return Completion(text, "stop", 1, 1, 0.0, "fake", "now")


def test_an_end_counts_as_written_alone_or_after_the_beginning_of_its_record():
    request = Request(({"role": "user", "content": "Complete this one:\nu1\ti7\t"},), ("5\t881250949", "4\t1"))
    for text in ("5\t881250949", " 5  881250949 \nu2\ti8", "u1\ti7\t5\t881250949"):
        assert memorisation.verbatim([request], [written(text)]).shares == [1]
    for text in ("", "5", "4\t1", "The line ends with 5\t881250949"):
        assert memorisation.verbatim([request], [written(text)]).shares == [0]
    (free,) = memorisation.to_be_written([request])
    assert free.continuations is None and free.messages == request.messages


def test_chance_of_written_ends_is_that_of_the_ends_of_other_records():
    stars = [*"5" * 60, *"4" * 40]
    requests = [ends(true, "none") for true in stars]
    always = memorisation.score(memorisation.verbatim(requests, [written("5")] * 100))
    assert always.share == 0.6 and always.chance == pytest.approx((60 * 59 + 40 * 60) / (100 * 99))
    assert not always.above_chance
    knows = memorisation.score(memorisation.verbatim(requests, [written(true) for true in stars]))
    assert knows.share == 1 and knows.above_chance
    assert knows.chance == pytest.approx((60 * 59 + 40 * 39) / (100 * 99))


def test_one_lucky_end_is_no_sign_of_memory():
    requests = [ends(str(i), "none") for i in range(200)]
    answers = [written("0"), *[written("nothing")] * 199]
    lucky = memorisation.score(memorisation.verbatim(requests, answers))
    assert lucky.share == lucky.chance == 1 / 200 and not lucky.above_chance


def test_a_dataset_without_titles_or_ratings_has_fewer_probes():
    untitled, untimed = DATASET.items.drop(columns="title"), DATASET.interactions.drop(columns=["rating", "timestamp"])
    bare = replace(DATASET, items=untitled, interactions=untimed)
    assert list(memorisation.probes(bare, 10, 0)) == ["next_item"]
