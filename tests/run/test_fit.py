"""Training a small model on ten rows: checkpoints, early stopping, and exact resumption of a killed run."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llm4rec_cli import progress
from llm4rec_cli.config.schema import Keep, Precision, Schedule, TrainerConfig
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.files import write_json
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run import fit as fit_module
from llm4rec_cli.run.checkpoints import selected
from llm4rec_cli.run.fit import fit
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


LAST = replace(CONFIG, keep=Keep.last)
PEAK, FALLING = [1, 3, 2, 2.5, 1], [6, 5, 4, 3, 2, 1]
both_kept = pytest.mark.parametrize(("scores", "config"), [(PEAK, CONFIG), (FALLING, LAST)], ids=["best", "last"])


class Regression(nn.Module):
    """A line with dropout: training draws random numbers at every step."""

    def __init__(self, start=0.0):
        super().__init__()
        self.line = nn.Linear(3, 1)
        nn.init.constant_(self.line.weight, start)
        nn.init.constant_(self.line.bias, start)
        self.dropout = nn.Dropout(0.5)
        self.losses = []

    def forward(self, x, y):
        loss = (self.line(self.dropout(x)).squeeze(1) - y).square().mean()
        self.losses.append(loss.item())
        return {"loss": loss, "n_terms": len(y)}


class Paced(Regression):
    """The same model with a bias that learns ten times as fast."""

    epsilon = 1e-3

    def learning_rate_of(self, name, usual):
        return 10 * usual if name == "line.bias" else usual


class Points:
    """y = x · (1, 2, 3); records the batches."""

    def __init__(self):
        self.x = torch.randn(N_ROWS, 3, generator=torch.Generator().manual_seed(0))
        self.batches = []

    def __len__(self):
        return N_ROWS

    def batch(self, epoch, indices):
        self.batches.append((epoch, indices))
        x = self.x[indices]
        return {"x": x, "y": x @ torch.tensor([1.0, 2.0, 3.0])}


class Validation:
    """Returns prepared scores; records the weights at each call, and raises KeyboardInterrupt at call `killed_at`."""

    def __init__(self, model, scores, killed_at=None):
        self.model, self.scores, self.killed_at = model, scores, killed_at
        self.weights = []

    def __call__(self):
        step = len(self.weights)
        if step + 1 == self.killed_at:
            raise KeyboardInterrupt
        self.weights.append(weights_of(self.model))
        return self.scores[step]


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log_of(folder):
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def kept(folder):
    return sorted(int(path.name.split("-")[1]) for path in (folder / "checkpoints").glob("checkpoint-*"))


def assert_same_end(folder, model, other_folder, other):
    assert equal(weights_of(model), weights_of(other))
    assert log_of(folder) == log_of(other_folder)


def trained(
    folder, scores=(1, 2, 3, 4, 5, 6), config=CONFIG, killed_at=None, rows=None, start=0.0, seed=0, model=Regression
):
    """One call of fit as a fresh process would make it, its model and its validation."""
    model = model(start)
    validation = Validation(model, scores, killed_at)
    torch.manual_seed(1234)  # what other code drew must not matter
    fitted = fit(model, rows or Points(), validation, config, folder / "checkpoints", folder / "train_log.jsonl", seed)
    return fitted, model, validation


def test_training_lowers_the_error(tmp_path):
    _, model, _ = trained(tmp_path, config=replace(CONFIG, epochs=20, schedule=Schedule.constant), scores=range(20))
    points = Points().batch(0, list(range(N_ROWS)))
    assert model.eval()(**points)["loss"] < 0.5 * Regression().eval()(**points)["loss"]


def test_training_without_rows_is_an_error_of_the_data(tmp_path):
    class NoRows(Points):
        def __len__(self):
            return 0

    with pytest.raises(DataError, match="no training rows"):
        fit(Regression(), NoRows(), lambda: 0.0, CONFIG, tmp_path / "checkpoints", tmp_path / "log", 0)


def test_the_best_weights_are_loaded_and_not_the_last(tmp_path):
    fitted, model, validation = trained(tmp_path, scores=PEAK)
    assert equal(weights_of(model), validation.weights[1])
    assert not equal(weights_of(model), validation.weights[-1])
    assert (fitted.best_epoch, fitted.best_score) == (2, 3)


def test_of_equal_scores_the_earliest_is_best(tmp_path):
    fitted, model, validation = trained(tmp_path, scores=[1, 3, 3, 3, 3])
    assert fitted.best_epoch == 2
    assert equal(weights_of(model), validation.weights[1])


def test_training_stops_when_patience_is_at_an_end(tmp_path):
    fitted, _, validation = trained(tmp_path, scores=[1, 3, 2, 2.5, 1, 9])
    assert len(validation.weights) == 5  # the best at 2, then three without a better one
    assert fitted.epochs == 5


def test_progress_is_shown_within_an_epoch(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "clock", iter(range(0, 100_000, 60)).__next__)  # a minute with every look
    with caplog.at_level("INFO"):
        _, model, _ = trained(tmp_path, scores=[0.5] * 6)
    first, fourth = re.findall(r"training: [14] of 18, .*", caplog.text)
    assert first == f"training: 1 of 18, 1 min 0 s, 17 min 0 s left, epoch 1 of 6, loss {model.losses[0]:.4f}"
    assert fourth.endswith(f"epoch 2 of 6, loss {model.losses[3]:.4f}, valid 0.5000")


def test_training_without_a_better_score_ends_at_the_last_epoch(tmp_path):
    fitted, _, _ = trained(tmp_path)
    assert (fitted.epochs, fitted.best_epoch) == (6, 6)


def test_each_epoch_asks_for_every_row_once_in_a_new_order(tmp_path):
    rows = Points()
    trained(tmp_path, rows=rows)
    orders = [[i for epoch, indices in rows.batches if epoch == e for i in indices] for e in range(6)]
    assert [epoch for epoch, _ in rows.batches] == [e for e in range(6) for _ in range(STEPS_AN_EPOCH)]
    assert all(sorted(order) == list(range(N_ROWS)) for order in orders)
    assert len(set(map(tuple, orders))) == 6
    assert [len(indices) for _, indices in rows.batches[:STEPS_AN_EPOCH]] == [4, 4, 2]


def test_another_seed_trains_otherwise_and_the_same_one_alike(tmp_path):
    weights = [weights_of(trained(tmp_path / str(i), seed=seed)[1]) for i, seed in enumerate([0, 0, 1])]
    assert equal(weights[0], weights[1])
    assert not equal(weights[0], weights[2])


def test_the_log_has_one_line_an_epoch(tmp_path):
    _, model, _ = trained(tmp_path, scores=PEAK)
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["valid"] for line in lines] == PEAK
    for i, line in enumerate(lines):
        losses = model.losses[i * STEPS_AN_EPOCH : (i + 1) * STEPS_AN_EPOCH]
        assert line["loss"] == pytest.approx(sum(losses) / STEPS_AN_EPOCH, rel=1e-3)


def test_the_best_and_the_last_checkpoint_are_kept(tmp_path):
    trained(tmp_path, scores=PEAK)
    assert kept(tmp_path) == [6, 15]


def test_checkpoints_are_sealed_and_hold_no_pickled_arguments(tmp_path):
    trained(tmp_path)
    (folder,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["step"], manifest["score"]) == (18, 6)
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(manifest["files"])
    assert "training_args.bin" not in manifest["files"]


def test_validation_sees_no_gradients_and_training_goes_on_in_training_mode(tmp_path):
    model, modes = Regression(), []

    def validate():
        assert not torch.is_grad_enabled()
        model.eval()
        return 1.0

    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    fit(model, Points(), validate, CONFIG, tmp_path / "checkpoints", tmp_path / "train_log.jsonl", 0)
    assert all(modes)


@pytest.mark.parametrize(
    ("model", "scores", "config", "killed_at"),
    [
        *((Regression, PEAK, CONFIG, n) for n in (1, 2, 4, 5)),
        *((Regression, FALLING, LAST, n) for n in (1, 2, 5, 6)),
        *((Paced, PEAK, CONFIG, n) for n in (1, 4)),
    ],
)
def test_a_run_killed_in_validation_ends_as_one_never_killed(model, scores, config, killed_at, tmp_path):
    expected, whole, _ = trained(tmp_path / "whole", scores, config, model=model)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", scores, config, killed_at, model=model)
    fitted, resumed, _ = trained(tmp_path / "killed", scores[killed_at - 1 :], config, model=model)
    assert fitted == expected
    assert_same_end(tmp_path / "killed", resumed, tmp_path / "whole", whole)
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")


@pytest.mark.parametrize("batches", [1, 4, 8])
def test_a_run_killed_within_an_epoch_ends_as_one_never_killed(batches, tmp_path):
    class Killed(Points):
        def batch(self, epoch, indices):
            if len(self.batches) == batches:
                raise KeyboardInterrupt
            return super().batch(epoch, indices)

    _, whole, _ = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", rows=Killed())
    done = len(log_of(tmp_path / "killed")) if (tmp_path / "killed" / "train_log.jsonl").exists() else 0
    _, resumed, _ = trained(tmp_path / "killed", range(done + 1, 7))
    assert_same_end(tmp_path / "killed", resumed, tmp_path / "whole", whole)


def test_a_run_killed_twice_ends_as_one_never_killed(tmp_path):
    _, whole, _ = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", killed_at=3)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", [3, 4, 5, 6], killed_at=2)
    _, resumed, _ = trained(tmp_path / "killed", [4, 5, 6])
    assert_same_end(tmp_path / "killed", resumed, tmp_path / "whole", whole)


@both_kept
def test_a_run_killed_after_its_last_checkpoint_trains_no_further(scores, config, tmp_path):
    expected, whole, _ = trained(tmp_path, scores, config)
    (tmp_path / "checkpoints" / "training_done.json").unlink()  # killed between the last checkpoint and this
    fitted, resumed, validation = trained(tmp_path, [9, 9, 9], config)
    assert validation.weights == []
    assert equal(weights_of(resumed), weights_of(whole))
    assert fitted == expected
    assert len(log_of(tmp_path)) == len(scores)


@both_kept
def test_finished_training_is_not_repeated(scores, config, tmp_path):
    expected, whole, _ = trained(tmp_path, scores, config)
    rows = Points()
    fitted, again, validation = trained(tmp_path, [9], config, rows=rows, start=7.0)
    assert rows.batches == []
    assert validation.weights == []
    assert equal(weights_of(again), weights_of(whole))
    assert fitted == expected


def test_the_seconds_of_killed_processes_are_known(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, killed_at=3)
    (manifest,) = (tmp_path / "checkpoints").glob("checkpoint-*/manifest.json")
    facts = json.loads(manifest.read_text())
    assert facts["seconds"] > 0
    write_json(manifest, facts | {"seconds": 100.0})
    resumed, _, _ = trained(tmp_path, [3, 4, 5, 6])
    assert resumed.earlier_seconds == 100
    again, _, _ = trained(tmp_path, [])
    (manifest,) = (tmp_path / "checkpoints").glob("checkpoint-*/manifest.json")
    assert again.earlier_seconds == json.loads(manifest.read_text())["seconds"] > 100


def test_a_checkpoint_of_before_whose_seconds_are_not_known_is_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, killed_at=3)
    (manifest,) = (tmp_path / "checkpoints").glob("checkpoint-*/manifest.json")
    facts = json.loads(manifest.read_text())
    del facts["seconds"]
    write_json(manifest, facts)
    resumed, _, validation = trained(tmp_path, [3, 4, 5, 6])
    assert len(validation.weights) == 4
    assert resumed.earlier_seconds == 0


def test_training_goes_on_from_the_checkpoint_before_a_torn_one(tmp_path):
    # the best, of epoch 2, is kept besides the last, of epoch 4: the run has one to fall back on
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "torn", [1, 9, 3, 4], killed_at=5)
    assert kept(tmp_path / "torn") == [6, 12]
    weights = tmp_path / "torn" / "checkpoints" / "checkpoint-12" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    _, _, validation = trained(tmp_path / "torn", [3, 4, 5])
    _, _, complete = trained(tmp_path / "expected", [1, 9, 3, 4, 5])
    assert len(validation.weights) == 3  # epochs 3, 4 and 5 again
    assert all(map(equal, validation.weights, complete.weights[2:]))
    assert log_of(tmp_path / "torn") == log_of(tmp_path / "expected")


def test_a_checkpoint_the_trainer_wrote_but_nobody_sealed_is_not_used(tmp_path):
    _, whole, _ = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", killed_at=4)
    (last,) = (tmp_path / "killed" / "checkpoints").glob("checkpoint-*")
    last.rename(last.with_name("checkpoint-9"))
    last.with_name("checkpoint-9").joinpath("manifest.json").unlink()
    rows = Points()
    _, resumed, _ = trained(tmp_path / "killed", rows=rows)
    assert rows.batches[0][0] == 0  # none was complete: from the beginning
    assert_same_end(tmp_path / "killed", resumed, tmp_path / "whole", whole)


def test_before_training_has_finished_nothing_can_be_loaded(tmp_path):
    with pytest.raises(RunError, match="no finished training"):
        selected(tmp_path)


def test_validation_is_in_fp32_where_training_is_in_bf16(tmp_path):
    seen = []

    class Watched(Regression):
        def forward(self, x, y):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x, y)

    def validate():
        seen.append(torch.is_autocast_enabled("cpu"))
        return 1.0

    config = replace(CONFIG, epochs=1, precision=Precision.bf16)
    fit(Watched(), Points(), validate, config, tmp_path / "checkpoints", tmp_path / "train_log.jsonl", 0)
    assert seen == [True] * STEPS_AN_EPOCH + [False]


def test_bf16_trains_too_and_keeps_weights_in_fp32(tmp_path):
    _, model, _ = trained(tmp_path, config=replace(CONFIG, precision=Precision.bf16))
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights_of(model).values())
    assert model.losses[-1] < model.losses[0]


def test_training_goes_on_from_before_a_best_checkpoint_that_is_torn(tmp_path):
    # the best, of epoch 2, is gone: what came after it would end with other weights
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "torn", [1, 9, 3, 4], killed_at=5)
    (tmp_path / "torn" / "checkpoints" / "checkpoint-6" / "model.safetensors").write_bytes(b"")
    _, resumed, validation = trained(tmp_path / "torn", [1, 9, 3, 4, 5])
    _, complete, _ = trained(tmp_path / "expected", [1, 9, 3, 4, 5])
    assert len(validation.weights) == 5  # from the beginning
    assert_same_end(tmp_path / "torn", resumed, tmp_path / "expected", complete)


def test_finished_training_whose_best_checkpoint_is_torn_trains_again_to_the_same_weights(tmp_path):
    expected, whole, _ = trained(tmp_path, PEAK)
    (tmp_path / "checkpoints" / "checkpoint-6" / "model.safetensors").write_bytes(b"")
    fitted, again, _ = trained(tmp_path, PEAK)
    assert equal(weights_of(again), weights_of(whole))
    assert fitted == expected


def test_a_torn_line_of_the_log_is_forgotten(tmp_path):
    _, whole, _ = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", killed_at=4)
    with (tmp_path / "killed" / "train_log.jsonl").open("a") as file:
        file.write('{"step": 12, "epo')
    _, resumed, _ = trained(tmp_path / "killed", [4, 5, 6])
    assert_same_end(tmp_path / "killed", resumed, tmp_path / "whole", whole)


def test_a_run_of_other_processes_or_another_device_is_not_resumed_to_other_weights(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, killed_at=3)
    for manifest in tmp_path.rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace("1 x cpu", "2 x cpu"))
    with pytest.raises(RunError, match="started on 2 x cpu") as refused:
        trained(tmp_path)
    assert "force=true" in refused.value.remedy


def test_a_kill_between_a_checkpoint_and_the_removal_of_older_ones_leaves_no_more_than_an_undisturbed_run(
    tmp_path, monkeypatch
):
    trained(tmp_path / "whole", PEAK)

    def killed(kept):
        if kept and kept[-1].step == 12:
            raise KeyboardInterrupt
        return rotate(kept)

    rotate = checkpoints.rotate
    monkeypatch.setattr(checkpoints, "rotate", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", PEAK)
    monkeypatch.setattr(checkpoints, "rotate", rotate)
    trained(tmp_path / "killed", PEAK[4:])
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")


def test_keep_last_trains_through_all_epochs_and_loads_the_last_weights(tmp_path):
    fitted, model, validation = trained(tmp_path, FALLING, LAST)
    assert len(validation.weights) == 6  # patience is three
    assert equal(weights_of(model), validation.weights[-1])
    assert not equal(weights_of(model), validation.weights[0])
    assert (fitted.epochs, fitted.best_epoch, fitted.best_score) == (6, 6, 1)


def test_keep_last_changes_no_step_of_training(tmp_path):
    _, _, best = trained(tmp_path / "best")
    _, _, last = trained(tmp_path / "last", config=LAST)
    assert all(map(equal, best.weights, last.weights))
    assert log_of(tmp_path / "best") == log_of(tmp_path / "last")


def test_a_run_that_keeps_the_last_weights_falls_back_on_an_older_checkpoint_than_a_torn_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "torn", FALLING, LAST, killed_at=5)
    weights = max((tmp_path / "torn" / "checkpoints").glob("checkpoint-*"), key=lambda f: f.stat().st_mtime)
    (weights / "model.safetensors").write_bytes(b"")
    done = kept(tmp_path / "torn")[0] // STEPS_AN_EPOCH  # the best is kept besides the last
    _, resumed, validation = trained(tmp_path / "torn", FALLING[done:], LAST)
    _, whole, complete = trained(tmp_path / "whole", FALLING, LAST)
    assert done == 1
    assert all(map(equal, validation.weights, complete.weights[done:]))
    assert equal(weights_of(resumed), weights_of(whole))


class Counted(Regression):
    """Gives sums: of the errors, and of those of some rows only; and a fact of its weights."""

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


def watched(folder, killed_at=None, scores=(1, 2, 3, 4, 5, 6), config=CONFIG):
    model = Counted()
    model.seen, model.in_training = [], []

    class Evaluated(Validation):
        def __call__(self):
            model.eval()
            return super().__call__()

    validation = Evaluated(model, scores, killed_at)
    torch.manual_seed(1234)
    fit(model, Points(), validation, config, folder / "checkpoints", folder / "train_log.jsonl", 0)
    return model, validation


def test_sums_are_logged_as_means_over_the_terms_of_the_epoch(tmp_path):
    model, _ = watched(tmp_path)
    lines = log_of(tmp_path)
    assert len(lines) == 6
    for i, line in enumerate(lines):
        steps = model.seen[i * STEPS_AN_EPOCH : (i + 1) * STEPS_AN_EPOCH]
        errors, large = (torch.cat(parts) for parts in zip(*steps, strict=True))
        assert len(errors) == N_ROWS
        assert 0 < len(large) < N_ROWS
        assert line["error"] == pytest.approx(errors.mean().item(), rel=1e-5)  # of batches of 4, 4 and 2
        assert line["error/large"] == pytest.approx(large.mean().item(), rel=1e-5)
        assert "error/none" not in line


def test_facts_are_of_the_weights_after_the_epoch_in_evaluation_mode(tmp_path):
    model, validation = watched(tmp_path)
    assert [line["bias"] for line in log_of(tmp_path)] == [w["line.bias"].item() for w in validation.weights]
    assert log_of(tmp_path)[0]["each"] == [1.0, 2.0]
    assert model.in_training == [False] * 6


@pytest.mark.parametrize("killed_at", [2, 5])
def test_sums_and_facts_of_a_killed_run_are_those_of_one_never_killed(killed_at, tmp_path):
    watched(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        watched(tmp_path / "killed", killed_at)
    watched(tmp_path / "killed", scores=range(killed_at, 7))
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


def test_a_model_that_is_not_watched_has_the_plain_log(tmp_path):
    trained(tmp_path)
    assert set(log_of(tmp_path)[0]) == {"step", "epoch", "loss", "valid"}


def test_weights_learn_at_their_own_rates_and_no_bias_decays(tmp_path, monkeypatch):
    seen = []

    def step(optimizer, *_, **__):
        seen.append([(len(g["params"]), g["lr"], g["weight_decay"], g["eps"]) for g in optimizer.param_groups])

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    fit(Paced(), Points(), lambda: 1.0, CONFIG, tmp_path / "checkpoints", tmp_path / "train_log.jsonl", 0)
    warm_up = int(CONFIG.warmup_ratio * CONFIG.epochs * STEPS_AN_EPOCH)
    assert seen[warm_up] == [(1, 0.05, 0.01, 1e-3), (1, 0.5, 0.0, 1e-3)]
    assert all(bias[1] == pytest.approx(10 * weight[1]) for weight, bias in seen)  # the schedule holds for both
    assert seen[0][0][1] < seen[1][0][1]
    assert seen[-1][0][1] < seen[-2][0][1]


def test_a_model_of_one_rate_is_trained_as_without_the_protocol(tmp_path, monkeypatch):
    monkeypatch.setattr(Paced, "epsilon", 1e-8)
    monkeypatch.setattr(Paced, "learning_rate_of", lambda self, name, usual: usual)
    _, model, _ = trained(tmp_path / "paced", model=Paced)
    _, plain, _ = trained(tmp_path / "plain")
    assert equal(weights_of(model), weights_of(plain))


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


def test_weights_that_are_not_finite_after_a_finite_loss_make_no_checkpoint(tmp_path, monkeypatch):
    class Exploding(Regression):
        def forward(self, x, y):
            outputs = super().forward(x, y)
            if len(self.losses) == 2 * STEPS_AN_EPOCH:  # the last step of the second epoch
                self.line.weight.register_hook(lambda gradient: gradient * float("inf"))
            return outputs

    model = Exploding()
    with pytest.raises(RunError, match=r"the weights line\.weight are not finite after step 6"):
        fit(model, Points(), Validation(model, range(6)), CONFIG, tmp_path / "checkpoints", tmp_path / "log", 0)
    assert kept(tmp_path) == [STEPS_AN_EPOCH]


def test_training_goes_on_in_no_other_precision(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, killed_at=3)
    with pytest.raises(RunError, match="started on 1 x cpu, fp32, and would end with other weights on 1 x cpu, bf16"):
        trained(tmp_path, config=replace(CONFIG, precision=Precision.bf16))


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


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_micro_batches_train_as_whole_batches(size, tmp_path):
    _, whole, _ = trained(tmp_path / "whole", model=Uneven)
    _, model, _ = trained(tmp_path / "parts", config=replace(CONFIG, micro_batch_size=size), model=Uneven)
    n_of = [-(-rows // size) for rows in (4, 4, 2)] * 6
    assert len(model.losses) == sum(n_of)
    if size < BATCH:
        assert len(set(map(len, model.losses))) > 2
    for name, weight in weights_of(whole).items():
        torch.testing.assert_close(weights_of(model)[name], weight, rtol=1e-5, atol=1e-6)
    for line, expected in zip(log_of(tmp_path / "parts"), log_of(tmp_path / "whole"), strict=True):
        assert line == pytest.approx(expected, rel=1e-4)


def test_a_run_with_micro_batches_that_is_killed_ends_as_one_never_killed(tmp_path):
    config = replace(CONFIG, micro_batch_size=3)
    _, whole, _ = trained(tmp_path / "whole", config=config)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", config=config, killed_at=3)
    _, resumed, _ = trained(tmp_path / "killed", [3, 4, 5, 6], config=config)
    assert_same_end(tmp_path / "killed", resumed, tmp_path / "whole", whole)


EVERY_STEP = replace(CONFIG, checkpoint_minutes=1e-9)


@pytest.mark.parametrize("step", [1, 2, 4, 8, 11])
@pytest.mark.parametrize("model", [Regression, Counted])
@pytest.mark.parametrize("keep", list(Keep))
def test_a_run_killed_between_checkpoints_within_an_epoch_ends_as_one_never_killed(step, model, keep, tmp_path):
    class Killed(model):
        def forward(self, x, y):
            if len(self.losses) == step:
                raise KeyboardInterrupt
            return super().forward(x, y)

    for kind in (Killed, model):
        kind.seen, kind.in_training = [], []
    scores, config = [1, 5, 3, 4, 9, 6], replace(EVERY_STEP, keep=keep)
    _, whole, _ = trained(tmp_path / "whole", scores, config=replace(config, checkpoint_minutes=None), model=model)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", scores, config=config, model=Killed)
    assert step in kept(tmp_path / "killed")
    rows = Points()
    _, resumed, _ = trained(tmp_path / "killed", scores[step // STEPS_AN_EPOCH :], config, rows=rows, model=model)
    assert len(resumed.losses) == len(whole.losses) - step
    assert len(rows.batches) == len(whole.losses) - step  # those that are done are not built again
    assert_same_end(tmp_path / "killed", resumed, tmp_path / "whole", whole)
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")


def test_checkpoints_within_an_epoch_are_as_far_apart_as_the_settings_say(tmp_path, monkeypatch):
    saved, seal = [], checkpoints.seal
    monkeypatch.setattr(
        checkpoints, "seal", lambda folder, step, *more: saved.append(step) or seal(folder, step, *more)
    )
    clock = SimpleNamespace(monotonic=iter(range(0, 10_000, 20)).__next__)  # 20 s with every look
    monkeypatch.setattr(fit_module, "time", clock)
    trained(tmp_path, config=replace(CONFIG, checkpoint_minutes=0.5))
    assert saved == [2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]  # after the second look in an epoch


def test_a_checkpoint_within_an_epoch_is_never_the_best(tmp_path):
    fitted, model, validation = trained(tmp_path, scores=PEAK, config=EVERY_STEP)
    assert fitted.best_epoch == 2
    assert equal(weights_of(model), validation.weights[1])
    assert kept(tmp_path) == [6, 15]


def test_weights_that_are_not_finite_make_no_checkpoint_within_an_epoch(tmp_path):
    class Exploding(Regression):
        def forward(self, x, y):
            outputs = super().forward(x, y)
            if len(self.losses) == 2:
                self.line.weight.register_hook(lambda gradient: gradient * float("inf"))
            return outputs

    with pytest.raises(RunError, match=r"not finite after step 2"):
        trained(tmp_path, config=EVERY_STEP, model=Exploding)
    assert kept(tmp_path) == [1]
