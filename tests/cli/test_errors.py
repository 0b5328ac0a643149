"""Errors: one line that says what is wrong, one that says what to do, the right exit code, and nothing computed."""

import logging

import pytest
from omegaconf.errors import OmegaConfBaseException

from llm4rec_cli.errors import UsageError
from llm4rec_cli.run import stages
from llm4rec_cli.run.execute import run
from llm4rec_cli.tasks import ranking
from tests.support.driver import job_of, python, read

# what is typed, what the first line says, what the second says
WRONG = {
    "a model's name": (["model=unisrc"], "unknown model 'unisrc'", "did you mean 'unisrec'?"),
    "a dataset's name": (["dataset=dmo"], "unknown dataset 'dmo'", "did you mean 'demo'?"),
    "a task's name": (["task=sequentail"], "unknown task 'sequentail'", "did you mean 'sequential'?"),
    "a trainer's name": (["trainer=defalt"], "unknown trainer 'defalt'", "did you mean 'default'?"),
    "a name like no other": (["model=zzz"], "unknown model 'zzz'", "known: "),
    "an experiment's name": (["+experiment=zzz"], "unknown experiment 'zzz'", ""),
    "an experiment without +": (["experiment=unisrec/a"], "is added with +", "+experiment=unisrec/a"),
    "a key of the root": (["sede=1"], "unknown key 'sede'", "did you mean 'seed'?"),
    "a key of the model": (
        ["model.hiden_size=1"],
        "unknown key 'model.hiden_size'",
        "did you mean 'model.hidden_size'?",
    ),
    "a key of one model": (["model=bpr_mf", "model.layers=1"], "unknown key 'model.layers'", "embedding_size"),
    "a key of the encoder": (
        ["model.encoder.poling=cls"],
        "'model.encoder.poling'",
        "did you mean 'model.encoder.pooling'?",
    ),
    "a key of the trainer": (["trainer.epoch=1"], "unknown key 'trainer.epoch'", "did you mean 'trainer.epochs'?"),
    "a key of the task": (
        ["task.mask_histroy=true"],
        "unknown key 'task.mask_histroy'",
        "did you mean 'task.mask_history'?",
    ),
    "a key of the dataset": (["dataset.rawdir=x"], "unknown key 'dataset.rawdir'", "did you mean 'dataset.raw_dir'?"),
    "a short key like no other": (["trainer.lr=1"], "unknown key 'trainer.lr'", "learning_rate"),
    "a short key without its node": (["lr=1"], "unknown key 'lr'", "did you mean 'trainer.learning_rate'?"),
    "initials of two words": (["trainer.bs=1"], "unknown key 'trainer.bs'", "did you mean 'trainer.batch_size'?"),
    "a word for a number": (["seed=abc"], "seed is a whole number, not 'abc'", "--cfg job"),
    "a setting without its node": (["epochs=3"], "unknown key 'epochs'", "did you mean 'trainer.epochs'?"),
    "a misspelt list of seeds": (["seeds=0,1"], "unknown key 'seeds'", "did you mean 'seed'?"),
    "another case": (["model=UniSRec"], "unknown model 'UniSRec'", "did you mean 'unisrec'?"),
    "a part of several names": (
        ["dataset=beauty"],
        "unknown dataset 'beauty'",
        "did you mean one of amazon2014-beauty, ",
    ),
    "a file as a dataset": (["dataset=./sales.csv"], "'./sales.csv' is a file", "write conf/dataset/NAME.yaml"),
    "an option without its group": (["unisrec"], "expected KEY=VALUE, got 'unisrec'", "model=unisrec"),
    "a trainer's setting with dashes": (["--epochs=3"], "unknown option", "without dashes: trainer.epochs=3"),
    "a word for the trainer's number": (["trainer.epochs=x"], "trainer.epochs is a whole number, not 'x'", "--cfg job"),
    "a fraction for a whole number": (
        ["trainer.epochs=1.5"],
        "trainer.epochs is a whole number, not '1.5'",
        "--cfg job",
    ),
    "a word outside its set": (
        ["task.candidates=ful"],
        "is one of full, uniform, popularity, impression",
        "did you mean 'full'?",
    ),
    "a split of no name": (["split=dev"], "split is one of valid, test", "known: test, valid"),
    "a type for an option": (["model=_unisrec"], "'_unisrec' is a type", "llm4rec list models"),
    "a key added": (["+key=1"], "cannot be added", "key="),
    "a key forced in": (["++model.key=1"], "cannot be added", "model.key="),
    "a key taken away": (["~seed"], "cannot be removed", "leave it out for the default"),
    "an optional key taken away": (["~dataset.raw_dir"], "cannot be removed", "dataset.raw_dir=null"),
    "an optional node taken away": (["~dataset.paper"], "cannot be removed", "dataset.paper=null"),
    "a floor's name": (["task.floors=[popularty]"], "unknown floor 'popularty'", "did you mean 'popularity'?"),
    "a floor like no other": (["task.floors=[zzz]"], "unknown floor 'zzz'", "known: causal_popularity, frozen"),
    "a model as a floor": (["task.floors=[sasrec]"], "names sasrec, which is not a simple rule", "choose from causal_"),
    "a key of a prompt": (["model=p5", "prompt.rating=1"], "unknown key 'prompt.rating'", "llm4rec list prompts"),
    "a key below no other": (["nothing.x=1"], "unknown key 'nothing.x'", "--cfg job"),
    "an experiment forced": (["++experiment=p5/demo"], "with one +", "+experiment=p5/demo"),
    "brackets left open": (["model=[a"], "[a", "llm4rec list models"),
    "a key without a value": (["seed"], "expected KEY=VALUE, got 'seed'", "for example model=sasrec"),
    "several values without -m": (["seed=0,1"], "seed=0,1 has several values", "add -m to run each"),
    "ties of a click log": (
        ["model=popularity", "dataset=demo_news", "task=impressions", "dataset.control=shuffle_ties"],
        "dataset 'demo_news' is a click log",
        "dataset.control=shuffle_history",
    ),
    "a prompt by its folder": (["prompt/p5=[rating]"], "prompts are chosen by prompt=", "prompt=[p5/rating]"),
    "an experiment by its folder": (["+experiment/p5=demo"], "by its whole name", "+experiment=p5/demo"),
    "an unknown flag": (["-x"], "unknown option '-x'", "--multirun"),
    "a setting with dashes": (["--model=sasrec"], "unknown option '--model=sasrec'", "without dashes: model=sasrec"),
    "a flag with a value": (["--multirun=1"], "--multirun takes no value", "--multirun"),
    "a flag without its value": (["--cfg"], "--cfg takes one of job, hydra, all", "--cfg job"),
    "a flag with a wrong value": (["-c", "jobs"], "--cfg takes one of job, hydra, all", "--cfg job"),
    "a flag without the one it belongs to": (["--resolve"], "belong to --cfg", "--cfg job --resolve"),
    "-m with --cfg": (["-m", "seed=0,1", "--cfg", "job"], "-m and --cfg", "--cfg job"),
}


