"""Splits: which interaction is train, valid or test; and the examples that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.config.schema import SplitName, SplitRule
from llm4rec_cli.data.examples import Examples, Impressions, IntArray
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError

TRAIN, VALID, TEST, UNUSED = 0, 1, 2, 3
VALID_SHARE = 0.05  # of MIND's train impressions
SPLIT_CODES = {SplitName.valid: VALID, SplitName.test: TEST}


@dataclass(frozen=True)
class Split:
    """A dataset divided.

    Attributes:
        dataset: the whole dataset.
        part: (n_interactions,) TRAIN, VALID, TEST, or UNUSED: neither trained on nor asked about.
        cold: (n_items,) which items are held out of all training; None = none.
        home: (n_interactions,) of a split by domain, which are of the domains that are trained on; None = of any other.
        divided: (n_interactions,) `part` as it was before anything was held out; None = as it is.
        away: (n_users,) which users are held out of training and validation; None = none.
        impression_assignment: (n_impressions,) of a click log, TRAIN, VALID or TEST, as `part` of interactions; None = it is
            none.
    """

    dataset: RecDataset
    assignment: NDArray[np.int8]
    cold: NDArray[np.bool_] | None = None
    in_train_domain: NDArray[np.bool_] | None = None
    assignment_before_holdout: NDArray[np.int8] | None = None
    excluded_users: NDArray[np.bool_] | None = None
    impression_assignment: NDArray[np.int8] | None = None

    @property
    def n_items(self) -> int:
        return self.dataset.n_items

    @property
    def n_users(self) -> int:
        return self.dataset.n_users

    def without_holdout(self) -> Split:
        """The same with nothing held out: what is drawn once for all experiments is drawn from it."""
        return (
            self
            if self.assignment_before_holdout is None
            else Split(self.dataset, self.assignment_before_holdout, in_train_domain=self.in_train_domain)
        )

    def for_ranking(self) -> Split:
        """The division that rankings are trained and asked by: this one; under `p5_reviews`, which knows no order,
        leave-one-out, as P5 has both at once. So most of its test pairs stand among the reviews trained on."""
        if "part" not in self.dataset.interactions:
            return self
        by_order = leave_one_out(self.dataset)
        if self.assignment_before_holdout is None:
            return by_order
        assert self.excluded_users is not None
        return _without(by_order, self.excluded_users, self.cold)

    def softmax_items(self) -> IntArray | None:
        """The sorted numbers of the items that training sets a target against; None = all.

        Those that are cold are not among them, nor, of a split by domain, those of the domain that is asked about.
        """
        if self.cold is None and self.in_train_domain is None:
            return None
        among = np.ones(self.n_items, dtype=bool)
        if self.cold is not None:
            among &= ~self.cold
        if self.in_train_domain is not None:
            among[self.dataset.sequence[~self.in_train_domain]] = False
        return np.flatnonzero(among)

    def train_sequences(self) -> tuple[IntArray, IntArray]:
        """The training part of each user's sequence, oldest first: flat item numbers and offsets (n_users + 1,)."""
        kept = self.assignment == TRAIN
        before = np.concatenate([[0], np.cumsum(kept)])
        return self.dataset.sequence[kept], before[self.dataset.offsets]

    def train_counts(self) -> IntArray:
        """(n_items,) how often each item occurs in the training part; of a click log, is clicked there."""
        if self.impression_assignment is not None:
            trained = self.impressions(TRAIN)
            return np.bincount(trained.shown()[0][trained.clicked()], minlength=self.n_items)
        return np.bincount(self.dataset.sequence[self.assignment == TRAIN], minlength=self.n_items)

    def seen_in_training(self) -> NDArray[np.bool_]:
        """(n_items,) which items occur in the training part; of a click log, are shown there or in a history."""
        met = np.zeros(self.n_items, dtype=bool)
        if self.impression_assignment is None:
            met[self.dataset.sequence[self.assignment == TRAIN]] = True
        else:
            trained = self.impressions(TRAIN)
            met[trained.shown()[0]] = True
            met[trained.histories()[0]] = True
        return met

    def examples(self, part: SplitName) -> Examples:
        """One example an interaction of that part; its history is all that precedes it in the user's sequence.

        Of a split by domain, histories are of the domains that are trained on: of validation, what precedes in them; of
        test, all that the user did there, whenever it was. Under `p5_reviews` an interaction of any part may stand in a
        history, and a user's first has none.
        """
        row = np.flatnonzero(self.assignment == SPLIT_CODES[part])
        sequence, offsets = self.dataset.sequence, self.dataset.offsets
        user = self.dataset.interactions["user"].to_numpy()[row]
        start, end = offsets[user], row
        if self.in_train_domain is not None:
            before = np.concatenate([[0], np.cumsum(self.in_train_domain)])
            start, end = before[start], before[row if part is SplitName.valid else offsets[user + 1]]
            sequence = sequence[self.in_train_domain]
        return Examples(user, self.dataset.sequence[row], sequence, start, end, row)

    @cached_property
    def click_log(self) -> Impressions:
        """All impressions of a click log, in the order of the files.

        Clicks are known by their items: of an item that is listed twice in an impression both are clicked, or neither.
        """
        rows = self.dataset.impressions
        assert rows is not None
        flat, bounds = {}, {}
        for column in ("history", "candidates", "clicks"):
            lengths = rows[column].map(len).to_numpy(dtype=np.int64)
            flat[column] = np.concatenate([np.zeros(0, dtype=np.int32), *rows[column]])
            bounds[column] = np.concatenate([[0], np.cumsum(lengths)])
        owner = np.repeat(np.arange(len(rows)), np.diff(bounds["candidates"]))
        clicker = np.repeat(np.arange(len(rows)), np.diff(bounds["clicks"]))
        return Impressions(
            id=rows["impression_id"].to_numpy(dtype=object),
            user=rows["user"].to_numpy(),
            time=rows["timestamp"].to_numpy(dtype=np.float64),
            sequence=flat["history"],
            start=bounds["history"][:-1],
            end=bounds["history"][1:],
            listed=flat["candidates"],
            listed_clicks=np.isin(owner * self.n_items + flat["candidates"], clicker * self.n_items + flat["clicks"]),
            first=bounds["candidates"][:-1],
            last=bounds["candidates"][1:],
        )

    def impressions(self, part: int) -> Impressions:
        """The impressions of one part of a click log, TRAIN, VALID or TEST, in the order of the file."""
        return self.click_log[np.flatnonzero(self.impression_assignment == part)]

    def user_names(self) -> list[str]:
        """What each user is called, by the last of their training interactions with a name; without one, the raw id."""
        names = [str(user_id) for user_id in self.dataset.user_ids]
        rows = self.dataset.interactions
        if "user_name" in rows:
            trained = rows[self.assignment == TRAIN]
            known = trained["user_name"].fillna("").str.strip()
            for user, name in zip(trained["user"], known, strict=True):
                names[user] = name or names[user]
        return names


