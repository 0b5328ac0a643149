"""`validate`: all configs, all errors at once, each with file, line and remedy."""

import shutil

import pytest

from llm4rec_cli.config import compose as composing
from llm4rec_cli.config import folders
from llm4rec_cli.files import write_text
from llm4rec_cli.studies import config_check
from tests.support.driver import python

# name -> file in ./conf, its content, line of the error (0 = none reported), problem, remedy
INVALID = {
    "an unknown key": (
        "dataset/mine.yaml",
        "defaults: [demo, _self_]\nuser_cores: 5\n",
        2,
        "unknown key 'dataset.user_cores'",
        "did you mean 'user_core'?",
    ),
    "a key of a nested node": (
        "model/mine.yaml",
        "defaults: [unisrec, _self_]\nencoder:\n  poling: cls\n",
        3,
        "unknown key 'model.encoder.poling'",
        "did you mean 'pooling'?",
    ),
    "a key of another group": (
        "model/mine.yaml",
        "defaults: [sasrec, _self_]\nlearning_rate: 1\n",
        2,
        "unknown key 'model.learning_rate'",
        "trainer.learning_rate",
    ),
    "a word instead of a number": (
        "trainer/mine.yaml",
        "defaults: [default, _self_]\n\nepochs: many\n",
        3,
        "trainer.epochs: Value 'many'",
        "--cfg job",
    ),
    "a word outside its set": (
        "task/mine.yaml",
        "defaults: [direct, _self_]\ncandidates: ful\n",
        2,
        "task.candidates: Invalid value 'ful'",
        "--cfg job",
    ),
    "a value instead of a node": (
        "model/mine.yaml",
        "defaults: [unisrec, _self_]\nencoder: minilm\n",
        2,
        "model.encoder: Invalid type",
        "--cfg job",
    ),
    "no type": ("model/mine.yaml", "name: sasrec\nlayers: 2\n", 2, "unknown key 'model.layers'", "defaults: [_NAME"),
    "no value": ("dataset/mine.yaml", "defaults: [_dataset, _self_]\n", 0, "dataset.user_core", "build on an option"),
    "an interpolation of an unknown key": (
        "model/mine.yaml",
        "defaults: [sasrec, _self_]\nattention_dropout: ${model.dropoutt}\n",
        2,
        "model.attention_dropout: Interpolation key 'model.dropoutt' not found",
        "another key",
    ),
    "an environment variable": (
        "dataset/mine.yaml",
        "defaults: [demo, _self_]\nget: ${oc.env:HOME}\n",
        0,
        "environment variable",
        "write the value",
    ),
    "an unknown option": (
        "experiment/mine.yaml",
        "# @package _global_\ndefaults:\n  - override /model: unisrc\n",
        3,
        "unknown model 'unisrc'",
        "did you mean 'unisrec'?",
    ),
    "a key of an experiment's model": (
        "experiment/mine.yaml",
        "# @package _global_\ndefaults: [{override /model: bpr_mf}, _self_]\nmodel: {hidden_size: 8}\n",
        3,
        "unknown key 'model.hidden_size'",
        "embedding_size",
    ),
    "an unknown model": (
        "model/mine.yaml",
        "defaults: [sasrec, _self_]\nname: sasrek\n",
        2,
        "unknown model 'sasrek'",
        "did you mean 'sasrec'?",
    ),
    "an unknown floor": (
        "task/mine.yaml",
        "# not randm\ndefaults: [sequential, _self_]\nfloors: [popularity, randm]\n",
        3,
        "unknown floor 'randm'",
        "did you mean 'random'?",
    ),
    "an unknown metric": (
        "task/mine.yaml",
        "defaults: [sequential, _self_]\nselection: ndgc@10\n",
        2,
        "task.selection=ndgc@10 is not a metric of the task",
        "did you mean 'ndcg@10'?",
    ),
    "a number out of range": (
        "trainer/mine.yaml",
        "defaults: [default, _self_]\nwarmup_ratio: 0.0\nepochs: 0\n",
        3,
        "trainer.epochs=0 is out of range",
        "at least 1",
    ),
    "an unknown device": (
        "experiment/mine.yaml",
        "# @package _global_\ndevice: gpu\n",
        2,
        "unknown device 'gpu'",
        "cuda",
    ),
    "a model that does not support its task": (
        "experiment/mine.yaml",
        "# @package _global_\nmodel: {name: unisrec}\ntask: {question: rate, selection: rmse}\n",
        2,
        "model 'unisrec' cannot do task 'sequential'",
        "models that can: ",
    ),
    "an unknown reader": (
        "dataset/mine.yaml",
        "defaults: [demo, _self_]\nreader: recbol\n",
        2,
        "unknown reader 'recbol'",
        "did you mean 'recbole'?",
    ),
    "a file role that the reader does not support": (
        "dataset/mine.yaml",
        "defaults: [demo, _self_]\ndomains:\n  mine: {revews: a.json}\n",
        0,
        "reader 'amazon' cannot read these file roles",
        "it reads ",
    ),
    "an unknown key of a prompt": (
        "prompt/p5/mine.yaml",
        'a: {family: rating, source: "So {user} ?", target: "{star}"}\nb: {famly: rating}\n',
        2,
        "unknown key 'model.prompts.b.famly'",
        "did you mean 'family'?",
    ),
    "an unknown family": (
        "prompt/p5/mine.yaml",
        "a:\n  family: ratings\n",
        2,
        "model.prompts.a.family: Invalid value 'ratings'",
        "--cfg job",
    ),
    "a string instead of a prompt": (
        "prompt/p5/mine.yaml",
        "a: So {user} ?\n",
        1,
        "'a' has type str instead of keys",
        "family, source, target",
    ),
    "a prompt without a target": (
        "prompt/p5/mine.yaml",
        'a:\n  family: rating\n  source: "So {user} ?"\n',
        0,
        "missing values: model.prompts.a.target",
        "add them",
    ),
    "a prompt with an unknown field": (
        "prompt/p5/mine.yaml",
        'a-1: {family: rating, source: "So {usr} ?", target: "{star}"}\n',
        1,
        "prompt 'a-1': unknown field {usr}",
        "did you mean 'user'?",
    ),
    "a prompt with the wording of a shipped one": (
        "prompt/p5/mine.yaml",
        'a: {family: direct, source: "Does {user} want {title} ?", target: "{yes_no}"}\n',
        1,
        "prompt 'a' has the same wording as '5-4'",
        "reword it",
    ),
    "prompts of an unknown model": (
        "prompt/p6/mine.yaml",
        "a: {family: rating}\n",
        0,
        "no model uses these prompts",
        "conf/prompt/p5/",
    ),
    "a task evaluated with an unknown prompt": (
        "experiment/mine.yaml",
        "# @package _global_\ndefaults: [{override /model: p5}, _self_]\nmodel: {ask: {rating: 1-66}}\n",
        3,
        "model.ask.rating=1-66: unknown prompt",
        "did you mean '1-6'?",
    ),
    "a tab": ("dataset/mine.yaml", "name: mine\n\treader: amazon\n", 2, "invalid YAML: ", "fix that line"),
    "a key twice": ("dataset/mine.yaml", "name: mine\nname: yours\n", 2, "duplicate key name", "fix that line"),
    "a list": ("dataset/mine.yaml", "- a\n", 1, "the file has type list instead of keys", "key: value"),
    "a root config": ("config.yaml", "seed: 1\n", 0, "this file is never read: the root", "conf/experiment/"),
    "an unknown group": ("datasets/mine.yaml", "name: mine\n", 0, "'datasets'", "did you mean 'dataset'?"),
    "another suffix": ("dataset/mine.yml", "name: mine\n", 0, "ends in .yml", "rename it to mine.yaml"),
    "the name of a shipped one": (
        "dataset/demo.yaml",
        "name: demo\n",
        0,
        "a shipped config has the same name",
        "rename it",
    ),
}