@pytest.mark.parametrize(("arguments", "problem", "remedy"), WRONG.values(), ids=WRONG)
def test_what_is_typed_wrong_is_refused_in_two_lines(llm4rec, tmp_path, arguments, problem, remedy):
    answer = llm4rec("train", *arguments)
    first, *second = answer.err.splitlines()
    assert answer.code == 2
    assert first.startswith("error: ")
    assert problem in first
    assert remedy in "".join(second)
    assert len(second) <= 1
    assert answer.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("typed", "remedies"),
    [
        ("model=unisrec,sasrec", ["add -m"]),
        ("+experiment=p5/demo,p5/paper", ["add -m"]),
        ("split=valid,test", ["add -m"]),
        ("trainer.epochs=1,2", ["add -m"]),
        ("task.cutoffs=1,5", ["add -m", "task.cutoffs=[1,5]"]),
        ("prompt=p5/rating,p5/direct", ["add -m", "prompt=[p5/rating,p5/direct]"]),
        ("dataset.raw_dir=a,b", ["add -m", "\"dataset.raw_dir='a,b'\""]),
    ],
)
def test_the_remedies_for_several_values_are_those_that_the_setting_takes(llm4rec, typed, remedies):
    problem, remedy = llm4rec("train", typed).err.splitlines()
    assert problem == f"error: {typed} has several values"
    shown = remedy.removeprefix("  try: ").split("; ")
    assert len(shown) == len(remedies)
    assert all(expected in text for expected, text in zip(remedies, shown, strict=True))


