"""Splits: which interactions are train, valid or test, and the examples that follow from that."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm4rec_cli.config.schema import SplitName, SplitRule
from llm4rec_cli.data.examples import Examples, Impressions, IntArray
from llm4rec_cli.data.lists import LIST_COLUMNS, flat_list
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError

TRAIN, VALID, TEST, UNUSED = 0, 1, 2, 3
VALID_SHARE = 0.05  # of MIND's train impressions
SECONDS_A_DAY = 86_400
IMPRESSIONS_AT_ONCE = 1 << 14  # whose clicks are looked up together
SPLIT_CODES = {SplitName.valid: VALID, SplitName.test: TEST}


@dataclass(frozen=True)
class Split:
    """A dataset and the split that each of its interactions belongs to.

    Attributes:
        assignment: (n_interactions,) TRAIN, VALID, TEST, or UNUSED: neither trained nor evaluated on.
        cold: (n_items,) which items are held out of all training; None = none.
        in_train_domain: (n_interactions,) under `transfer`, which are in a training domain; None = other rule.
        assignment_before_holdout: (n_interactions,) `assignment` before items or users were held out; None = unchanged.
        excluded_users: (n_users,) which users are held out of training and validation; None = none.
        impression_assignment: (n_impressions,) of a click log, TRAIN, VALID, TEST or UNUSED; None = not a click log.
    """

    dataset: RecDataset
    assignment: NDArray[np.int8]
    cold: NDArray[np.bool_] | None = None
    in_train_domain: NDArray[np.bool_] | None = None
    assignment_before_holdout: NDArray[np.int8] | None = None
    excluded_users: NDArray[np.bool_] | None = None
    impression_assignment: NDArray[np.int8] | None = None

    def digest(self, *recipe: object) -> str:
        """Return the address of what a recipe makes from the dataset, as a control left it, and its training part."""
        made_from = [*recipe, self.dataset.fingerprint, self.dataset.manifest.get("control", "")]
        is_train = (self.assignment == TRAIN).tobytes()
        return hashlib.sha256(json.dumps(made_from).encode() + is_train).hexdigest()[:24]

    @property
    def n_items(self) -> int:
        return self.dataset.n_items

    @property
    def n_users(self) -> int:
        return self.dataset.n_users

    def without_holdout(self) -> Split:
        """Return the split with nothing held out, from which everything shared by all experiments is drawn."""
        if self.assignment_before_holdout is None:
            return self
        return Split(self.dataset, self.assignment_before_holdout, in_train_domain=self.in_train_domain)

    def for_ranking(self) -> Split:
        """Return the split that ranking tasks train and evaluate on.

        That is this one, except under `p5_reviews`, which has no order: rankings then use leave-one-out, as in P5. Most
        of their test pairs are therefore among the reviews that are trained on.
        """
        is_divided = "part" in self.dataset.interactions  # at random, or by the raw files
        if not is_divided or self.dataset.manifest["split"]["rule"] != SplitRule.p5_reviews.value:
            return self
        return self._with_holdout(leave_one_out(self.dataset))

    def for_likes(self) -> Split:
        """Return the split that the task `like` evaluates on: under `temporal` every interaction of a period is an
        example, as each adds to what is known of the user. Training is the same."""
        settings = self.dataset.manifest["split"]
        if settings["rule"] != SplitRule.temporal.value:
            return self
        return self._with_holdout(Split(self.dataset, _periods(self.dataset, *settings["cuts"])))

    def _with_holdout(self, split: Split) -> Split:
        """Return another split of the same dataset with what is held out of this one."""
        if self.assignment_before_holdout is None:
            return split
        assert self.excluded_users is not None
        return _exclude(split, self.excluded_users, self.cold)

    def softmax_items(self) -> IntArray | None:
        """Return the sorted item numbers that a training softmax runs over; None = all.

        Cold items are left out, and under `transfer` the items of the test domain.
        """
        if self.cold is None and self.in_train_domain is None:
            return None
        included = np.ones(self.n_items, dtype=bool)
        if self.cold is not None:
            included &= ~self.cold
        if (outside := self.items_outside(SplitName.valid)) is not None:
            included[outside] = False
        return np.flatnonzero(included)

    def items_outside(self, name: SplitName) -> IntArray | None:
        """Return the sorted item numbers that no example of a split ranks: under `transfer` those of the other domain;
        else None."""
        if self.in_train_domain is None:
            return None
        return np.unique(self.dataset.sequence[self.in_train_domain == (name is SplitName.test)])

    def train_sequences(self) -> tuple[IntArray, IntArray]:
        """Return the training interactions of each user, oldest first: flat item numbers and offsets (n_users + 1,)."""
        is_train = self.assignment == TRAIN
        n_before = np.concatenate([[0], np.cumsum(is_train)])
        return self.dataset.sequence[is_train], n_before[self.dataset.offsets]

    def train_counts(self) -> IntArray:
        """Return (n_items,) how often each item occurs in training; of a click log, how often it is clicked there."""
        if self.impression_assignment is not None:
            train = self.impressions(TRAIN)
            return np.bincount(train.shown()[0][train.clicked()], minlength=self.n_items)
        return np.bincount(self.dataset.sequence[self.assignment == TRAIN], minlength=self.n_items)

    def repeated(self) -> float:
        """Return the share of the interactions in training and validation that repeat an item of their user. Those of
        the test part are not counted, so that what follows from this share is not chosen by them."""
        known = (self.assignment == TRAIN) | (self.assignment == VALID)
        user = self.dataset.interactions["user"].to_numpy()[known].astype(np.int64)
        pairs = user * self.n_items + self.dataset.sequence[known]
        return 1 - len(np.unique(pairs)) / len(pairs) if len(pairs) else 0.0

    def seen_in_training(self) -> NDArray[np.bool_]:
        """Return (n_items,) which items occur in training; of a click log, in its lists or histories."""
        seen = np.zeros(self.n_items, dtype=bool)
        if self.impression_assignment is None:
            seen[self.dataset.sequence[self.assignment == TRAIN]] = True
        else:
            train = self.impressions(TRAIN)
            seen[train.shown()[0]] = True
            seen[train.histories()[0]] = True
        return seen

    def examples(self, name: SplitName) -> Examples:
        """Return one example for each interaction of a split. Its history is all that precedes it in the sequence.

        Under `transfer`, histories hold interactions in the training domains only: for validation those that precede
        the target, for test all of the user's, whatever their time. Only items of the target's domain are ranked. Under
        `p5_reviews` a history may hold interactions of any split, and a user's first interaction has none.
        """
        row = np.flatnonzero(self.assignment == SPLIT_CODES[name])
        sequence, offsets = self.dataset.sequence, self.dataset.offsets
        user = self.dataset.interactions["user"].to_numpy()[row]
        start, end = offsets[user], row
        if self.in_train_domain is not None:
            n_before = np.concatenate([[0], np.cumsum(self.in_train_domain)])
            start, end = n_before[start], n_before[row if name is SplitName.valid else offsets[user + 1]]
            sequence = sequence[self.in_train_domain]
        return Examples(user, self.dataset.sequence[row], sequence, start, end, row, outside=self.items_outside(name))

    @cached_property
    def click_log(self) -> Impressions:
        """All impressions of a click log, in file order.

        Clicks are recorded by item: where an impression lists an item twice, both are clicked or neither.
        """
        rows = self.dataset.impressions
        assert rows is not None
        flat, bounds = {}, {}
        for column in LIST_COLUMNS:
            items, bounds[column] = flat_list(rows[column], pa.int32())
            flat[column] = items.to_numpy(zero_copy_only=False)

        def keys(column: str, start: int, end: int) -> IntArray:
            """Return a number for each (impression, item) in the lists of impressions start to end."""
            offsets = bounds[column][start : end + 1]
            impression = np.repeat(np.arange(end - start), np.diff(offsets))
            return impression * self.n_items + flat[column][offsets[0] : offsets[-1]]

        clicked = [np.zeros(0, dtype=bool)]
        for start in range(0, len(rows), IMPRESSIONS_AT_ONCE):
            end = min(len(rows), start + IMPRESSIONS_AT_ONCE)
            clicked.append(np.isin(keys("candidates", start, end), keys("clicks", start, end)))
        return Impressions(
            id=rows["impression_id"].to_numpy(dtype=object),
            user=rows["user"].to_numpy(),
            time=rows["timestamp"].to_numpy(dtype=np.float64),
            sequence=flat["history"],
            start=bounds["history"][:-1],
            end=bounds["history"][1:],
            listed=flat["candidates"],
            listed_clicks=np.concatenate(clicked),
            first=bounds["candidates"][:-1],
            last=bounds["candidates"][1:],
        )

    def impressions(self, code: int) -> Impressions:
        """Return the impressions of one split of a click log (TRAIN, VALID or TEST), in file order."""
        return self.click_log[np.flatnonzero(self.impression_assignment == code)]

    def user_names(self) -> list[str]:
        """Return each user's name, from the last training interaction that has one; without one, the raw id."""
        names, rows = self.dataset.user_ids.astype(str).astype(object), self.dataset.interactions
        if "user_name" in rows:
            train = np.flatnonzero((self.assignment == TRAIN) & self.dataset.has_value("user_name"))
            users, from_last = np.unique(rows["user"].to_numpy()[train][::-1], return_index=True)
            names[users] = rows["user_name"].iloc[train[::-1][from_last]].str.strip()
        return list(names)