@pytest.fixture
def only_mine(monkeypatch):
    """Validate only the options called `mine` in ./conf; tests/test_configs.py validates the shipped ones."""
    monkeypatch.setattr(
        config_check, "options", lambda group: [n for n in composing.options(group) if n.rpartition("/")[2] == "mine"]
    )


@pytest.mark.parametrize("name", ["conf/dataset/demo.yaml", "dataset/demo"])
def test_a_file_that_a_shipped_one_hides_is_reported_when_it_is_named(llm4rec, tmp_path, name):
    for file in ("conf/dataset/demo.yaml", "conf/task/sequential.yaml"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("name: mine\n")
    answer = llm4rec("validate", name)
    assert answer.code == 2
    assert "conf/dataset/demo.yaml: this file is never read: a shipped config has the same name" in answer.out
    assert "conf/task" not in answer.out
    assert llm4rec("validate", "trainer/default").code == 0


@pytest.mark.parametrize(("file", "content", "line", "problem", "remedy"), INVALID.values(), ids=INVALID)
def test_a_problem_is_reported_with_its_place_and_a_remedy(
    llm4rec, tmp_path, only_mine, file, content, line, problem, remedy
):
    write_text(tmp_path / "conf" / file, content)
    answer = llm4rec("validate")
    first, second, summary = answer.out.splitlines()
    assert answer.code == 2
    assert first.startswith(f"conf/{file}:{line}: " if line else f"conf/{file}: ")
    assert problem in first
    assert second.startswith("  try: ")
    assert remedy in second
    assert "1 error;" in summary


def test_all_errors_of_all_files_are_reported_at_once(llm4rec, tmp_path, only_mine):
    write_text(tmp_path / "conf/dataset/mine.yaml", "defaults: [demo, _self_]\nuser_cores: 5\nitem_core: five\n")
    write_text(tmp_path / "conf/trainer/mine.yaml", "defaults: [default, _self_]\nepoch: 1\n")
    write_text(
        tmp_path / "conf/experiment/mine.yaml",
        "# @package _global_\ndevice: gpu\ntask:\n  selection: hr@3\n  floors: [randm, nextid]\n",
    )
    places = [line.split(": ")[0] for line in llm4rec("validate").out.splitlines() if line.startswith("conf/")]
    assert places == [
        "conf/dataset/mine.yaml:2",
        "conf/dataset/mine.yaml:3",
        "conf/experiment/mine.yaml:2",
        "conf/experiment/mine.yaml:4",
        "conf/experiment/mine.yaml:5",
        "conf/experiment/mine.yaml:5",
        "conf/trainer/mine.yaml:2",
    ]


@pytest.mark.parametrize("fault", ["user_cores: 5", "reader: recbol"])
def test_an_error_is_reported_once_in_its_own_file_and_not_in_configs_that_build_on_it(
    llm4rec, tmp_path, only_mine, fault
):
    write_text(tmp_path / "conf/dataset/mine.yaml", f"defaults: [demo, _self_]\n{fault}\n")
    write_text(
        tmp_path / "conf/experiment/mine.yaml", "# @package _global_\ndefaults: [{override /dataset: mine}, _self_]\n"
    )
    answer = llm4rec("validate")
    assert [line.split(": ")[0] for line in answer.out.splitlines() if "conf/" in line] == ["conf/dataset/mine.yaml:2"]
    assert "1 error; 2 invalid configs" in answer.out


def test_a_model_that_is_no_yaml_is_reported_with_its_line_for_its_prompts_too(llm4rec, tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    shutil.copytree(composing.conf_dir(), shipped)
    for module in (composing, folders):
        monkeypatch.setattr(module, "conf_dir", lambda: shipped)
    n_lines = len((shipped / "model/p5.yaml").read_text().splitlines())
    with (shipped / "model/p5.yaml").open("a") as file:
        file.write("\tlayers: 1\n")
    answer = llm4rec("validate", "prompt/p5/direct")
    assert answer.code == 2, answer.err
    assert f"shipped/model/p5.yaml:{n_lines + 1}: invalid YAML" in answer.out
    assert "1 error; 1 invalid config" in answer.out


def test_a_file_that_is_not_utf8_is_reported(llm4rec, tmp_path):
    write_text(tmp_path / "conf/dataset/mine.yaml", "")
    (tmp_path / "conf/dataset/mine.yaml").write_bytes("name: M\xfcll\n".encode("latin-1"))
    answer = llm4rec("validate", "dataset/mine")
    assert answer.code == 2
    assert "not UTF-8" in answer.out


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("dataset/mine", "1 config (1 dataset, 1 of them in ./conf)"),
        ("conf/dataset/mine.yaml", "1 config (1 dataset, 1 of them in ./conf)"),
        ("mine", "1 config (1 dataset, 1 of them in ./conf)"),
        ("experiment/unisrec/paper", "1 config (1 experiment, 0 of them in ./conf)"),
        ("task", f"{len(composing.options('task'))} configs ({len(composing.options('task'))} tasks, 0 of them in"),
    ],
)
def test_names_choose_the_configs_to_validate(llm4rec, tmp_path, name, summary):
    write_text(tmp_path / "conf/dataset/mine.yaml", "defaults: [demo, _self_]\n")
    write_text(tmp_path / "conf/trainer/wrong.yaml", "epoch: 1\n")
    answer = llm4rec("validate", name)
    assert answer.code == 0, answer.out
    assert answer.out.startswith(summary)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("dataset/dmo", "'dataset/demo'"), ("datset", "'dataset'"), ("zzz", "known: dataset, ")],
)
def test_an_unknown_config_is_refused_with_the_closest_name(llm4rec, name, remedy):
    answer = llm4rec("validate", name)
    assert answer.code == 2
    assert f"unknown config '{name}'" in answer.err
    assert remedy in answer.err


