"""Shipped configs compose with their types, run small and name no code, and every setting is used."""

import re
from functools import cache as cache_function

import pandas as pd
import pytest
from omegaconf import OmegaConf

from llm4rec_cli.config import compose as composing
from llm4rec_cli.config import overrides, schema
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.files import write_text
from llm4rec_cli.llm import embeddings
from llm4rec_cli.run import config_check
from tests.data.misbehaving_server import body, running
from tests.llm.chat_server import api_error, chat_server
from tests.llm.enriching import enrich
from tests.llm.tiny_llm import tiny_llm
from tests.models.tiny_bert import tiny_bert
from tests.support.driver import Answer, call, compose, job_of
from tests.support.first_step import first_step
from tests.support.golden import Golden, addresses, hold_first_step, hold_run
from tests.support.loops import hold_for_all
from tests.support.reads import leaves, recorded
from tests.support.small import QUICK, SMALL_CHAT, sizes
from tests.support.small_log import small_log

GROUPS = {group: composing.options(group) for group in overrides.FOLDERS}
SHIPPED = [(group, name) for group, names in GROUPS.items() for name in names]
SPACES = [(group, name) for group in ("search", "paper", "deviations") for name in composing.options(group)]
GENERATED = [name for name in GROUPS["dataset"] if name.startswith("demo")]
FILES = sorted(file for folder in composing.conf_dirs() for file in folder.rglob("*.yaml"))
WROTE = ("llm=openai",)  # for enriched items: the name identifies the chat model that wrote the tokens


TUNED = """
# @package _global_
defaults: [override /model: random, _self_]
tuning: {trials: 8, minutes: 3.0, metric: ndcg@10, score: 0.1}
"""


def choice(group, name):
    if group in ("home", "size"):
        keys = ("model", "dataset" if group == "home" else "trainer")
        return [f"{key}={value}" for key, value in zip(keys, name.split("-", 1), strict=True)]
    return [f"+experiment={name}" if group == "experiment" else f"{group}={name}"]


def llm(config):
    """Return the overrides for the chat model of the item tokens, if an experiment uses enriched texts."""
    return WROTE if config.dataset.text == schema.TextRecipe.enriched else ()


def test_all_files_belong_to_a_known_group():
    known = {folder / group / f"{name}.yaml" for group, name in (*SHIPPED, *SPACES) for folder in composing.conf_dirs()}
    shared = {path for path in FILES if path.name.startswith("_")}  # by files of a group, which are options
    assert {composing.conf_dir() / "config.yaml", *known & {*FILES}, *shared} == set(FILES)


def test_every_model_has_a_config_and_every_config_a_model():
    assert GROUPS["model"] == [*model_names()]


