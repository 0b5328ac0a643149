from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.config.schema import Control, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset, tiny_log
from llm4rec_cli.data.controls import controlled_dataset, controlled_examples
from llm4rec_cli.data.split import TEST, TRAIN, Split, leave_one_out, p5_reviews, split_dataset
from llm4rec_cli.errors import DataError

USERS, LENGTH = 30, 12


@pytest.fixture
def dataset():
    item = np.random.default_rng(0).integers(0, 200, size=(USERS, LENGTH))
    time = np.tile(np.arange(LENGTH) // 3, USERS) * 1.0  # three interactions each time
    made = tiny_dataset(item.tolist(), n_items=200, timestamp=time, rating=item.ravel() % 5 + 1.0)
    titles = [f"t{i}" for i in range(200)]
    items = made.items.assign(title=titles, brand=range(200), tokens=[[f"of {title}"] for title in titles])
    return replace(made, items=items.assign(price=items["brand"].astype(str) + ".00"))


def test_shuffle_text_moves_an_item_s_texts_together(dataset):
    changed = controlled_dataset(dataset, Control.shuffle_text, 0)
    assert sorted(changed.items["title"]) == sorted(dataset.items["title"])
    assert (changed.items["title"] == "t" + changed.items["brand"].astype(str)).all()
    assert (changed.items["price"] == changed.items["brand"].astype(str) + ".00").all()
    assert changed.items["tokens"].tolist() == [[f"of {title}"] for title in changed.items["title"]]
    assert (changed.items["title"] != dataset.items["title"]).mean() > 0.9
    assert changed.items["item_id"].equals(dataset.items["item_id"])
    assert changed.interactions.equals(dataset.interactions)
    assert changed.manifest["control"] == "shuffle_text"
    assert "control" not in dataset.manifest


def test_shuffle_history_keeps_targets_and_what_each_user_had_and_shuffles_the_validation_item_into_test_histories(
    dataset,
):
    changed = controlled_dataset(dataset, Control.shuffle_history, 0)
    before, after = dataset.sequence.reshape(USERS, LENGTH), changed.sequence.reshape(USERS, LENGTH)
    assert (before[:, -2:] == after[:, -2:]).all()
    assert (before[:, :-2] != after[:, :-2]).any(axis=1).all()
    assert all(Counter(b) == Counter(a) for b, a in zip(before, after, strict=True))
    assert changed.interactions["timestamp"].equals(dataset.interactions["timestamp"])
    assert (changed.interactions["rating"] == changed.interactions["item"] % 5 + 1).all()
    plain = leave_one_out(changed).examples(SplitName.test)
    changed = controlled_examples(plain, Control.shuffle_history, 0)
    before, after = (e.histories()[0].reshape(USERS, LENGTH - 1) for e in (plain, changed))
    assert all(Counter(b) == Counter(a) for b, a in zip(before, after, strict=True))
    assert (before[:, -1] != after[:, -1]).mean() > 0.7
    assert (changed.target == plain.target).all()


def test_shuffle_ties_permutes_whole_interactions_within_a_user_s_time_and_so_changes_what_is_held_out(dataset):
    changed = controlled_dataset(dataset, Control.shuffle_ties, 0)
    for column in ("user", "timestamp"):
        assert changed.interactions[column].equals(dataset.interactions[column])
    assert (changed.interactions["rating"] == changed.interactions["item"] % 5 + 1).all()
    before, after = (d.sequence.reshape(USERS * LENGTH // 3, 3) for d in (dataset, changed))
    assert (np.sort(before) == np.sort(after)).all()
    assert 0.6 < (before != after).any(axis=1).mean() < 1, "five of six orders of three differ from the file's"
    targets = [leave_one_out(d).examples(SplitName.test).target for d in (dataset, changed)]
    assert 0.4 < (targets[0] != targets[1]).mean() < 0.9, "two of three in expectation"
    assert changed.fingerprint != dataset.fingerprint
    assert changed.manifest["control"] == "shuffle_ties"
    time = dataset.interactions["timestamp"].where(dataset.interactions["timestamp"] < 3)  # each user's last three
    without = replace(dataset, interactions=dataset.interactions.assign(timestamp=time))
    before, after = (
        d.sequence.reshape(USERS, LENGTH) for d in (without, controlled_dataset(without, Control.shuffle_ties, 0))
    )
    assert (before[:, -3:] == after[:, -3:]).all()
    assert (before[:, :-3] != after[:, :-3]).any()


def test_shuffle_ties_is_refused_where_it_would_change_nothing(dataset):
    untimed = replace(dataset, interactions=dataset.interactions.drop(columns="timestamp"))
    with pytest.raises(DataError, match="dataset 'tiny' has no times") as error:
        controlled_dataset(untimed, Control.shuffle_ties, 0)
    assert "dataset=ml-100k" in error.value.remedy
    untied = replace(dataset, interactions=dataset.interactions.assign(timestamp=np.arange(USERS * LENGTH) * 1.0))
    with pytest.raises(DataError, match="would change nothing"):
        controlled_dataset(untied, Control.shuffle_ties, 0)


def test_swap_users_gives_all_examples_of_a_user_another_s_longest_history(dataset):
    plain = leave_one_out(dataset).examples(SplitName.test)
    changed = controlled_examples(plain, Control.swap_users, 0)
    assert (changed.start != plain.start).all()
    assert sorted(changed.start) == sorted(plain.start)
    assert (changed.end - changed.start == LENGTH - 1).all()
    for name in ("user", "target", "row"):
        assert (getattr(changed, name) == getattr(plain, name)).all()
    every_row = Split(dataset, np.full(len(dataset.interactions), TEST, dtype=np.int8)).examples(SplitName.test)
    changed = controlled_examples(every_row, Control.swap_users, 0)
    owner = changed.start // LENGTH
    assert (owner != every_row.user).all()
    assert (changed.end - changed.start == LENGTH - 1).all()
    assert len(set(zip(every_row.user, owner, strict=True))) == len(set(owner)) == USERS
    with pytest.raises(DataError, match="at least two users"):
        controlled_examples(leave_one_out(dataset).examples(SplitName.test)[:1], Control.swap_users, 0)


@pytest.mark.parametrize("control", Control)
def test_controls_are_a_function_of_the_seed(control, dataset):
    def run(seed: int) -> tuple[list[str], list[list[str]], list[int], list[int]]:
        changed = controlled_dataset(dataset, control, seed)
        examples = controlled_examples(leave_one_out(changed).examples(SplitName.test), control, seed)
        items, history = changed.items, examples.histories()[0]
        return items["title"].tolist(), items["tokens"].tolist(), changed.sequence.tolist(), history.tolist()

    assert run(0) == run(0)
    assert (run(0) == run(1)) == (control is Control.none)


def test_shuffle_history_leaves_p5_s_random_split_as_it_was_drawn(dataset):
    dataset.manifest["split"] = {"rule": "p5_reviews"}
    dataset.interactions["part"] = p5_reviews(dataset, 0)
    changed = controlled_dataset(dataset, Control.shuffle_history, 0)
    is_target = split_dataset(dataset).assignment != TRAIN
    assert (split_dataset(changed).assignment == split_dataset(dataset).assignment).all()
    assert (changed.sequence[is_target] == dataset.sequence[is_target]).all()
    assert (changed.sequence != dataset.sequence).any()


def test_shuffle_tokens_moves_tokens_alone(dataset):
    changed = controlled_dataset(dataset, Control.shuffle_tokens, 0)
    assert sorted(changed.items["tokens"]) == sorted(dataset.items["tokens"])
    assert (changed.items["tokens"] != dataset.items["tokens"]).mean() > 0.9
    assert changed.items.drop(columns="tokens").equals(dataset.items.drop(columns="tokens"))
    assert changed.interactions.equals(dataset.interactions)
    assert changed.manifest["control"] == "shuffle_tokens"


def visits(n=20):
    """Return a click log of readers with long histories; one has none."""
    rows = [("dev" if i % 4 == 0 else "train", i, i, list(range(i, i + (12 if i else 0))), "0-1 1-0") for i in range(n)]
    return tiny_log(rows, [f"t{i}" for i in range(40)])


def test_shuffle_history_permutes_the_histories_of_a_click_log_and_nothing_else():
    before = visits()
    after = controlled_dataset(before, Control.shuffle_history, 0)
    pairs = [*zip(after.impressions["history"], before.impressions["history"], strict=True)]
    assert [list(a) != list(b) for a, b in pairs] == [False, *[True] * 19]
    assert all(Counter(a) == Counter(b) for a, b in pairs)
    rest = before.impressions.columns.drop("history")
    assert after.impressions[rest].equals(before.impressions[rest])
    assert after.manifest["control"] == "shuffle_history"


@pytest.mark.parametrize("control", [Control.shuffle_history, Control.swap_users])
def test_of_impressions_a_control_changes_the_histories_alone(control):
    impressions = split_dataset(visits()).impressions(TEST)
    changed = controlled_examples(impressions, control, 0)
    before, after = (np.split(flat, offsets[1:-1]) for flat, offsets in (impressions.histories(), changed.histories()))
    kept = [sorted(a) == sorted(b) for a, b in zip(after, before, strict=True)]
    assert all(kept) == (control is Control.shuffle_history)
    assert any(a.tolist() != b.tolist() for a, b in zip(after, before, strict=True))
    assert (changed.shown()[0] == impressions.shown()[0]).all()
    assert (changed.clicked() == impressions.clicked()).all()
    assert (changed.user == impressions.user).all()