def test_the_error_of_train_names_the_key_and_recommends_validate(llm4rec, tmp_path):
    write_text(tmp_path / "conf/dataset/mine.yaml", "defaults: [demo, _self_]\nuser_cores: 5\n")
    answer = llm4rec("train", "dataset=mine")
    assert answer.code == 2
    assert "dataset/mine: Key 'user_cores'" in answer.err
    assert "llm4rec validate dataset/mine" in answer.err


def test_train_reports_the_line_of_invalid_yaml(llm4rec, tmp_path):
    write_text(tmp_path / "conf/dataset/mine.yaml", "name: mine\n\treader: x\n")
    answer = llm4rec("train", "dataset=mine")
    assert answer.code == 2
    assert "conf/dataset/mine.yaml, line 2" in answer.err


@pytest.mark.parametrize(
    ("model", "override", "remedy"),
    [
        ("unisrec", "model.encoder.poling=cls", "did you mean 'model.encoder.pooling'?"),
        ("chatgptrec", "prompt.shotss=1", "did you mean 'prompt.shots'?"),
        ("prompt4nr", "prompt.epoch=1", "did you mean 'prompt.epochs'?"),
        ("bpr_mf", "model.hidden_size=8", "did you mean 'model.embedding_size'?"),
    ],
)
def test_train_suggests_keys_of_the_chosen_model(llm4rec, model, override, remedy):
    assert remedy in llm4rec("train", f"model={model}", override).err