def test_validate_accepts_all_shipped_configs_with_their_types(llm4rec, monkeypatch):
    """In this process, so that the tests below find every config composed."""
    monkeypatch.setattr(config_check, "MANY", len(SHIPPED + SPACES) + 1)
    answer = llm4rec("validate")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{len(SHIPPED) + len(SPACES)} configs ({len(GROUPS['dataset'])} datasets, ")
    assert answer.out.endswith("all valid\n")

    def typed(group, name):
        config = compose(*choice(group, name))
        assert OmegaConf.get_type(config) is schema.Config
        assert OmegaConf.get_type(config.dataset) is schema.DatasetConfig
        assert OmegaConf.get_type(config.task) is schema.TaskConfig
        assert OmegaConf.get_type(config.trainer) is schema.TrainerConfig
        assert OmegaConf.get_type(config.model) is config_class(config.model.name)

    hold_for_all(typed, [(group, name) for group, name in SHIPPED if group != "prompt"])


def test_options_are_named_as_their_files():
    """Except the direct task for click logs."""
    for group in ("model", "dataset", "task"):
        expected = [{"impressions": "direct"}.get(name, name) for name in GROUPS[group]]
        assert [compose(f"{group}={name}")[group].name for name in GROUPS[group]] == expected


def test_every_file_says_what_it_is_names_no_code_and_reads_no_secret():
    def described(file):
        text = file.read_text()
        assert "_target_" not in text
        assert "oc.env" not in text
        assert next(line for line in text.splitlines() if "@package" not in line).startswith("# ")
        if file.parent.parent.name == "experiment":
            assert f"llm4rec train +experiment={file.parent.name}/{file.stem}" in text

    hold_for_all(described, FILES)


def test_datasets_with_files_say_where_these_come_from_and_floors_of_tasks_are_floors():
    for name in {*GROUPS["dataset"]} - {*GENERATED}:
        assert re.search("https://|package", compose(f"dataset={name}").dataset["get"]), name
    for task in GROUPS["task"]:
        assert all(config_class(name).traits.is_floor for name in compose(f"task={task}").task.floors), task


class SmallRuns:
    """small(*arguments) runs the command line in a new folder, once for all tests of this module.

    Attributes:
        llm, bert: the folders of a tiny chat model and a tiny BERT.
        log: the folder of a tiny click log.
        read: the settings that these commands have read.
        steps: arguments -> the first optimiser step of the training, if any.
    """

    def __init__(self, new_folder, cache):
        self.new_folder, self.cache, self.answers, self.read = new_folder, cache, {}, set()
        self.steps = {}
        self.llm, self.bert = tiny_llm(new_folder("llm")), tiny_bert(new_folder("bert"))
        self.log = small_log(new_folder("log"))

    def __call__(self, *arguments, stop=False) -> Answer:
        """With `stop`, the training is interrupted after its first optimiser step."""
        if arguments not in self.answers:
            typed = [*arguments, f"llm.model={self.llm}"]
            reads_bert = any(name in " ".join(arguments[:2]) for name in ("prompt4nr", "nrms"))
            typed += [f"model.backbone={self.bert}"] if reads_bert else []
            typed += [f"model.backbone={self.llm}"] if "tuned_lm" in " ".join(arguments[:2]) else []
            typed += [f"dataset.raw_dir={self.log}"] if SMALL_LOG in arguments else []
            with recorded() as read, first_step(stop) as self.steps[arguments]:
                self.answers[arguments] = call(*typed, cwd=self.new_folder("small"), cache=self.cache)
            self.read |= read
        return self.answers[arguments]

    def first_step(self, key, arguments):
        """Compare the first step of a training with the golden one."""
        assert self(*arguments, stop=True).code == 130, self(*arguments).err
        (config,) = self(*arguments).cwd.rglob("config.yaml")
        hold_first_step(key, OmegaConf.load(config).model, self.steps[arguments])

    def held(self, key, arguments):
        """Compare a run with its golden values; return its metrics.json."""
        answer = self(*arguments)
        settings = OmegaConf.load(answer.folder / "config.yaml").model
        hold_run(key, answer.metrics, settings, self.steps[arguments])
        return answer.metrics


@pytest.fixture(scope="module")
def small(tmp_path_factory, cache):
    runs = SmallRuns(tmp_path_factory.mktemp, cache)
    enrich(job_of(*WROTE, f"llm.model={runs.llm}"), cache / "llm4rec")
    return runs


# Commands that run every option small. Models that are read from files are tested by score and
# ensemble in tests/studies/cli.
LOG, SMALL_LOG = "dataset=demo_news", "dataset=mind-small-5k"
OF_MODELS = {*GROUPS["model"]} - {"external", "ensemble"}
MODELS = {n: ("train", f"model={n}", *sizes(n), *QUICK) for n in sorted(OF_MODELS)}  # with its default dataset and task
FLOORS = {"rating": "mean", "like": "like_means", "explanation": "retrieval", "review_summary": "retrieval"}
TASKS = {
    n: ("train", f"task={n}", f"model={FLOORS.get(n, 'popularity')}", "task.max_examples=20") for n in GROUPS["task"]
} | {
    # Floors cannot be pre-trained.
    "pretrain": ("train", "task=pretrain", *sizes("unisrec"), *QUICK),
    "all": MODELS["p5"],
    "impressions": ("train", LOG, "model=popularity", "task.max_examples=20"),
}
TRAINERS = {n: ("train", "model=bpr_mf", f"trainer={n}", *sizes("bpr_mf"), *QUICK) for n in GROUPS["trainer"]}
# model=p5 and p5/paper evaluate five tasks after one training; for these experiments one task suffices.
FEW_CANDIDATES = "task.negatives=4"  # one prompt per candidate
ONE_TASK = {
    "p5/demo": ("task=sequential",),
    "p5/instruments": ("task=explanation",),
    "p5/transfer": ("task=explanation",),
    "p5/demo_transfer": ("task=rating",),
    "p5/paper_independent": ("task=sequential",),
    "p5/paper_prompts": ("task=review_summary",),
    "p5/paper_samples": ("task=direct", FEW_CANDIDATES),
    "p5/paper_yes_no": (FEW_CANDIDATES,),
}
FEW_STEPS = dict.fromkeys(("tiger/paper", "tiger/cornac"), ("model.ids.rq_vae.epochs=2",))


@cache_function
def experiment_command(name):
    """Return the command that runs an experiment small, on generated data."""
    config = compose(*choice("experiment", name))
    data = "dataset=demo_transfer" if config.dataset.split is schema.SplitRule.transfer else "dataset=demo"
    data = SMALL_LOG if config.dataset.split.splits_impressions else data
    fewer = ONE_TASK.get(name, ()) + FEW_STEPS.get(name, ())
    job = job_of(*choice("experiment", name))
    small_sizes = sizes(config.model.name, job.model.unused_settings(job.task))
    return ("train", *choice("experiment", name), data, *small_sizes, *fewer, *llm(config), *QUICK)


DATASETS = {n: ("prepare", f"dataset={n}") for n in GENERATED}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs_by_its_name(small, name):
    metrics = small.held(f"model={name}", MODELS[name])
    assert (metrics["model"], metrics["n_examples"]) == (name, 20)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_runs_small_with_its_floors(small, name):
    metrics = small.held(f"task={name}", TASKS[name])
    assert (metrics["task"], metrics["n_examples"]) == (compose(f"task={name}").task.name, 20)


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_runs_small(small, name):
    assert small(*TRAINERS[name]).metrics["n_examples"] == 20


@cache_function
def whole_experiments():
    """Return the experiments that are run to their metrics: the first one of each model, task and split."""
    first = {}
    for name in GROUPS["experiment"]:
        config = compose(*choice("experiment", name), *ONE_TASK.get(name, ()))
        first.setdefault((config.model.name, config.task.name, config.dataset.split), name)
    return {*first.values()}


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_every_experiment_runs_small(small, name):
    arguments = experiment_command(name)
    if name in whole_experiments():
        metrics = small.held(f"+experiment={name}", arguments)
        assert metrics["experiment"] == name
        assert f"dataset={metrics['dataset']}" in arguments
        assert set(compose(*choice("experiment", name)).deviations) <= set(metrics["deviations"])
    elif config_class(compose(*choice("experiment", name)).model.name).traits.trainable:
        small.first_step(f"+experiment={name}", arguments)


@pytest.mark.parametrize("task", ["explanation", "review_summary"])
def test_the_papers_texts_run_small_with_its_experiment(small, task):
    metrics = small(*experiment_command("chatgptrec/beauty_reviews"), f"task={task}").metrics
    assert (metrics["task"], metrics["split_rule"], metrics["n_examples"]) == (task, "p5_reviews", 20)


# Methods and a baseline, with the tasks that they support as separate commands.
TASKS_OF_MODELS = {
    **dict.fromkeys(("p5", "chatgptrec"), ("rating", "sequential", "direct", "explanation", "review_summary")),
    **dict.fromkeys(("unisrec", "sasrec"), ("sequential", "direct")),
}
COMMANDS = [
    *((f"+experiment={name}",) for name in GROUPS["experiment"]),
    *((f"model={name}",) for name in MODELS),
    *((f"model={name}", f"task={task}") for name, tasks in TASKS_OF_MODELS.items() for task in tasks),
]


def test_addresses_do_not_change():
    golden = Golden("addresses")

    def same(*typed):
        golden.hold(" ".join(typed), {name: list(address) for name, address in addresses(*typed).items()})

    hold_for_all(same, COMMANDS)


def test_every_generated_dataset_is_prepared(small):
    for name in DATASETS:
        answer = small(*DATASETS[name])
        assert answer.code == 0, answer.err
        assert f"{name}-" in answer.out


PRINTED = """\
defaults: [_dataset, _self_]
name: printed
reader: table
domains: {shop: {interactions: log.csv}}
user_core: 0
item_core: 0
paper: {users: 1, items: 3, interactions: 3, source: "a paper that counted the same"}
download: [{file: log.csv, urls: [URL], max_bytes: 100}]
"""


PRINTED_LOG = """\
defaults: [demo_news, _self_]
name: printed_log
paper: {users: 1, items: 3, impressions: 4, clicks: 5, train: 2, valid: 1, test: 1, source: "a paper of a click log"}
"""


def test_every_setting_is_read_by_some_run(small, tmp_path, cache, monkeypatch):
    """A setting that is never read has no effect.

    If only a special run reads a setting, add that run below.
    """
    for commands in (MODELS, TASKS, TRAINERS, DATASETS):
        for arguments in commands.values():
            small(*arguments)
    for name in GROUPS["experiment"]:
        small(*experiment_command(name), stop=name not in whole_experiments())
    shared, floors = tmp_path / "shared", ("popularity", "item_knn")
    floor_runs = [(f"model={name}", "task.stored_items=100", f"paths.outputs={shared}", *QUICK) for name in floors]
    members = [small("train", *floor).folder for floor in floor_runs]
    for floor in floor_runs:
        assert small("eval", *floor, "split=valid").code == 0
    runs = f"run=[{','.join(map(str, members))}]"
    assert small("ensemble", runs, "combine=grid", "--outputs", str(shared), *QUICK).code == 0
    trained = small(*MODELS["sasrec"]).folder
    answers = pd.read_parquet(trained / "predictions.parquet")
    answers[["user_id", "target"]].to_csv(tmp_path / "lists.csv", index=False, header=["user", "item"])
    ids = small(*MODELS["rpg"]).folder / "item_ids.json"
    bert = ("model.titles=2", f"model.backbone={small.bert}")
    special = {
        ("eval", f"run={trained}", f"paths.outputs={trained.parents[3]}", *QUICK): 0,
        ("score", "lists.csv", *QUICK): 0,
        ("train", "+experiment=tuned", *QUICK): 0,
        ("train", "model=p5", "task=rating", "model.index=semantic", *sizes("p5"), *QUICK): 0,
        ("train", "model=nrms", "model.aggregation=mean", LOG, *bert, *QUICK): 0,
        ("train", "model=sasrec", "model.vectors=initial", "model.encoder.name=random", *QUICK): 0,
        ("train", "model=transition_text", "model.text=vectors", "model.encoder.name=random", *QUICK): 0,
        ("train", "model=tuned_lm", LOG, f"model.backbone={small.llm}", *sizes("tuned_lm"), *QUICK): 0,
        ("train", "model=rpg", "model.ids.kind=file", f"model.ids.file={ids}", "model.layers=1", *QUICK): 0,
        ("prepare", "dataset=printed", "paths.cache=."): 0,
        ("prepare", "dataset=printed_log"): 0,
        ("list", "prompts", "prompt4nr/hybrid_action"): 0,
        ("prepare", "dataset=ml-100k", "dataset.raw_dir=."): 1,  # the error says where to get the missing files
    }
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)  # seconds until what fails is asked again
    monkeypatch.setattr(embeddings, "RETRIES", 0)
    chat_command = ("train", "model=chatgptrec", "task.max_examples=2", "task.floors=[]", *SMALL_CHAT)
    with running() as server, chat_server() as chat, recorded() as read:
        chat.responses = lambda prompt: [api_error(500)]
        special |= {
            (*chat_command, "task=rating", "llm=openai", f"llm.base_url={chat.url}"): 0,
            (*chat_command, "task=direct", "model.answer=likelihood", f"llm.model={small.llm}"): 0,
            (*chat_command, "task=sequential", "model.answer=generate", f"llm.model={small.llm}"): 0,
            # The server has no embeddings.
            ("train", "model=frozen_text", "model.encoder.name=endpoint:m", f"model.encoder.base_url={chat.url}"): 1,
            # A few-shot prompt exceeds the context of the tiny model and is refused.
            (*chat_command, "task=direct", "prompt.shots=1", f"llm.model={small.llm}"): 2,
        }
        url = server.at("/log.csv", body(b"user_id,item_id\nu,a\nu,b\nu,c\n"))
        write_text(tmp_path / "conf/dataset/printed.yaml", PRINTED.replace("URL", url))
        write_text(tmp_path / "conf/dataset/printed_log.yaml", PRINTED_LOG)
        write_text(tmp_path / "conf/experiment/tuned.yaml", TUNED)
        for arguments, code in special.items():
            answer = call(*arguments, cwd=tmp_path, cache=cache)
            assert answer.code == code, answer.err
    # By control_examples, shares_histories and members_file, which reads.py does not count.
    in_its_own_config = {("ChatGPTRecConfig", "controls"), ("Prompt4NRConfig", "attention")}
    in_its_own_config |= {("EnsembleConfig", "names"), ("EnsembleConfig", "variants")}
    assert sorted(leaves() - small.read - read - in_its_own_config) == []