@pytest.mark.parametrize(
    "typed",
    [
        "report --outp x",
        "list runs --outp x",
        "compare a b --outp x",
        "prune runs --ye",
        "doctor --js",
        "inspect result r --outp x",
        "human export r --out x --examp 3",
        "human score a b --js",
        "human judge a --che",
    ],
)
def test_options_are_written_in_full(llm4rec, typed):
    answer = llm4rec(*typed.split())
    assert (answer.code, "unrecognized arguments: --" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "typed", ["train dataset.raw_dir=~nosuch/x", "report --outputs ~nosuch/x", "compare ~nosuch/x b"]
)
def test_the_home_of_nobody_is_no_bug(llm4rec, typed):
    answer = llm4rec(*typed.split())
    assert (answer.code, "has no user NAME" in answer.err) == (1, True)


@pytest.mark.parametrize(
    "typed",
    [
        "model=unisrec model.encoder.name=no/encoder",
        "model=p5 model.backbone=no/backbone",
        "model=chatgptrec llm.model=no/model.gguf",
        "model=sasrec dataset.text=enriched model.tokens=true llm.model=no/model.gguf",
    ],
)
def test_missing_weights_are_reported_before_data_and_floors(tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "load", lambda job: pytest.fail("data were loaded"))
    with pytest.raises(UsageError) as refused:
        run(job_of(*typed.split()))
    assert "takes" in refused.value.remedy


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]], ids=["one run", "a sweep"])
@pytest.mark.parametrize(
    "typed",
    [
        "llm.key_variable=sk-pasted",
        "llm.key_variable=OPENAI_API_KEY,sk-pasted",
        "llm.key_variable=sk-pasted it's",
        "+llm.key_variable=sk-pasted",
        "llm.base_url=https://sk-pasted@models.invalid/v1",
        "llm.base_url='https://models.invalid/v1?key=sk-pasted'",
    ],
)
def test_a_pasted_key_is_refused_and_repeated_nowhere(llm4rec, tmp_path, sweep, typed):
    refused = llm4rec("train", "model=random", *sweep, typed)
    assert refused.code == 2
    assert "environment" in refused.err
    assert "pasted" not in refused.out + refused.err
    assert not (tmp_path / "outputs").exists()


def test_a_key_in_a_yaml_is_refused_for_a_model_without_a_chat_model(llm4rec, tmp_path):
    file = tmp_path / "conf/llm/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("defaults: [local, _self_]\nkey_variable: sk-pasted\n")
    refused = llm4rec("train", "model=random", "llm=mine")
    assert refused.code == 2
    assert "llm.key_variable is not the name" in refused.err
    assert "pasted" not in refused.err


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${ oc.env:HOME}"])
def test_a_value_of_the_environment_is_refused(llm4rec, value):
    assert "reads an environment variable" in llm4rec("train", f"dataset.raw_dir='{value}'").err


def test_a_refusal_never_imports_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; "
        "assert main(['train', 'model=unisrc']) == 2; "
        "assert main(['train', 'model=sasrec', 'task.question=rate']) == 2; "
        "assert not {'torch', 'transformers'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "did you mean 'unisrec'?" in done.stderr


def test_a_pair_that_does_not_fit_is_refused_with_the_models_that_can(llm4rec):
    answer = llm4rec("train", "model=sasrec", "task.question=rate")
    assert answer.code == 2
    assert answer.err.splitlines()[0].startswith("error: model 'sasrec' cannot do task 'sequential'")
    assert "models that can: " in answer.err


