"""What `inspect result` says of a gain: its parts in slices, and the conditions of the word "beats"."""

import numpy as np
import pytest

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.store import dataset_folder, save
from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.evaluation.ranking import expected_ndcg
from llm4rec_studies.inspection.audit import ALL, ELSEWHERE, audit
from tests.results.finished_runs import metrics_json, rankings, write_run

N = 80
SAME_DAY = np.arange(N) % 2 == 0
REPEATED = np.arange(N) < 10
FLOOR = np.full(N, 50)  # a miss for all
GOOD = np.where(np.arange(N) % 3 == 0, 50, np.arange(N) % 5)  # two thirds are hits, in all slices


@pytest.fixture
def write(tmp_path):
    """write(model, n_better, seeds, settings, **facts): write finished runs of one variant on the same examples."""
    count = iter(range(1000))

    def write_runs(model, n_better, seeds=(0, 1, 2), settings=None, slices=None, variant=None, **facts):
        config = {
            "model": {"name": model, "file": facts.pop("file", None)},
            "dataset": {"name": "shop", "control": "none", "split": "leave_one_out"},
            "task": {"selection": "ndcg@10"},
            "trainer": {"epochs": 9},
        }
        for key, value in (settings or {}).items():
            node, _, name = key.partition(".")
            config[node][name] = value
        slices = {"same_day": SAME_DAY, "repeated": REPEATED} if slices is None else slices
        rows = rankings(n_better).assign(**{f"slice/{name}": inside for name, inside in slices.items()})
        variant = variant or f"{model} {next(count)}"
        ndcg = float(expected_ndcg(np.asarray(n_better), np.ones(N, int), 10).mean())
        facts = {"metrics": {"ndcg@10": ndcg}, "intervals": {"ndcg@10": [0, 1]}, "n_examples": N} | facts
        for seed in seeds:
            number = next(count)
            folder = tmp_path / model / "shop" / "sequential" / f"seed{seed}-{number}"
            metrics = metrics_json(model=model, seed=seed, variant=variant, **facts)
            metrics["split_rule"] = config["dataset"]["split"]
            write_run(folder, metrics, rows, config=config | {"seed": seed}, time=1e9 + number)
        return f"{model}/shop/sequential/seed{seeds[0]}-{number - len(seeds) + 1}"

    return write_runs


@pytest.fixture
def sound(write):
    """A result of three seeds that beats its floor in all slices and under all protocols; write_runs overrides it."""

    def write_all(floor=FLOOR, untied=GOOD, temporal=GOOD, n_better=GOOD, **facts):
        for protocol in ({}, {"dataset.control": "shuffle_ties"}, {"dataset.split": "temporal"}):
            write("popularity", floor, [0], protocol)
        if untied is not None:
            write("sasrec", untied, settings={"dataset.control": "shuffle_ties"})
        if temporal is not None:
            write("sasrec", temporal, settings={"dataset.split": "temporal"})
        return write("sasrec", n_better, **facts)

    return write_all


def failed(result):
    """Return the conditions that do not hold, with whether that is known."""
    return {check.condition: check.passed for check in result.checks if not check.passed}


def test_a_gain_that_holds_everywhere_may_be_called_beats(sound, tmp_path):
    result = audit(sound(), tmp_path)
    assert failed(result) == {}
    assert result.verdict == '"sasrec beats popularity" is allowed: every condition holds.'


def test_the_parts_of_a_gain_are_those_of_its_slices(sound, tmp_path):
    parts = {part.name: part for part in audit(sound(), tmp_path).parts}
    gain = expected_ndcg(GOOD, np.ones(N, int), 10)
    elsewhere = ~SAME_DAY & ~REPEATED
    for name, inside in (
        (ALL, np.ones(N, bool)),
        ("same_day", SAME_DAY),
        ("repeated", REPEATED),
        (ELSEWHERE, elsewhere),
    ):
        part = parts[name]
        assert (part.n, part.a) == (inside.sum(), 0)
        assert part.b == pytest.approx(gain[inside].mean())
        assert part.gain == pytest.approx((gain * inside).sum() / N)
        assert part.share == pytest.approx(part.gain / gain.mean())
        error = 1.990450 * (gain * inside).std(ddof=1) / N**0.5  # t of 79 degrees of freedom at 97.5 %
        assert part.interval == pytest.approx((part.gain - error, part.gain + error), rel=1e-4)


