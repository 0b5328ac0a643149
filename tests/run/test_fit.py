"""Training a small model on ten rows: checkpoints, early stopping, and exact resumption of a killed run."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from llm4rec_cli import progress
from llm4rec_cli.config.schema import Keep, Precision, Schedule, TrainerConfig
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.files import write_json
from llm4rec_cli.models.base import ReferenceLosses
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run import fit as fit_module
from llm4rec_cli.run.checkpoints import selected
from llm4rec_cli.run.fit import FitResult, fit
from llm4rec_cli.run.loader import Shares

pytestmark = pytest.mark.numeric

N_ROWS, BATCH, STEPS_AN_EPOCH = 10, 4, 3  # the last batch holds two rows
CONFIG = TrainerConfig(
    epochs=6,
    batch_size=BATCH,
    learning_rate=0.05,
    weight_decay=0.01,
    warmup_ratio=0.2,
    schedule=Schedule.linear,
    gradient_clip=1.0,
    precision=Precision.fp32,
    keep=Keep.best,
    patience=3,
    eval_batch_size=4,
    report_to=[],
)
LAST, EVERY_STEP = replace(CONFIG, keep=Keep.last), replace(CONFIG, checkpoint_minutes=1e-9)
RISING, PEAK, FALLING = [1, 2, 3, 4, 5, 6], [1, 3, 2, 2.5, 1], [6, 5, 4, 3, 2, 1]
TORN = [1, 9, 3, 4, 5]
both_kept = pytest.mark.parametrize(("scores", "config"), [(PEAK, CONFIG), (FALLING, LAST)], ids=["best", "last"])


class Regression(nn.Module):
    """A line with dropout: training draws random numbers at every step."""

    def __init__(self, start=0.0):
        super().__init__()
        self.line = nn.Linear(3, 1)
        nn.init.constant_(self.line.weight, start)
        nn.init.constant_(self.line.bias, start)
        self.dropout = nn.Dropout(0.5)
        self.losses, self.modes = [], []

    def forward(self, x, y):
        self.modes.append((self.training, torch.is_autocast_enabled("cpu")))
        loss = (self.line(self.dropout(x)).squeeze(1) - y).square().mean()
        self.losses.append(loss.item())
        return {"loss": loss, "n_terms": len(y)}


class Paced(Regression):
    """The same model with a bias that learns ten times as fast."""

    epsilon = 1e-3

    def learning_rate_of(self, name, usual):
        return 10 * usual if name == "line.bias" else usual


class Counted(Regression):
    """Gives sums: of the errors, and of those of some rows only; and a fact of its weights."""

    def __init__(self, start=0.0):
        super().__init__(start)
        self.seen, self.in_training = [], []

    def forward(self, x, y):
        errors = (self.line(x).squeeze(1) - y).detach().square()
        large = errors[y > 2]
        self.seen.append((errors, large))
        sums = {"error": errors, "error/large": large, "error/none": errors[:0]}
        return super().forward(x, y) | {
            "sums": {n: torch.stack([e.sum(), torch.tensor(len(e))]) for n, e in sums.items()}
        }

    def epoch_metrics(self, means):
        self.in_training.append(self.training)
        return {"bias": self.line.bias.item(), "each": [1.0, 2.0]}


class Uneven(nn.Module):
    """A row has as many terms as its `y` says, so that micro-batches of as many rows differ in theirs."""

    def __init__(self, start=0.0):
        super().__init__()
        self.line = nn.Linear(3, 1)
        nn.init.constant_(self.line.weight, 0.5)
        nn.init.constant_(self.line.bias, start)
        self.losses = []

    def forward(self, x, y):
        n = y.abs().ceil().clamp(1, 3).long()
        loss = (self.line(x.repeat_interleave(n, 0)).squeeze(1) - 1).square()
        self.losses.append(loss.detach())
        return {"loss": loss.mean(), "n_terms": len(loss)}


class Points:
    """y = x · (1, 2, 3); records the batches, and raises KeyboardInterrupt instead of the one after `killed_after`."""

    def __init__(self, killed_after=None):
        self.x = torch.randn(N_ROWS, 3, generator=torch.Generator().manual_seed(0))
        self.batches, self.killed_after = [], killed_after

    def __len__(self):
        return N_ROWS

    def batch(self, epoch, indices):
        if len(self.batches) == self.killed_after:
            raise KeyboardInterrupt
        self.batches.append((epoch, indices))
        x = self.x[indices]
        return {"x": x, "y": x @ torch.tensor([1.0, 2.0, 3.0])}


class Poisoned(Points):
    """Points one of which has no finite value, from an epoch on."""

    def __init__(self, row, epoch, value=float("nan")):
        super().__init__()
        self.poison = row, epoch, value

    def batch(self, epoch, indices):
        row, begin, value = self.poison
        batch = super().batch(epoch, indices)
        batch["y"] = torch.where((torch.tensor(indices) == row) & (epoch >= begin), value, batch["y"])
        return batch


class Validation:
    """Returns prepared scores; records the weights at each call, and raises KeyboardInterrupt at call `killed_at`."""

    def __init__(self, model, scores, killed_at=None):
        self.model, self.scores, self.killed_at = model, scores, killed_at
        self.weights = []

    def __call__(self):
        assert not torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu"), "validation is in fp32 where training is in bf16"
        self.model.eval()
        step = len(self.weights)
        if step + 1 == self.killed_at:
            raise KeyboardInterrupt
        self.weights.append(weights_of(self.model))
        return self.scores[step]


class Run(NamedTuple):
    folder: Path
    fitted: FitResult
    model: Any
    validation: Validation
    rows: Points


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log_of(folder):
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def kept(folder):
    return sorted(int(path.name.split("-")[1]) for path in (folder / "checkpoints").glob("checkpoint-*"))


def assert_same_end(run, whole):
    assert run.fitted == whole.fitted
    assert equal(weights_of(run.model), weights_of(whole.model))
    assert log_of(run.folder) == log_of(whole.folder)
    assert kept(run.folder) == kept(whole.folder)


def trained(folder, scores=RISING, config=CONFIG, killed_at=None, rows=None, start=0.0, seed=0, model=Regression):
    """One call of fit as a fresh process would make it."""
    model, rows = model(start), Points() if rows is None else rows
    validation = Validation(model, scores, killed_at)
    torch.manual_seed(1234)  # what other code drew must not matter
    fitted = fit(model, rows, validation, config, folder / "checkpoints", folder / "train_log.jsonl", seed)
    return Run(folder, fitted, model, validation, rows)


def killed(folder, *settings, **more):
    with pytest.raises(KeyboardInterrupt):
        trained(folder, *settings, **more)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """undisturbed(scores, config, model): a run that was never killed, trained once. No test changes its folder."""
    runs = {}

    def run(scores=RISING, config=CONFIG, model=Regression):
        key = repr((scores, config, model))
        if key not in runs:
            runs[key] = trained(tmp_path_factory.mktemp("whole"), scores, config, model=model)
        return runs[key]

    return run


# ---- training


def test_training_without_rows_is_an_error_of_the_data_and_before_it_has_finished_nothing_can_be_loaded(tmp_path):
    class NoRows(Points):
        def __len__(self):
            return 0

    with pytest.raises(DataError, match="no training rows"):
        trained(tmp_path, rows=NoRows())
    with pytest.raises(RunError, match="no finished training"):
        selected(tmp_path)


def test_the_best_weights_are_loaded_and_not_the_last_when_patience_is_at_an_end(undisturbed):
    folder, fitted, model, validation, _ = undisturbed(PEAK)
    assert equal(weights_of(model), validation.weights[1])
    assert not equal(weights_of(model), validation.weights[-1])
    assert len(validation.weights) == 5  # the best at 2, then three without a better one
    assert (fitted.epochs, fitted.best_epoch, fitted.best_score) == (5, 2, 3)
    assert kept(folder) == [6, 15], "the best and the last"
    for i, line in enumerate(log_of(folder)):
        assert (line["step"], line["epoch"], line["valid"]) == (3 * (i + 1), i + 1, PEAK[i])
        losses = model.losses[i * STEPS_AN_EPOCH : (i + 1) * STEPS_AN_EPOCH]
        assert line["loss"] == pytest.approx(sum(losses) / STEPS_AN_EPOCH, rel=1e-3)


def test_of_equal_scores_the_earliest_is_best_and_a_checkpoint_within_an_epoch_never(tmp_path):
    run = trained(tmp_path / "equal", [1, 3, 3, 3, 3])
    assert run.fitted.best_epoch == 2
    assert equal(weights_of(run.model), run.validation.weights[1])
    run = trained(tmp_path, PEAK, EVERY_STEP)
    assert run.fitted.best_epoch == 2
    assert equal(weights_of(run.model), run.validation.weights[1])
    assert kept(tmp_path) == [6, 15]


def test_each_epoch_asks_for_every_row_once_in_a_new_order_and_checkpoints_are_sealed(undisturbed):
    folder, fitted, model, _, rows = undisturbed()
    assert (fitted.epochs, fitted.best_epoch) == (6, 6)
    assert model.modes == [(True, False)] * 6 * STEPS_AN_EPOCH
    orders = [[i for epoch, indices in rows.batches if epoch == e for i in indices] for e in range(6)]
    assert [epoch for epoch, _ in rows.batches] == [e for e in range(6) for _ in range(STEPS_AN_EPOCH)]
    assert all(sorted(order) == list(range(N_ROWS)) for order in orders)
    assert len(set(map(tuple, orders))) == 6
    assert [len(indices) for _, indices in rows.batches[:STEPS_AN_EPOCH]] == [4, 4, 2]
    assert set(log_of(folder)[0]) == {"step", "epoch", "loss", "valid"}
    (folder,) = (undisturbed().folder / "checkpoints").glob("checkpoint-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["step"], manifest["score"]) == (18, 6)
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(manifest["files"])


def test_another_seed_trains_otherwise_and_the_same_one_alike(tmp_path, undisturbed):
    runs = undisturbed(), trained(tmp_path / "again"), trained(tmp_path / "other", seed=1)
    first, again, other = (weights_of(run.model) for run in runs)
    assert equal(first, again) and not equal(first, other)


def test_keep_last_trains_through_all_epochs_in_the_same_steps_and_loads_the_last_weights(undisturbed):
    _, fitted, model, validation, _ = undisturbed(FALLING, LAST)
    assert len(validation.weights) == 6  # patience is three
    assert equal(weights_of(model), validation.weights[-1])
    assert not equal(weights_of(model), validation.weights[0])
    assert (fitted.epochs, fitted.best_epoch, fitted.best_score) == (6, 6, 1)
    best, last = undisturbed(), undisturbed(RISING, LAST)
    assert all(map(equal, best.validation.weights, last.validation.weights))
    assert log_of(best.folder) == log_of(last.folder)


def test_bf16_trains_under_autocast_and_keeps_weights_in_fp32(tmp_path):
    model = trained(tmp_path, config=replace(CONFIG, precision=Precision.bf16)).model
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights_of(model).values())
    assert model.losses[-1] < model.losses[0]
    assert {autocast for _, autocast in model.modes} == {True}


def test_sums_are_logged_as_means_over_the_terms_of_the_epoch_and_facts_of_the_weights_after_it(undisturbed):
    folder, _, model, validation, _ = undisturbed(model=Counted)
    lines = log_of(folder)
    assert len(lines) == 6
    for i, line in enumerate(lines):
        steps = model.seen[i * STEPS_AN_EPOCH : (i + 1) * STEPS_AN_EPOCH]
        errors, large = (torch.cat(parts) for parts in zip(*steps, strict=True))
        assert 0 < len(large) < len(errors) == N_ROWS
        assert line["error"] == pytest.approx(errors.mean().item(), rel=1e-5)  # of batches of 4, 4 and 2
        assert line["error/large"] == pytest.approx(large.mean().item(), rel=1e-5)
        assert "error/none" not in line
    assert [line["bias"] for line in lines] == [w["line.bias"].item() for w in validation.weights]
    assert lines[0]["each"] == [1.0, 2.0]
    assert model.in_training == [False] * 6


def test_weights_learn_at_their_own_rates_and_no_bias_decays(tmp_path, monkeypatch):
    seen = []

    def step(optimizer, *_, **__):
        seen.append([(len(g["params"]), g["lr"], g["weight_decay"], g["eps"]) for g in optimizer.param_groups])

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    trained(tmp_path, model=Paced)
    warm_up = int(CONFIG.warmup_ratio * CONFIG.epochs * STEPS_AN_EPOCH)
    assert seen[warm_up] == [(1, 0.05, 0.01, 1e-3), (1, 0.5, 0.0, 1e-3)]
    assert all(bias[1] == pytest.approx(10 * weight[1]) for weight, bias in seen)  # the schedule holds for both
    assert seen[0][0][1] < seen[1][0][1]
    assert seen[-1][0][1] < seen[-2][0][1]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_micro_batches_train_as_whole_batches(size, tmp_path, undisturbed):
    whole = undisturbed(model=Uneven)
    parts = trained(tmp_path, config=replace(CONFIG, micro_batch_size=size), model=Uneven)
    assert len(parts.model.losses) == 6 * sum(-(-rows // size) for rows in (4, 4, 2))
    for name, weight in weights_of(whole.model).items():
        torch.testing.assert_close(weights_of(parts.model)[name], weight, rtol=1e-5, atol=1e-6)
    for line, expected in zip(log_of(parts.folder), log_of(whole.folder), strict=True):
        assert line == pytest.approx(expected, rel=1e-4)


def test_progress_is_shown_within_an_epoch(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "clock", iter(range(0, 100_000, 60)).__next__)  # a minute with every look
    with caplog.at_level("INFO"):
        losses = trained(tmp_path, scores=[0.5] * 6).model.losses
    first, fourth = re.findall(r"training: [14] of 18, .*", caplog.text)
    assert first == f"training: 1 of 18, 1 min 0 s, 17 min 0 s left, epoch 1 of 6, loss {losses[0]:.4f}"
    assert fourth.endswith(f"epoch 2 of 6, loss {losses[3]:.4f}, valid 0.5000")


class Guesses(Regression):
    def reference_losses(self):
        return ReferenceLosses(5.0, 4.5)


def test_the_best_epoch_s_loss_is_told_and_each_stands_beside_those_of_guesses(tmp_path, caplog):
    with caplog.at_level("INFO"):
        run = trained(tmp_path, scores=[0.1, 0.5, 0.4, 0.3, 0.2, 0.1], model=Guesses)
    losses = [line["loss"] for line in log_of(run.folder)]
    assert run.fitted.best_loss == losses[1]
    assert f"epoch 2  loss {losses[1]:.4f} (uniform 5.0000, popularity 4.5000)  valid 0.5000" in caplog.messages


# ---- losses and weights that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_training_at_its_step_and_keeps_earlier_checkpoints(tmp_path, value):
    rows = Poisoned(row=7, epoch=1, value=value)
    with pytest.raises(RunError) as refused:
        trained(tmp_path, rows=rows)
    batch = next(i for i, (_, indices) in enumerate(rows.batches[STEPS_AN_EPOCH:]) if 7 in indices)
    assert refused.value.problem.startswith(
        f"the loss of step {STEPS_AN_EPOCH + batch + 1} is not finite (epoch 2, batch {batch + 1} of {STEPS_AN_EPOCH}: "
    )
    assert "7" in refused.value.problem.partition("rows ")[2]
    assert kept(tmp_path) == [STEPS_AN_EPOCH]
    assert checkpoints.list_complete(tmp_path / "checkpoints")


def test_where_asking_means_waiting_losses_are_looked_at_before_a_checkpoint_is_written(tmp_path, monkeypatch):
    """An accelerator is checked only every WATCH steps; here a CPU is, too."""
    looks = []
    refuse = fit_module._Trainer._refuse_nonfinite_loss

    def seldom(trainer):
        looks.append(trainer.state.global_step)
        if trainer.state.global_step == STEPS_AN_EPOCH:
            refuse(trainer)

    monkeypatch.setattr(fit_module._Trainer, "_refuse_nonfinite_loss", seldom)
    first = Shares(N_ROWS, BATCH, 0).batches(0)[0][0]
    with pytest.raises(RunError, match="the loss of step 1 is not finite"):
        trained(tmp_path, rows=Poisoned(row=first, epoch=0))
    assert looks[-1] == STEPS_AN_EPOCH
    assert kept(tmp_path) == []


@pytest.mark.parametrize(("step", "config", "before"), [(6, CONFIG, 3), (2, EVERY_STEP, 1)])
def test_weights_that_are_not_finite_after_a_finite_loss_make_no_checkpoint(step, config, before, tmp_path):
    class Exploding(Regression):
        def forward(self, x, y):
            outputs = super().forward(x, y)
            if len(self.losses) == step:
                self.line.weight.register_hook(lambda gradient: gradient * float("inf"))
            return outputs

    with pytest.raises(RunError, match=rf"the weights line\.weight are not finite after step {step}"):
        trained(tmp_path, config=config, model=Exploding)
    assert kept(tmp_path) == [before]


# ---- a killed run


@pytest.mark.parametrize(
    ("model", "scores", "config", "killed_at"),
    [
        *((Regression, PEAK, CONFIG, n) for n in (1, 2, 5)),
        (Regression, FALLING, LAST, 6),
        (Paced, PEAK, CONFIG, 4),
        (Counted, RISING, CONFIG, 2),
        (Regression, RISING, replace(CONFIG, micro_batch_size=3), 3),
    ],
)
def test_a_run_killed_in_validation_ends_as_one_never_killed(model, scores, config, killed_at, tmp_path, undisturbed):
    killed(tmp_path, scores, config, killed_at, model=model)
    resumed = trained(tmp_path, scores[killed_at - 1 :], config, model=model)
    assert_same_end(resumed, undisturbed(scores, config, model))


@pytest.mark.parametrize("batches", [1, 8])
def test_a_run_killed_within_an_epoch_ends_as_one_never_killed(batches, tmp_path, undisturbed):
    killed(tmp_path, rows=Points(killed_after=batches))
    assert_same_end(trained(tmp_path, RISING[batches // STEPS_AN_EPOCH :]), undisturbed())


@pytest.mark.parametrize(
    ("step", "model", "keep"),
    [(1, Regression, Keep.best), (2, Counted, Keep.last), (4, Counted, Keep.best), (11, Regression, Keep.best)],
)
def test_a_run_killed_between_checkpoints_within_an_epoch_ends_as_one_never_killed(
    step, model, keep, tmp_path, undisturbed
):
    class Killed(model):
        def forward(self, x, y):
            if len(self.losses) == step:
                raise KeyboardInterrupt
            return super().forward(x, y)

    scores, config = [1, 5, 3, 4, 9, 6], replace(EVERY_STEP, keep=keep)
    whole = undisturbed(scores, replace(config, checkpoint_minutes=None), model)
    killed(tmp_path, scores, config, model=Killed)
    assert step in kept(tmp_path)
    resumed = trained(tmp_path, scores[step // STEPS_AN_EPOCH :], config, model=model)
    assert len(resumed.model.losses) == len(whole.model.losses) - step
    assert len(resumed.rows.batches) == len(whole.model.losses) - step  # those that are done are not built again
    assert_same_end(resumed, whole)


@both_kept
def test_a_run_killed_after_its_last_checkpoint_trains_no_further_and_finished_training_is_not_repeated(
    scores, config, tmp_path
):
    whole = trained(tmp_path, scores, config)
    marks = tmp_path / "checkpoints" / "training_done.json"
    for is_marked in (True, False):  # False: killed between the last checkpoint and the mark
        if not is_marked:
            marks.unlink()
        again = trained(tmp_path, [9, 9, 9], config, start=7.0)
        assert (again.rows.batches, again.validation.weights) == ([], [])
        assert_same_end(again, whole)
        assert len(log_of(tmp_path)) == len(scores)


@pytest.mark.parametrize("seconds", [100.0, None], ids=["known", "a checkpoint of before"])
def test_the_seconds_of_killed_processes_are_known(seconds, tmp_path):
    killed(tmp_path, killed_at=3)
    (manifest,) = (tmp_path / "checkpoints").glob("checkpoint-*/manifest.json")
    facts = json.loads(manifest.read_text())
    assert facts.pop("seconds") > 0
    write_json(manifest, facts if seconds is None else facts | {"seconds": seconds})
    resumed = trained(tmp_path, RISING[2:])
    assert len(resumed.validation.weights) == 4
    assert resumed.fitted.earlier_seconds == (seconds or 0)
    (manifest,) = (tmp_path / "checkpoints").glob("checkpoint-*/manifest.json")
    in_all = json.loads(manifest.read_text())["seconds"]
    assert trained(tmp_path, []).fitted.earlier_seconds == in_all > (seconds or 0)


@pytest.mark.parametrize(
    ("scores", "config", "torn", "done"),
    [
        (TORN, CONFIG, 12, 2),  # the best, of epoch 2, is kept besides the last: the run has one to fall back on
        (TORN, CONFIG, 6, 0),  # the best is gone: what came after it would end with other weights
        (FALLING, LAST, 12, 1),
    ],
)
def test_training_goes_on_from_before_a_torn_checkpoint(scores, config, torn, done, tmp_path, undisturbed):
    killed(tmp_path, scores, config, killed_at=5)
    weights = tmp_path / "checkpoints" / f"checkpoint-{torn}" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    resumed, whole = trained(tmp_path, scores[done:], config), undisturbed(scores, config)
    assert len(resumed.validation.weights) == len(scores) - done
    assert all(map(equal, resumed.validation.weights, whole.validation.weights[done:]))
    assert_same_end(resumed, whole)


def test_finished_training_whose_best_checkpoint_is_torn_trains_again_to_the_same_weights(tmp_path, undisturbed):
    trained(tmp_path, PEAK)
    (tmp_path / "checkpoints" / "checkpoint-6" / "model.safetensors").write_bytes(b"")
    assert_same_end(trained(tmp_path, PEAK), undisturbed(PEAK))


def test_a_torn_line_of_the_log_is_forgotten(tmp_path, undisturbed):
    killed(tmp_path, killed_at=4)
    with (tmp_path / "train_log.jsonl").open("a") as file:
        file.write('{"step": 12, "epo')
    assert_same_end(trained(tmp_path, RISING[3:]), undisturbed())


def test_a_run_of_other_processes_another_device_or_precision_is_not_resumed_to_other_weights(tmp_path):
    killed(tmp_path, killed_at=3)
    with pytest.raises(RunError, match="started on 1 x cpu, fp32, and would end with other weights on 1 x cpu, bf16"):
        trained(tmp_path, config=replace(CONFIG, precision=Precision.bf16))
    for manifest in tmp_path.rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace("1 x cpu", "2 x cpu"))
    with pytest.raises(RunError, match="started on 2 x cpu") as refused:
        trained(tmp_path)
    assert "force=true" in refused.value.remedy


def test_a_kill_between_a_checkpoint_and_the_removal_of_older_ones_leaves_no_more_than_an_undisturbed_run(
    tmp_path, undisturbed, monkeypatch
):
    def rotate_until_killed(complete):
        if complete and complete[-1].step == 12:
            raise KeyboardInterrupt
        return rotate(complete)

    rotate = checkpoints.rotate
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "rotate", rotate_until_killed)
        killed(tmp_path, PEAK)
    assert_same_end(trained(tmp_path, PEAK[4:]), undisturbed(PEAK))


def test_checkpoints_within_an_epoch_are_as_far_apart_as_the_settings_say(tmp_path, monkeypatch):
    saved, seal = [], checkpoints.seal
    monkeypatch.setattr(
        checkpoints, "seal", lambda folder, step, *more: saved.append(step) or seal(folder, step, *more)
    )
    clock = SimpleNamespace(monotonic=iter(range(0, 10_000, 20)).__next__)  # 20 s with every look
    monkeypatch.setattr(fit_module, "time", clock)
    trained(tmp_path, config=replace(CONFIG, checkpoint_minutes=0.5))
    assert saved == [2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]  # after the second look in an epoch
