"""The search of `llm4rec tune`: trials on validation, proposed by Optuna, in a journal that several processes share.

Trial 0 is the setting before tuning, which for a shipped model is the published one; further starts follow it. They may
lie outside the space. No settings are tried twice. Later trials come from the tree-structured Parzen estimator
(Bergstra et al., NeurIPS 2011), the first quarter of all trials at random. A trial
whose validation metric is below the median of the earlier ones at the same epoch is pruned, from the fifth epoch on:
earlier, small models and low learning rates are behind those that they overtake. In one process a search is a function
of its seed, its trials' scores and its number of trials, also if it is killed and goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm4rec_cli import files
from llm4rec_cli.config.keys import key_role
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError, as_full_disk, as_unusable_path
from llm4rec_cli.run.execute import OnEpoch
from llm4rec_studies.tuning.space import Interval, Space, Values

log = logging.getLogger(__name__)

Settings = Mapping[str, Any]  # key -> value
JOURNAL, SETTINGS = "journal.jsonl", "settings.json"
LINK_SECONDS = 60
START = "start"  # the attribute of a trial with given settings: their place among the starts
WARM_UP = 5  # the first epoch after which a trial may be pruned
KILLED = "killed"  # the error of a trial whose process ended; its settings have another turn
REPEATED = "repeated"  # the error of a proposal that was tried before; another is made in its place
REPEATS = 20  # such proposals in a row end a search: the space may hold no others


class Pruned(Exception):
    """Raised in a trial that is stopped early."""


@dataclass(frozen=True)
class Trial:
    number: int
    state: str  # `complete`, `pruned`, `failed`, or `running`
    settings: Settings  # key -> value
    score: float | None  # the best validation metric, higher is better; None if there is none
    minutes: float  # its duration; of a killed trial, until its last epoch
    error: str | None = None  # why it failed

    @property
    def counts(self) -> bool:
        """Whether it is one of the budget's trials; one whose process was killed is made again."""
        return self.error != KILLED


@dataclass(frozen=True)
class Score:
    """The result of a trial that was not pruned."""

    value: float  # the validation metric, higher is better
    seconds: float | None = None  # of a run that an earlier process finished; None if it ran now


@dataclass(frozen=True)
class Budget:
    """When a search ends, whichever is first."""

    trials: int  # their number, pruned and failed ones included
    minutes: float | None = None  # of all trials together, in all processes; a trial that has begun is finished