def split_dataset(dataset: RecDataset) -> Split:
    """Split the dataset by the rule in its manifest.

    Raises:
        DataError: the rule is temporal, and times are missing or too many are equal; or it is given, and the raw files
            give none; or it is transfer, and the domains share no user; or the dataset is a click log and the rule
            splits interactions, or the other way round.
    """
    settings = dataset.manifest["split"]
    rule = SplitRule(settings["rule"])
    if dataset.impressions is not None and not rule.splits_impressions:
        raise DataError(
            f"dataset '{dataset.manifest['name']}' is a click log, and dataset.split={rule.value} splits interactions",
            "dataset.split=mind or mind_last_day",
        )
    if rule is SplitRule.temporal:
        return temporal(dataset, *settings["cuts"])
    if rule is SplitRule.p5_reviews:
        return Split(dataset, dataset.interactions["part"].to_numpy())
    if rule is SplitRule.given:
        return given(dataset)
    if rule is SplitRule.transfer:
        return transfer(dataset, settings["test_domain"])
    if rule is SplitRule.mind:
        return mind(dataset, settings["seed"])
    if rule is SplitRule.mind_last_day:
        return mind_last_day(dataset)
    return leave_one_out(dataset)


def leave_one_out(dataset: RecDataset) -> Split:
    """Assign each user's last interaction to test, the one before to validation, and the rest to training.

    All interactions of users with fewer than three stay in training: their targets would have no history.
    """
    assignment = np.zeros(len(dataset.interactions), dtype=np.int8)
    last = dataset.offsets[1:][np.diff(dataset.offsets) >= 3] - 1
    assignment[last] = TEST
    assignment[last - 1] = VALID
    return Split(dataset, assignment)