def split_dataset(dataset: RecDataset) -> Split:
    """The dataset divided by the rule that its manifest names.

    Raises:
        DataError: the rule is temporal, and times are missing or all alike; or it is transfer, and the domains share no
            user; or it divides interactions, and there are impressions, or the other way round.
    """
    split = dataset.manifest["split"]
    rule = SplitRule(split["rule"])
    if dataset.impressions is not None and rule is not SplitRule.mind:
        raise DataError(
            f"dataset '{dataset.manifest['name']}' is a click log, and dataset.split={rule.value} divides interactions",
            "dataset.split=mind",
        )
    if rule is SplitRule.temporal:
        return temporal(dataset, *split["cuts"])
    if rule is SplitRule.p5_reviews:
        return Split(dataset, dataset.interactions["part"].to_numpy())
    if rule is SplitRule.transfer:
        return transfer(dataset, split["test_domain"])
    if rule is SplitRule.mind:
        return mind(dataset, split["seed"])
    return leave_one_out(dataset)


def leave_one_out(dataset: RecDataset) -> Split:
    """A user's last interaction is test, the one before validation, the rest train.

    Users with fewer than three interactions stay in train whole: they have no history to ask about.
    """
    part = np.zeros(len(dataset.interactions), dtype=np.int8)
    last = dataset.offsets[1:][np.diff(dataset.offsets) >= 3] - 1
    part[last] = TEST
    part[last - 1] = VALID
    return Split(dataset, part)