def test_validating_never_imports_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; assert main(['validate', 'task', 'experiment/p5']) == 0; "
        "assert not {'torch', 'transformers'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ones_own_search_space_comes_before_the_shipped_one_and_is_checked(tmp_path, llm4rec):
    write_text(tmp_path / "conf/search/sasrec.yaml", "model.dropout: {values: [0.1, 2.0]}\n")
    answer = llm4rec("validate", "search/sasrec")
    assert answer.code == 2
    assert "conf/search/sasrec.yaml:1: model.dropout=2.0 is out of range" in answer.out


def test_sentences_that_no_model_needs_or_that_are_none_are_reported_with_their_lines(tmp_path, llm4rec):
    content = "penalty: no {penalty\nlatest_items: in order\nlatest_item: in order\n"
    write_text(tmp_path / "conf/deviations/simplex.yaml", content)
    write_text(tmp_path / "conf/deviations/simplexx.yaml", "penalty: none\n")
    write_text(tmp_path / "conf/deviations/sasrec.yaml", "{}\n")
    write_text(tmp_path / "conf/deviations/peter.yaml", "words: as written\n")
    answer = llm4rec("validate", "deviations")
    assert answer.code == 2
    assert "simplex.yaml:1: 'penalty' is not a sentence" in answer.out
    assert "simplex.yaml:3: the model has no deviation 'latest_item'\n  try: did you mean 'latest_items'?" in answer.out
    assert "unknown model 'simplexx'\n  try: did you mean 'simplex'?" in answer.out
    assert "sasrec.yaml: the file has no sentences" in answer.out
    assert "'optimizer' has no sentence\n  try: optimizer: SENTENCE" in answer.out


def test_a_task_without_a_question_is_a_problem_of_its_file(llm4rec, tmp_path):
    write_text(tmp_path / "conf/task/mine.yaml", "# Mine.\ndefaults: [_task, _self_]\nname: mine\n")
    answer = llm4rec("validate", "task/mine")
    assert answer.code == 2
    assert "question" in answer.out + answer.err
    assert "bug" not in answer.err