def test_eval_refuses_a_pair_that_does_not_fit(llm4rec, trained):
    assert llm4rec("eval", "model=sasrec", "task.question=write").code == 2


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        (["trian"], "unknown command 'trian'", "did you mean 'train'?"),
        (["zzz"], "unknown command 'zzz'", "known: "),
        (["list", "modles"], "'modles'", "did you mean 'models'?"),
    ],
)
def test_unknown_commands_and_kinds_are_answered_with_the_nearest(llm4rec, arguments, problem, remedy):
    answer = llm4rec(*arguments)
    assert answer.code == 2
    first, second = answer.err.splitlines()
    assert problem in first
    assert remedy in second


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [("datset=demo", "did you mean 'dataset'?"), ("--metrics=ndgc@10", "did you mean 'ndcg@10'?")],
)
def test_report_answers_an_unknown_filter_or_metric_with_the_nearest(llm4rec, trained, argument, remedy):
    answer = llm4rec("report", argument)
    assert answer.code == 2
    assert remedy in answer.err


def test_missing_raw_files_are_named_with_their_source_and_a_remedy(llm4rec, tmp_path):
    answer = llm4rec("train", "dataset=amazon2014-beauty", f"dataset.raw_dir={tmp_path}")
    first, second = answer.err.splitlines()[-2:]
    assert answer.code == 1
    assert "sequential_data.txt" in first
    assert str(tmp_path) in first
    assert "https://" in second
    assert "put them there, or leave out dataset.raw_dir to download sequential_data.txt" in second


def test_an_error_of_yaml_during_a_run_is_no_wrong_override(llm4rec, monkeypatch):
    def fail(composed):
        raise OmegaConfBaseException("a torn config.yaml")

    monkeypatch.setattr("llm4rec_cli.commands.train.run", fail)
    answer = llm4rec("train", "model=popularity")
    assert answer.code == 1
    assert "a torn config.yaml" in answer.err


@pytest.mark.parametrize("value", ["${nokey}", "${model.name}"])
def test_a_value_that_refers_to_nothing_of_its_type_is_a_wrong_override(llm4rec, value):
    answer = llm4rec("train", "model=sasrec", f"model.dropout={value}")
    assert answer.code == 2
    assert "bug" not in answer.err


@pytest.mark.parametrize("flags", [[], ["-v"]])
def test_verbose_lowers_the_level_of_the_log(llm4rec, monkeypatch, flags):
    levels = []
    log = logging.getLogger("llm4rec_cli")
    monkeypatch.setattr("llm4rec_cli.commands.train.run", lambda composed: levels.append(log.level))
    llm4rec("train", "model=popularity", *flags)
    assert levels == [logging.DEBUG if flags else logging.INFO]


@pytest.mark.parametrize(("flags", "shown"), [([], False), (["-v"], True), (["--verbose"], True)])
def test_verbose_shows_the_traceback(llm4rec, flags, shown):
    answer = llm4rec("train", "model=unisrc", *flags)
    assert answer.code == 2
    assert ("Traceback" in answer.err) == shown


@pytest.mark.parametrize("typed", ["train model=unisrc", "list modles"])
@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False)])
def test_hydras_variable_shows_the_traceback_too(llm4rec, monkeypatch, typed, value, shown):
    monkeypatch.setenv("HYDRA_FULL_ERROR", value)
    answer = llm4rec(*typed.split())
    assert answer.code == 2
    assert ("Traceback" in answer.err) == shown


def test_a_bug_of_ours_exits_1_and_is_said_to_be_one(llm4rec, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(ranking, "evaluate", broken)
    answer = llm4rec("train", "model=popularity", "task.floors=[]")
    assert answer.code == 1
    assert "error: ZeroDivisionError: division by zero" in answer.err
    assert "Traceback" not in answer.err


def test_ctrl_c_exits_130_and_leaves_the_run_failed(llm4rec, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ranking, "evaluate", interrupted)
    answer = llm4rec("train", "model=popularity", "task.floors=[]")
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == "interrupted: the same command resumes"
    (status,) = tmp_path.rglob("status.json")
    assert (read(status)["status"], read(status)["error"]) == ("failed", "interrupted")
    assert llm4rec("report").code == 1


def test_a_setting_that_is_typed_as_an_option_is_refused_with_how_to_write_it(llm4rec):
    answer = llm4rec("train", "--model", "unisrec")
    assert answer.code == 2
    assert "settings are written without dashes: model=…" in answer.err