def temporal(dataset: RecDataset, valid_cut: float, test_cut: float) -> Split:
    """Split by time: training, then a validation period, then a test period, with the same cuts for all users.

    In each period a user's first interaction is the target, if any interaction precedes it. The others are UNUSED. So
    no training interaction is later than any target, in test or validation (leave-one-out trains on other users'
    future). The k-core and the catalogue still cover the whole time.

    Args:
        valid_cut, test_cut: the shares of all interactions that lie before each period. Equal times stay together.

    Raises:
        DataError: times are missing, or too few differ.
    """
    period = _periods(dataset, valid_cut, test_cut)
    user = dataset.interactions["user"].to_numpy()
    has_history = np.zeros(len(user), dtype=bool)
    has_history[1:] = user[1:] == user[:-1]
    first_in_period = np.ones(len(user), dtype=bool)
    first_in_period[1:] = (user[1:] != user[:-1]) | (period[1:] != period[:-1])
    used = (period == TRAIN) | (first_in_period & has_history)
    return Split(dataset, np.where(used, period, UNUSED).astype(np.int8))


def _periods(dataset: RecDataset, valid_cut: float, test_cut: float) -> NDArray[np.int8]:
    """Return (n_interactions,) the period of each, TRAIN, VALID or TEST; cuts and errors as in `temporal`."""
    name = dataset.manifest["name"]
    times = dataset.interactions.get("timestamp")
    if times is None or times.isna().any():
        missing = "no times" if times is None else f"no time for {times.isna().sum():,} of {len(times):,} interactions"
        raise DataError(
            f"dataset.split=temporal cuts at one moment, and dataset '{name}' has {missing}",
            "choose dataset.split=leave_one_out, which needs only an order",
        )
    time = times.to_numpy(dtype=np.float64)
    begins = [cut_at(time, cut) for cut in (valid_cut, test_cut)]
    if not time.min() < begins[0] < begins[1]:
        raise DataError(
            f"dataset '{name}' cannot be cut at {valid_cut} and {test_cut} of its interactions: too many share a time",
            "choose other dataset.cuts, or dataset.split=leave_one_out",
        )
    return np.searchsorted(begins, time, side="right").astype(np.int8)