class Search:
    """A search in a folder, which it continues if it exists."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        starts: Sequence[Settings],
        settings: Settings,
        seed: int,
    ) -> None:
        """Open a search; UsageError if the folder holds one with other settings.

        Args:
            starts: the settings that are tried first, key -> value. The first are those before tuning.
            settings: what must be equal for a search to continue, as JSON; of `overrides`, those that affect numbers.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.space, self.starts, self.seed = folder, space, [dict(start) for start in starts], seed
        outside = [key for key, entry in space.items() if not _holds(entry, self.starts[0][key])]
        content = {**settings, "space": {key: asdict(entry) for key, entry in space.items()}}
        # Searches of before proposed such a start to later trials too, and Optuna lets no list of values change.
        further = {"further_starts": self.starts[1:]} if len(starts) > 1 else {}
        as_stored = json.loads(json.dumps(content | ({"outside": outside} if outside else {}) | further))
        with files.locked(folder / ".start.lock", folder):
            new = not (folder / SETTINGS).exists()
            if not new and _differs(_stored_settings(folder / SETTINGS), as_stored):
                raise UsageError(
                    f"{folder} has a search on other data, with other settings or another space",
                    "--name NAME for another search",
                )
            storage = optuna.storages.JournalStorage(_journal(folder / JOURNAL))
            self.study = optuna.create_study(
                storage=storage,
                study_name="search",
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=WARM_UP),
            )
            for place in range(len(self.starts)) if new else ():
                self._enqueue_start(place)
            files.write_json(folder / SETTINGS, as_stored)

    def run(self, budget: Budget, evaluate: Callable[[Settings, OnEpoch], Score]) -> None:
        """Run trials until the budget is spent.

        Args:
            evaluate: runs the model with these settings; calls its second argument after each epoch that it trains.
        """
        self._requeue_killed()
        while (begun := self._begin(budget)) is not None:
            trial, lock = begun
            with lock:
                self._run_trial(trial, evaluate)
        for running in self.trials():  # by other processes: without theirs there is no result yet
            if running.state == "running" and best(self.trials()) is None:
                with files.locked(self._lock(running.number), self.folder):
                    pass

    def _begin(self, budget: Budget) -> tuple[Any, contextlib.ExitStack] | None:
        """Return the next trial, and the lock that shows that its process lives; None if the search ends."""
        import optuna

        with files.locked(self.folder / ".start.lock", self.folder):
            trials = self.trials()
            counted = [trial for trial in trials if trial.counts]
            minutes = sum(trial.minutes for trial in trials)
            if len(counted) >= budget.trials or (budget.minutes is not None and minutes >= budget.minutes):
                return None
            for attempt in range(REPEATS):
                draw = stream(self.seed, "tune", len(counted), *([attempt] if attempt else []))
                seed = int(draw.integers(2**31))
                if attempt:  # with few values to choose from, TPE proposes its favourite again and again
                    self.study.sampler = optuna.samplers.RandomSampler(seed)
                else:
                    self.study.sampler = optuna.samplers.TPESampler(
                        seed=seed, n_startup_trials=max(1, budget.trials // 4), constant_liar=True
                    )
                trial = self.study.ask()
                settings = self._settings(trial)
                trial.set_user_attr("settings", settings)
                if not any(other.settings == settings for other in counted):
                    lock = contextlib.ExitStack()
                    lock.enter_context(files.locked(self._lock(trial.number), self.folder))
                    return trial, lock
                trial.set_user_attr("error", REPEATED)
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        log.warning("the search ends: the last %d proposals were all tried before", REPEATS)
        return None

    def _settings(self, trial: Any) -> Settings:
        """Return a trial's settings: given ones, or what is proposed."""
        start = self.starts[trial.user_attrs[START]] if START in trial.user_attrs else None
        within = {key: entry for key, entry in self.space.items() if start is None or _holds(entry, start[key])}
        proposed = {key: _rounded(_proposed(trial, key, entry, self.starts[0][key])) for key, entry in within.items()}
        return proposed if start is None else dict(start)

    def _enqueue_start(self, place: int) -> None:
        params = {key: _choice(value) for key, value in self.starts[place].items()}
        self.study.enqueue_trial(params, user_attrs={START: place})

    def _run_trial(self, trial: Any, evaluate: Callable[[Settings, OnEpoch], Score]) -> None:
        from optuna.trial import TrialState

        settings = trial.user_attrs["settings"]
        log.info("trial %d: %s", trial.number, " ".join(f"{key}={value}" for key, value in settings.items()))
        self._repeat_reports(trial)
        start = time.monotonic()

        def on_epoch(epoch: int, score: float) -> None:
            trial.report(score, epoch)
            trial.set_user_attr("seconds", round(time.monotonic() - start, 1))  # known of a trial that is killed later
            if trial.should_prune():
                raise Pruned(f"pruned after epoch {epoch}")

        try:
            result = evaluate(settings, on_epoch)
        except Pruned as pruned:
            log.info("trial %d: %s", trial.number, pruned)
            self._end(trial, time.monotonic() - start, state=TrialState.PRUNED)
        except Llm4RecError as error:
            log.warning("trial %d failed: %s", trial.number, error.problem)
            trial.set_user_attr("error", error.problem)
            self._end(trial, time.monotonic() - start, state=TrialState.FAIL)
        except Exception as error:
            if of_machine := as_full_disk(error) or as_unusable_path(error):  # a smaller model may have enough memory
                raise of_machine from error
            if self._crashes_anyway(trial):
                raise
            log.warning("trial %d failed: %s", trial.number, traceback.format_exc())
            trial.set_user_attr("error", f"{type(error).__name__}: {error}".partition("\n")[0])
            self._end(trial, time.monotonic() - start, state=TrialState.FAIL)
        else:
            seconds = time.monotonic() - start
            if result.seconds is not None:
                until_killed = sum(killed.user_attrs.get("seconds", 0.0) for killed in self._killed(trial.params))
                seconds = max(0.0, result.seconds - until_killed)
            self._end(trial, seconds, result.value)

    def _crashes_anyway(self, trial: Any) -> bool:
        """Return whether the next trial would end in the same way: if none has been completed yet, or the one before
        crashed too. Such a trial has another turn, as one whose process was killed."""
        before = [other for other in self.trials() if other.counts and other.number < trial.number]
        return not any(other.state == "complete" for other in before) or before[-1].state == "failed"

    def _end(self, trial: Any, seconds: float, value: float | None = None, state: Any = None) -> None:
        trial.set_user_attr("seconds", round(seconds, 1))
        self.study.tell(trial, value, state=state)

    def _killed(self, params: Settings) -> list[Any]:
        """Return the trials with these settings whose process was killed."""
        from optuna.trial import TrialState

        failed = self.study.get_trials(deepcopy=False, states=[TrialState.FAIL])
        return [trial for trial in failed if trial.params == params and _error(trial) == KILLED]

    def _repeat_reports(self, trial: Any) -> None:
        """Report the epochs before a kill, which a run that goes on does not repeat: the pruner looks at the best."""
        reported = {
            epoch: score for killed in self._killed(trial.params) for epoch, score in killed.intermediate_values.items()
        }
        for epoch, score in sorted(reported.items()):
            trial.report(score, epoch)

    def _requeue_killed(self) -> None:
        """Give trials whose process was killed another turn: their runs go on from their checkpoints."""
        from optuna.trial import TrialState

        with files.locked(self.folder / ".start.lock", self.folder):
            for trial in self.study.get_trials(states=[TrialState.RUNNING]):
                with (
                    contextlib.suppress(BlockingIOError),
                    files.locked(self._lock(trial.number), self.folder, wait=False),
                ):
                    if START in trial.user_attrs:
                        self._enqueue_start(trial.user_attrs[START])
                    else:
                        self.study.enqueue_trial(trial.params)
                    self.study.tell(trial.number, state=TrialState.FAIL)

    def _lock(self, number: int) -> Path:
        return self.folder / f".trial{number}.lock"

    def trials(self) -> list[Trial]:
        """Return the trials so far, without those that wait, and without proposals that were tried before."""
        import optuna

        names = {
            optuna.trial.TrialState.COMPLETE: "complete",
            optuna.trial.TrialState.PRUNED: "pruned",
            optuna.trial.TrialState.FAIL: "failed",
            optuna.trial.TrialState.RUNNING: "running",
        }
        return [
            Trial(
                number=trial.number,
                state=names[trial.state],
                settings=trial.user_attrs.get("settings", trial.params),
                score=trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None),
                minutes=trial.user_attrs.get("seconds", 0.0) / 60,
                error=_error(trial),
            )
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state in names and _error(trial) != REPEATED
        ]