@pytest.mark.parametrize(
    ("changed", "condition", "passed"),
    [
        ({"split": "valid"}, "evaluated on the test part", False),
        ({"labels": ["synthetic"]}, "no label that rules it out", False),
        ({"labels": ["control-swap_users"]}, "no label that rules it out", False),
        ({"metrics": {"ndcg@10": 0.9, "hr@5": 0.9, "ndcg@5": 0.89}}, "no leak alarm", False),
        ({"seeds": [0, 1]}, "3 seeds of sasrec", False),
        ({"n_better": np.where(np.arange(N) == 1, 0, FLOOR)}, "gain above 0", False),
        ({"n_better": np.where(SAME_DAY | REPEATED, GOOD, FLOOR)}, "gain outside accidental slices", False),
        ({"untied": None}, "the gain is there under shuffled ties", None),
        ({"temporal": None}, "the gain is there under a temporal split", None),
        ({"untied": FLOOR}, "the gain is there under shuffled ties", False),
        ({"temporal": FLOOR}, "the gain is there under a temporal split", False),
    ],
)
def test_each_condition_can_refuse_the_word(sound, write, tmp_path, changed, condition, passed):
    name = sound(**changed)
    if changed.get("split"):
        write("popularity", FLOOR, [0], split="valid")
    result = audit(name, tmp_path)
    assert failed(result)[condition] is passed
    assert not result.allowed
    assert "is refused: " in result.verdict


def test_every_draw_of_shuffled_ties_must_show_the_gain(sound, write, tmp_path):
    name = sound()
    write("popularity", FLOOR, [0], {"dataset.control": "shuffle_ties", "dataset.seed": 1}, dataset_fingerprint="g")
    write("sasrec", FLOOR, [0], {"dataset.control": "shuffle_ties", "dataset.seed": 1}, dataset_fingerprint="g")
    (check,) = [c for c in audit(name, tmp_path).checks if c.condition.endswith("shuffled ties")]
    assert check.passed is False
    assert "above 0 in 1 of 2 draws" in check.reason


def test_one_training_of_either_side_under_another_protocol_is_too_few(sound, write, tmp_path):
    name, temporal = sound(temporal=None), {"dataset.split": "temporal"}
    write("sasrec", GOOD, [0], temporal, variant="under temporal")
    few_of_ours = audit(name, tmp_path)
    write("sasrec", GOOD, [1, 2], temporal, variant="under temporal")
    for seeds, settings in (([0, 1, 2], {}), ([0, 1, 2], {"dataset.control": "shuffle_ties"}), ([0], temporal)):
        write("bpr_mf", FLOOR, seeds, settings)
    for result in (few_of_ours, audit(name, tmp_path, over="bpr_mf")):
        (reason,) = [check.reason for check in result.checks if not check.passed]
        assert reason.endswith("of 1 training")


def test_of_another_protocol_only_the_same_experiment_speaks_and_a_setting_that_it_lacks_has_its_default(
    sound, write, tmp_path
):
    name = sound(untied=None)
    write("sasrec", GOOD, settings={"dataset.control": "shuffle_ties", "model.hidden_size": 1})
    write("sasrec", GOOD, settings={"dataset.control": "shuffle_ties", "trainer.epochs": 1})
    assert failed(audit(name, tmp_path)) == {"the gain is there under shuffled ties": None}
    write("sasrec", GOOD, settings={"dataset.control": "shuffle_ties", "model.tokens": False})
    assert audit(name, tmp_path).allowed


def test_a_rule_without_training_is_the_same_under_any_trainer_and_needs_no_seeds(write, tmp_path):
    for changed in ({}, {"dataset.control": "shuffle_ties"}, {"dataset.split": "temporal"}):
        write("popularity", FLOOR, [0], changed)
        write("transition_text", GOOD, [0], changed | {"trainer.epochs": len(changed)})
    name = write("transition_text", GOOD, [0])
    assert audit(name, tmp_path, over="popularity").allowed


def test_data_without_times_needs_no_other_protocol(write, tmp_path):
    slices = {"repeated": REPEATED, "ascending_id": SAME_DAY, "descending_id": ~SAME_DAY}
    write("popularity", FLOOR, [0], slices=slices)
    result = audit(write("sasrec", GOOD, slices=slices), tmp_path)
    assert result.allowed
    assert result.verdict.endswith("every condition holds, as far as data without times can show.")
    assert "of the gain is on targets with a higher raw id than the last item, which 50% of all are" in result.known[0]