def temporal(dataset: RecDataset, valid_cut: float, test_cut: float) -> Split:
    """What happened before one moment is train; two periods follow, of validation and of test, the same for all users.

    In each period a user is asked about their first interaction, given all that came before it, if anything did; what
    else happened in the periods is UNUSED. So nothing that is trained on lies after anything that is asked about, in
    test as in validation (leave-one-out trains on the future of other users). The k-core and the catalogue are still
    those of the whole time.

    Args:
        valid_cut, test_cut: the shares of all interactions that lie before each period; equal times stay together.

    Raises:
        DataError: times are missing, or too few differ.
    """
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
    period = np.searchsorted(begins, time, side="right").astype(np.int8)  # TRAIN, VALID, TEST
    user = dataset.interactions["user"].to_numpy()
    follows = np.zeros(len(time), dtype=bool)  # the one before is of the same user
    follows[1:] = user[1:] == user[:-1]
    first = np.ones(len(time), dtype=bool)
    first[1:] = (user[1:] != user[:-1]) | (period[1:] != period[:-1])
    return Split(dataset, np.where((period == TRAIN) | (first & follows), period, UNUSED).astype(np.int8))


def p5_reviews(dataset: RecDataset, seed: int) -> NDArray[np.int8]:
    """P5's random split of all interactions (arXiv 2203.13366; its notebooks): 80 % train, 10 % validation, 10 % test.

    One random interaction of each user and one of each item are train, and so are random others until they make 80 %;
    the rest is halved. What is asked about may come before what is trained on, and a history may hold other test items:
    an answer about a rating or a text can do without order, a ranking cannot. `prepare` draws it once and keeps it in
    the column `part`, so a control that moves interactions leaves it as it is.

    Args:
        dataset: as numbered.
        seed: `dataset.seed`.

    Returns:
        (n_interactions,) TRAIN, VALID or TEST.

    Raises:
        DataError: with one interaction of each user and each item in train, nothing is left to test.
    """
    rng = stream(seed, "p5_reviews")
    n = len(dataset.interactions)
    part = np.full(n, UNUSED, dtype=np.int8)
    for number in (dataset.interactions["user"].to_numpy(), dataset.sequence):
        order = rng.permutation(n)
        _, first = np.unique(number[order], return_index=True)
        part[order[first]] = TRAIN
    rest = rng.permutation(np.flatnonzero(part == UNUSED))
    missing = max(0, round(0.8 * n) - (n - len(rest)))
    halves = np.array_split(rest[missing:], 2)  # of an odd number validation has the larger
    for rows, code in zip((rest[:missing], *halves), (TRAIN, VALID, TEST), strict=True):
        part[rows] = code
    if len(halves[1]) == 0:
        raise DataError(
            f"dataset '{dataset.manifest['name']}' cannot be divided by p5_reviews: with one interaction of each user "
            f"and of each item in train, {len(halves[0])} of {n:,} are left to validate and test",
            "choose dataset.split=leave_one_out, or a larger dataset",
        )
    return part


def transfer(dataset: RecDataset, test_domain: str) -> Split:
    """All domains but one are trained on; test asks about that one's interactions of users who are in another, too.

    In the domains that are trained on, a user's last interaction is validation, of users with at least two there. Other
    users' interactions in the test domain are UNUSED. Items of the test domain stay in the catalogue, and training
    meets none of them.

    Args:
        dataset: of several domains with shared users.
        test_domain: one of its domains.

    Raises:
        DataError: no user of the test domain is in another.
    """
    names, of_item = dataset.domains
    home = of_item[dataset.sequence] != names.index(test_domain)
    before = np.concatenate([[0], np.cumsum(home)])[dataset.offsets]
    n_home = np.diff(before)
    user = dataset.interactions["user"].to_numpy()
    part = np.where(home, TRAIN, np.where(n_home[user] > 0, TEST, UNUSED)).astype(np.int8)
    part[np.flatnonzero(home)[before[1:][n_home >= 2] - 1]] = VALID
    if TEST not in part:
        raise DataError(
            f"dataset '{dataset.manifest['name']}' cannot be divided by transfer: no user of its domain "
            f"'{test_domain}' is in another one, too",
            "choose domains whose users have the same raw ids",
        )
    return Split(dataset, part, in_train_domain=home)