def _stored_settings(file: Path) -> Settings:
    """Return the settings of an earlier call.

    Raises:
        RunError: the file is damaged.
    """
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunError(f"{file} is damaged ({error})", "--name NAME begins another search") from error


def _journal(path: Path) -> Any:
    """Return Optuna's journal, without what a killed process leaves: links of its lock, and an incomplete last line.

    The next entry would continue that line, and the journal could not be read any more.
    """
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    lock = JournalFileSymlinkLock(str(path))
    journal = JournalFileBackend(str(path), lock)
    lock.acquire()  # other processes write to the journal meanwhile
    try:
        for link in path.parent.glob(f"{path.name}.lock*.rename"):
            if time.time() - link.lstat().st_mtime > LINK_SECONDS:  # a living process removes its own at once
                link.unlink(missing_ok=True)
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    finally:
        lock.release()
    return journal


def _differs(stored: Settings, now: Settings) -> bool:
    """Return whether the settings of a search differ from an earlier call's, apart from folders and devices."""

    def compared(settings: Settings) -> Settings:
        overrides = [o for o in settings.get("overrides", ()) if key_role(key_typed(o)) not in NOT_HASHED]
        return {**settings, "overrides": overrides}

    return compared(stored) != compared(now)


def _error(trial: Any) -> str | None:
    """Return why a trial failed; one whose process was killed has no reason."""
    import optuna

    if trial.state is not optuna.trial.TrialState.FAIL:
        return None
    return str(trial.user_attrs.get("error", KILLED))


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the best score, the first of equal ones."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return max(complete, key=lambda trial: (trial.score, -trial.number), default=None)


def expected_best(trials: Sequence[Trial]) -> list[float]:
    """Return the expected best score of n trials drawn without replacement, for n = 1, 2, …: the best-of-n curve.

    As Dodge et al. (EMNLP 2019) report it, but for draws without replacement: the i-th smallest of N is the best of n
    with probability C(i − 1, n − 1) / C(N, n). Pruned trials count with their best epoch, and killed ones, which are
    made again, do not.
    """
    scores = sorted(trial.score for trial in trials if trial.counts and trial.score is not None)
    n_scores = len(scores)
    return [
        sum(score * math.comb(i, n - 1) for i, score in enumerate(scores)) / math.comb(n_scores, n)
        for n in range(1, n_scores + 1)
    ]


def _holds(entry: Values | Interval, value: Any) -> bool:
    if isinstance(entry, Values):
        return value in entry.values
    return value is not None and entry.low <= value <= entry.high


def _proposed(trial: Any, key: str, entry: Values | Interval, start: Any) -> Any:
    if isinstance(entry, Values):
        values = [start, *entry.values] if _holds(entry, start) else entry.values
        choices = {_choice(value): value for value in values}
        return choices[trial.suggest_categorical(key, list(choices))]
    if entry.whole:
        return trial.suggest_int(key, int(entry.low), int(entry.high), log=entry.log)
    return trial.suggest_float(key, entry.low, entry.high, log=entry.log)


def _choice(value: Any) -> Any:
    """Return a value as Optuna stores it, which knows no lists."""
    return json.dumps(value) if isinstance(value, list) else value


def _rounded(value: Any) -> Any:
    """Return a number with three significant digits, so that settings can be read and typed."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