def given(dataset: RecDataset) -> Split:
    """Split as the raw files do. What they list only as a user's history is UNUSED.

    Raises:
        DataError: the files give no split.
    """
    if "part" not in dataset.interactions:
        raise DataError(
            f"dataset.split=given needs raw files with a split, and those of '{dataset.manifest['name']}' have none",
            "choose dataset.split=leave_one_out or temporal",
        )
    part = dataset.interactions["part"].to_numpy()
    assignment = np.full(len(part), UNUSED, dtype=np.int8)
    for name, code in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        assignment[part == name] = code
    return Split(dataset, assignment)


def p5_reviews(dataset: RecDataset, seed: int) -> NDArray[np.int8]:
    """Draw P5's random split of all interactions (arXiv 2203.13366; its notebooks): 80 % train, 10 % valid, 10 % test.

    One random interaction of each user and of each item is train, then random others until train has 80 %. The rest is
    halved. Targets may precede training interactions, and a history may hold other test items: ratings and texts do not
    need an order, a ranking does. `prepare` draws the split once and stores it in the column `part`, so a control that
    moves interactions leaves it unchanged.

    Returns:
        (n_interactions,) TRAIN, VALID or TEST.

    Raises:
        DataError: with one interaction of each user and each item in train, nothing is left to test.
    """
    rng = stream(seed, "p5_reviews")
    n = len(dataset.interactions)
    assignment = np.full(n, UNUSED, dtype=np.int8)
    for number in (dataset.interactions["user"].to_numpy(), dataset.sequence):
        order = rng.permutation(n)
        _, first = np.unique(number[order], return_index=True)
        assignment[order[first]] = TRAIN
    rest = rng.permutation(np.flatnonzero(assignment == UNUSED))
    missing = max(0, round(0.8 * n) - (n - len(rest)))
    halves = np.array_split(rest[missing:], 2)  # validation has the larger half of an odd number
    for rows, code in zip((rest[:missing], *halves), (TRAIN, VALID, TEST), strict=True):
        assignment[rows] = code
    if len(halves[1]) == 0:
        raise DataError(
            f"dataset '{dataset.manifest['name']}' cannot be split by p5_reviews: with one interaction of each user "
            f"and of each item in train, {len(halves[0])} of {n:,} are left to validate and test",
            "choose dataset.split=leave_one_out, or a larger dataset",
        )
    return assignment


def transfer(dataset: RecDataset, test_domain: str) -> Split:
    """Train on all domains but one; test on that domain's interactions of users who occur in another one.

    In the training domains, the last interaction of each user with at least two there is validation. Other users'
    interactions in the test domain are UNUSED. Items of the test domain stay in the catalogue and occur in no training.

    Raises:
        DataError: no user of the test domain is in another.
    """
    names, domain = dataset.domains
    in_train_domain = domain[dataset.sequence] != names.index(test_domain)
    n_before = np.concatenate([[0], np.cumsum(in_train_domain)])[dataset.offsets]
    n_train = np.diff(n_before)
    user = dataset.interactions["user"].to_numpy()
    assignment = np.where(in_train_domain, TRAIN, np.where(n_train[user] > 0, TEST, UNUSED)).astype(np.int8)
    assignment[np.flatnonzero(in_train_domain)[n_before[1:][n_train >= 2] - 1]] = VALID
    if TEST not in assignment:
        raise DataError(
            f"dataset '{dataset.manifest['name']}' cannot be split by transfer: no user of domain '{test_domain}' "
            "is also in another domain",
            "choose domains whose users have the same raw ids",
        )
    return Split(dataset, assignment, in_train_domain=in_train_domain)


def mind(dataset: RecDataset, seed: int) -> Split:
    """Split MIND as Prompt4NR does: `dev` is test, and a random 5 % of the impressions of `train` are validation.

    MIND's own test labels are hidden. Which 5 % the authors drew is unknown; for MIND-small their number is known
    (7,849 of 156,965: rounded up), from GLIMPSE (arXiv 2409.17711), which uses the same setup.

    Raises:
        DataError: the dataset is not a click log with a column `part` (`train` or `dev`), or a split is empty.
    """
    train = _train_impressions(dataset)
    return _click_log_split(dataset, stream(seed, "mind").permutation(train)[int((1 - VALID_SHARE) * len(train)) :])


def mind_last_day(dataset: RecDataset) -> Split:
    """Split MIND by days: `dev` is test, and the last day of `train`, by the log's clock, is validation.

    Most news are shown for about a day, so a random part of `train` shows items that training also shows, while test, a
    day later, shows mostly new ones. The last day resembles test more.

    Raises:
        DataError: as `mind`.
    """
    train = _train_impressions(dataset)
    assert dataset.impressions is not None
    day = dataset.impressions["timestamp"].to_numpy()[train] // SECONDS_A_DAY
    return _click_log_split(dataset, train[day == day.max(initial=-np.inf)])