@pytest.mark.parametrize(("times", "passed"), [([0, 1, 0, 1], True), ([0, 0, 0, 1], None)])
def test_shuffled_ties_are_not_asked_for_where_no_two_interactions_share_a_time(
    sound, tmp_path, monkeypatch, times, passed
):
    monkeypatch.setenv("LLM4REC_CACHE", str(tmp_path / "cache"))
    folder = dataset_folder(tmp_path / "cache", "shop", "f")
    folder.mkdir(parents=True)
    save(tiny_dataset([[0, 1], [1, 0]], timestamp=times), None, folder)
    result = audit(sound(untied=None), tmp_path)
    (check,) = [check for check in result.checks if check.condition.endswith("shuffled ties")]
    assert check.passed is passed
    assert ("not applicable" in check.reason) == (not result.commands) == bool(passed)


def test_the_strongest_floor_is_the_default_and_another_model_can_be_named(sound, write, tmp_path):
    name = sound()
    write("next_id", np.full(N, 8), [0])
    write("bpr_mf", GOOD, [5])
    assert 'beats next_id"' in audit(name, tmp_path).verdict
    over = audit(name, tmp_path, over="bpr_mf")
    assert (over.parts[0].gain, over.parts[0].share) == (0, None)
    assert failed(over).keys() >= {"3 seeds of bpr_mf", "gain above 0"}
    write("bpr_mf", FLOOR, [0])
    with pytest.raises(UsageError, match="2 variants"):
        audit(name, tmp_path, over="bpr_mf")


def test_a_scored_file_is_audited(write, tmp_path):
    write("popularity", FLOOR, [0])
    name = write("external", GOOD, [0], file="lists.csv", shown_as="theirs")
    result = audit(name, tmp_path)
    assert failed(result)["3 seeds of theirs"] is False
    (temporal,) = [check for check in result.checks if "temporal" in check.condition]
    assert temporal.commands == ["llm4rec score FILE dataset.split=temporal, with a file that was made for these data"]
    assert "its file says nothing" in result.known[0]


def test_what_is_not_known_is_found_out_for_both_sides(sound, write, tmp_path):
    name = sound(temporal=None)
    write("bpr_mf", FLOOR)
    over_floor, over_model = (audit(name, tmp_path, over=over).commands for over in (None, "bpr_mf"))
    assert over_floor == ["llm4rec train -m model=sasrec dataset.split=temporal seed=0,1,2"]
    assert {command.split()[3] for command in over_model} == {"model=bpr_mf", "model=sasrec"}


def test_a_gain_over_a_model_that_had_a_smaller_search_is_not_called_beats(sound, write, tmp_path):
    eight = {"trials": 8, "minutes": 31.0, "max_trials": 8, "metric": "ndcg@10", "score": 0.1}
    tuned = sound(tuning=eight)
    write("bpr_mf", FLOOR, tuning=eight | {"trials": 2, "max_trials": 2})
    condition = "tuned no more than its comparator"
    over = audit(tuned, tmp_path, over="bpr_mf")
    (check,) = (check for check in over.checks if check.condition == condition)
    assert (check.passed, check.reason) == (False, "sasrec 8 trials, 31 min; bpr_mf 2 trials, 31 min")
    assert condition not in {check.condition for check in audit(tuned, tmp_path).checks}, "popularity has no settings"


def test_what_cannot_be_audited_is_refused(write, tmp_path):
    more = {"metrics": {"ndcg@10": 0.2, "hr@10": 0.3, "cold/hr@10": 0.1}}
    name = write("sasrec", GOOD, **more, intervals={metric: [0, 1] for metric in more["metrics"]})
    with pytest.raises(RunError, match="no floor was evaluated"):
        audit(name, tmp_path)
    write("popularity", FLOOR, [0])
    with pytest.raises(UsageError, match="no slices"):
        audit(write("mf", GOOD, slices={}), tmp_path)
    other = write("bpr_mf", GOOD, [0], {"dataset.split": "temporal"})
    for asked, error, problem in (
        ({"metric": "cold/hr@10"}, UsageError, "cold/hr@10 has no value per example to pair"),
        ({"metric": "hr@10"}, RunError, "no floor was evaluated"),
        ({"metric": "hr@10", "over": "popularity"}, UsageError, "the two runs do not both have the metric 'hr@10'"),
        ({"over": other}, UsageError, "not paired: split_rule is temporal in A"),
    ):
        with pytest.raises(error, match=problem):
            audit(name, tmp_path, **asked)


def test_a_model_whose_answers_depend_on_the_seed_counts_with_all_seeds(write, tmp_path):
    result = write("sasrec", GOOD)
    write("random", FLOOR)
    assert sorted(audit(result, tmp_path, over="random").a) == [0, 1, 2]