def mind(dataset: RecDataset, seed: int) -> Split:
    """MIND's parts as Prompt4NR has them: `dev` is test, and of `train` a random 5 % of the impressions are validation.

    MIND's own test labels are hidden. Which 5 % the authors drew is unknown; of MIND-small their number is (7,849 of
    156,965: rounded up), as GLIMPSE (arXiv 2409.17711) has it from the same setup.

    Args:
        dataset: a click log whose impressions have a column `part`: `train` or `dev`.
        seed: `dataset.seed`.

    Raises:
        DataError: it is none, or a part is empty.
    """
    name = dataset.manifest["name"]
    if dataset.impressions is None:
        raise DataError(
            f"dataset.split=mind divides impressions, and dataset '{name}' has none", "dataset.split=leave_one_out"
        )
    is_dev = (dataset.impressions["part"] == "dev").to_numpy()
    train = np.flatnonzero(~is_dev)
    part = np.where(is_dev, TEST, TRAIN).astype(np.int8)
    part[stream(seed, "mind").permutation(train)[int((1 - VALID_SHARE) * len(train)) :]] = VALID
    for code, called in ((TRAIN, "train"), (VALID, "valid"), (TEST, "test")):
        if code not in part:
            raise DataError(
                f"dataset '{name}' has no {called} impressions: {len(train):,} in train, {is_dev.sum():,} in dev",
                "take a larger log",
            )
    return Split(dataset, np.zeros(0, dtype=np.int8), impression_assignment=part)


def hold_out(split: Split, cold_items: float, train_users: float, seed: int) -> Split:
    """A split without cold items and without some users in its train and validation parts; test stays whole.

    What is held out becomes UNUSED, but remains in the histories that are asked with: a history is what the user did.
    So a cold item may be the target of a test example, or stand in its history, and a model of ids meets it there with
    an embedding that was never trained; one that embeds users knows as little of those left out. Both draws are nested:
    of one seed, a larger share holds all of a smaller one.

    Args:
        split: as divided.
        cold_items: the share of items held out, drawn uniformly; 0 = none, else at least one.
        train_users: the share of users that stay in train and validation, drawn uniformly, at least one.
        seed: `dataset.seed`.

    Raises:
        DataError: no user keeps two interactions to train on, or nothing is left to validate on.
    """
    if cold_items == 0 and train_users == 1:
        return split
    user = split.dataset.interactions["user"].to_numpy()
    away = ~_drawn(split.n_users, train_users, stream(seed, "train_users"))
    cold = _drawn(split.n_items, cold_items, stream(seed, "cold_items")) if cold_items > 0 else None
    found = _without(split, away, cold)
    part = found.assignment
    if np.bincount(user[part == TRAIN]).max(initial=0) < 2 or VALID not in part:
        raise DataError(
            f"dataset.cold_items={cold_items:g} and dataset.train_users={train_users:g} leave dataset "
            f"'{split.dataset.manifest['name']}' no user with two interactions to train on, or nothing to validate on",
            "lower dataset.cold_items, or raise dataset.train_users",
        )
    return found


def _without(split: Split, away: NDArray[np.bool_], cold: NDArray[np.bool_] | None) -> Split:
    """A split whose train and validation parts are without these users and items."""
    left_out = away[split.dataset.interactions["user"].to_numpy()]
    if cold is not None:
        left_out = left_out | cold[split.dataset.sequence]
    part = np.where(left_out & (split.assignment != TEST), UNUSED, split.assignment).astype(np.int8)
    return replace(split, assignment=part, cold=cold, excluded_users=away, assignment_before_holdout=split.assignment)


def _drawn(n: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n,) which of 0..n-1 are in a uniform draw of that share, at least one of them."""
    chosen = np.zeros(n, dtype=bool)
    chosen[rng.permutation(n)[: max(1, round(share * n))]] = True
    return chosen


def cut_at(time: NDArray[np.floating], share: float) -> float:
    """The moment before which that share of the interactions lies; those of that very time come after it."""
    return float(np.sort(time)[min(int(share * len(time)), len(time) - 1)])