def _train_impressions(dataset: RecDataset) -> IntArray:
    if dataset.impressions is None:
        name, rule = dataset.manifest["name"], dataset.manifest["split"]["rule"]
        raise DataError(
            f"dataset.split={rule} splits impressions, and dataset '{name}' has none", "dataset.split=leave_one_out"
        )
    return np.flatnonzero((dataset.impressions["part"] != "dev").to_numpy())


def _click_log_split(dataset: RecDataset, valid: IntArray) -> Split:
    """Return the split of a click log with these rows of `train` as validation."""
    assert dataset.impressions is not None
    name, is_dev = dataset.manifest["name"], (dataset.impressions["part"] == "dev").to_numpy()
    assignment = np.where(is_dev, TEST, TRAIN).astype(np.int8)
    assignment[valid] = VALID
    for code, split_name in ((TRAIN, "train"), (VALID, "valid"), (TEST, "test")):
        if code not in assignment:
            raise DataError(
                f"dataset '{name}' has no {split_name} impressions: {(~is_dev).sum():,} in train, "
                f"{is_dev.sum():,} in dev",
                "take a larger log",
            )
    return Split(dataset, np.zeros(0, dtype=np.int8), impression_assignment=assignment)


def hold_out(split: Split, cold_items: float, train_users: float, seed: int) -> Split:
    """Hold cold items and a share of the users out of training and validation; test is unchanged.

    Held-out interactions become UNUSED but remain in the histories of examples, since a history is what the user did. A
    cold item may thus be a test target or occur in a history; a model of ids meets it with an untrained embedding, and
    a model that embeds users has untrained embeddings of the excluded ones. Both draws are nested: with one seed, a
    larger share includes a smaller one.

    Args:
        split: with nothing held out.
        cold_items: the share of items held out, drawn uniformly; 0 = none, else at least one.
        train_users: the share of users that stay in train and validation, drawn uniformly, at least one.

    Raises:
        DataError: no user keeps two interactions to train on, or nothing is left to validate on.
    """
    if cold_items == 0 and train_users == 1:
        return split
    user = split.dataset.interactions["user"].to_numpy()
    excluded_users = ~_drawn(split.n_users, train_users, stream(seed, "train_users"))
    cold = _drawn(split.n_items, cold_items, stream(seed, "cold_items")) if cold_items > 0 else None
    result = _exclude(split, excluded_users, cold)
    if np.bincount(user[result.assignment == TRAIN]).max(initial=0) < 2 or VALID not in result.assignment:
        raise DataError(
            f"dataset.cold_items={cold_items:g} and dataset.train_users={train_users:g} leave dataset "
            f"'{split.dataset.manifest['name']}' no user with two interactions to train on, or nothing to validate on",
            "lower dataset.cold_items, or raise dataset.train_users",
        )
    return result


def keep_impressions(split: Split, share: float, seed: int) -> Split:
    """Keep a share of a click log's training impressions, at least one. The others become UNUSED, validation and test
    are unchanged.

    The draw is uniform and nested: with one seed, a larger share includes a smaller one. An impression that is kept
    keeps its whole history.
    """
    assert split.impression_assignment is not None
    train = np.flatnonzero(split.impression_assignment == TRAIN)
    assignment = split.impression_assignment.copy()
    assignment[train[~_drawn(len(train), share, stream(seed, "train_impressions"))]] = UNUSED
    return replace(split, impression_assignment=assignment)


def _exclude(split: Split, users: NDArray[np.bool_], items: NDArray[np.bool_] | None) -> Split:
    """Return the split with these users and items taken out of training and validation."""
    excluded = users[split.dataset.interactions["user"].to_numpy()]
    if items is not None:
        excluded = excluded | items[split.dataset.sequence]
    assignment = np.where(excluded & (split.assignment != TEST), UNUSED, split.assignment).astype(np.int8)
    return replace(
        split, assignment=assignment, cold=items, excluded_users=users, assignment_before_holdout=split.assignment
    )


def _drawn(n: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return (n,) which of 0..n-1 are in a uniform draw of that share, at least one of them."""
    chosen = np.zeros(n, dtype=bool)
    chosen[rng.permutation(n)[: max(1, round(share * n))]] = True
    return chosen


def cut_at(time: NDArray[np.floating], share: float) -> float:
    """Return the moment before which that share of the interactions lies; interactions at that moment come after it."""
    return float(np.sort(time)[min(int(share * len(time)), len(time) - 1)])
