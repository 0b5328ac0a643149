"""Commands in the README and the pages of docs/, and a walk through those that need nothing from elsewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.config.schema import Backend
from llm4rec_cli.data.prepare import prepare
from tests.llm.tiny_llm import tiny_llm
from tests.models.tiny_bert import tiny_bert
from tests.support.driver import call, compose, job_of
from tests.support.extras import INSTALLED
from tests.support.small import sizes
from tests.support.small_log import small_log

ROOT = Path(__file__).parents[2]
DOCS, README = ROOT / "docs", ROOT / "README.md"
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
VALUES = {"$target": "amazon2018-arts", "$ids": "true", "$from": "outputs/x", "RUN": "outputs/y"}
COMPOSED = ("train", "eval", "prepare", "enrich", "recommend", "tune")  # from a config
OWN_DATA = {
    "model=running_mean",
    "dataset=mine",
    "dataset=plays",
    "prompt=chatgptrec/mine",
    "prompt/chatgptrec/mine",
    "new.csv",
    "+experiment=ml100k/sasrec",
}  # of a page's examples


def pages(nav: Any) -> Iterator[Path]:
    """Yield the pages of a part of the navigation, in order."""
    for entry in nav:
        (content,) = entry.values()
        yield from [DOCS / content] if isinstance(content, str) else pages(content)


PAGES = [README, *pages(NAV)]
PAPERS = [DOCS / f"papers/{name}.md" for name in ("unisrec", "chatgptrec", "prompt4nr", "p5")]
GUIDES = [README, *(page for page in pages(NAV) if page.parent.name in ("docs", "start", "guides", "results"))]


def lines(file: Path) -> list[list[str]]:
    """Return the arguments of each `llm4rec …` in the file's shell blocks, by torchrun too."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL))
    commands = []
    for line in blocks.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["torchrun"]:
            words = words[words.index("llm4rec_cli") :]
        if words[:1] in (["llm4rec"], ["llm4rec_cli"]):
            commands.append(words[1:])
    return commands


def overrides(words: list[str]) -> list[str]:
    """Return the overrides of a command; of a sweep, those of its first job."""
    typed = [word for word in words[1:] if re.match(r"[\w+.@/]+=|~", word)]
    return [re.sub(r"^(\S+=[^,\[]*),.*", r"\1", word) for word in typed]


def last_of_sweep(word: str) -> str:
    """Return `seed=2` of `seed=0,1,2`: what the defaults have not run. tests/cli/test_sweep.py sweeps."""
    return re.sub(r"^([^\s=]+)=[^\[]*,([^,\[]*)$", r"\1=\2", word)


# What RUN is in a walk: of each pattern the run that was made first. The first by name differs between machines, as the
# name of an evaluation has a hash of the weights.
RUNS = {
    "guides": {
        "compare": ("sasrec/demo/sequential/seed1-*", "unisrec/demo/sequential/seed1-*"),
        "ensemble": tuple(f"{name}/demo_news/direct/seed0-*" for name in ("prompt4nr", "popularity", "random")),
        "eval": ("unisrec/demo/sequential/seed0-*",),
        "inspect": ("unisrec/demo/sequential/seed1-*",),
        "export": ("unisrec/demo/sequential/seed1-*",),
        "human": ("chatgptrec/demo/explanation/seed0-*", "retrieval/demo/explanation/seed0-*"),
    },
    "papers": {"train": ("unisrec/demo_pretrain/pretrain",)},
}
# Sweeps whose runs are compared afterwards.
WHOLE = (["-m", "model=unisrec,sasrec"], ["-m", "model=retrieval,chatgptrec"])
# Run by tests of their own: files of somebody else's, sheets that are filled, all configs; or of runs on real data.
ELSEWHERE = (["score"], ["human", "score"], ["human", "judge"], ["validate"], ["report", "--outputs", "outputs/tuning"])
ELSEWHERE += (["report", "--papers"], ["report", "dataset=plays"])
ELSEWHERE += (["import-weights"], ["reproduce"], ["report", "dataset=collm-ml-1m"])
ELSEWHERE += (
    ["report", "--html", "report.html", "--numbers"],
    ["report", "--draws"],
    ["compare", "RUN", "RUN", "--draws"],
)
OPTIONAL = {"tune": "optuna", "trainer.report_to=[tensorboard]": "tensorboard"}


def at_hand(words: list[str]) -> bool:
    """Return whether a command needs no data, weights, answers or processes but those of the package."""
    if OWN_DATA & {*words} or "dataset.raw_dir=PATH" in words:
        return False
    if any(typed in words and package not in INSTALLED for typed, package in OPTIONAL.items()):
        return False
    if words[0] not in COMPOSED:
        return not any(words[: len(other)] == other for other in ELSEWHERE)
    if any(mark in word for word in words for mark in ("PATH", "NAME", "$", "launcher")):
        return False
    config = composed(words)
    offline = config.llm.backend != Backend.openai or config.llm.dry_run
    return config.dataset.name.startswith("demo") and offline


def composed(words: list[str]) -> Any:
    """Return the config of a command; of a sweep, that of its first job."""
    return compose(*map(hydra_override, overrides(words)))


def made(folder: Path) -> int:
    """Return when a run was made; 0 for a folder of runs, which a training may start from."""
    config = folder / "config.yaml"
    return config.stat().st_mtime_ns if config.exists() else 0


class Walk:
    """The commands of some pages, typed one after the other in one folder, each made small."""

    def __init__(self, part, new_folder, cache):
        self.runs, self.cwd, self.cache = RUNS[part], new_folder("walk"), cache
        self.llm, self.bert = tiny_llm(new_folder("llm"), 4096), tiny_bert(new_folder("bert"))
        self.log = small_log(new_folder("log"))

    def __call__(self, words):
        typed = self.filled(words)
        if words[1:3] in WHOLE:
            typed = [word.replace("seed=0,1,2", "seed=0,1") for word in typed]
        else:
            typed = [last_of_sweep(word) for word in typed]
        if words[0] in COMPOSED:
            typed += self.small(words)
        return call(*typed, cwd=self.cwd, cache=self.cache)

    def filled(self, words):
        """Return the command with what its capitals stand for."""
        runs = iter(self.runs.get(words[0], ()))
        filled = []
        for word in words:
            while re.search(r"\bRUN\b", word):
                matches = (self.cwd / "outputs").glob(next(runs))
                word = re.sub(r"\bRUN\b", str(min(matches, key=made)), word, count=1)
            filled.append(word)
        if "ID" in words:
            demo = prepare(job_of("dataset=demo").config.dataset, self.cache / "llm4rec")
            ids = {"--user": demo.user_ids[0], "--item": demo.items["item_id"][0]}
            filled = [ids[words[i - 1]] if word == "ID" else word for i, word in enumerate(filled)]
        return filled

    def small(self, words):
        """Return overrides of size that every model of the command takes."""
        config = composed(words)
        names = [name for word in words if word.startswith("model=") for name in word[6:].split(",")]
        own = []
        for name in names or [config.model.name]:
            typed = [f"model={name}" if word.startswith("model=") else word for word in overrides(words)]
            job = job_of(*map(hydra_override, typed))
            own.append(sizes(name, job.model.unused_settings(job.task)))
        sized = [f"llm.model={self.llm}", "llm.max_tokens=8", "task.max_examples=5"]
        sized += ["trainer.epochs=1", "trainer.batch_size=512", *(s for s in own[0] if all(s in of for of in own))]
        if config.model.name == "p5" and config.task.name == "all" and self.runs is RUNS["guides"]:
            sized += ["task=sequential"]  # the page on P5 trains and evaluates it for all tasks
        if config.model.name == "chatgptrec":
            sized += ["llm.context=4096"]  # lists of candidates need more than other small answers
        if config.model.name in ("prompt4nr", "nrms"):
            sized += [f"model.backbone={self.bert}"]
            sized += ["dataset.train_users=0.05"] if config.dataset.name == "demo" else []
        if config.dataset.name == "demo_news" and "ensemble" not in self.runs:  # which looks for the generated one
            sized += ["dataset.generator=null", f"dataset.raw_dir={self.log}"]
        return sized


def walk_through(files, new_folder, cache):
    """Type the commands of these pages that need nothing from elsewhere, in their order, each once."""
    walk = Walk("guides" if README in files else "papers", new_folder, cache)
    commands = dict.fromkeys(tuple(words) for file in files for words in lines(file))
    if README in files:  # experiments on the papers' pages are run there
        of_papers = {tuple(words) for file in PAPERS for words in lines(file)}
        commands = [words for words in commands if words not in of_papers or "+experiment=" not in words[1]]
    failed = [
        (words, answer.err)
        for words in map(list, commands)
        if at_hand(words)
        for answer in [walk(words)]
        if answer.code
    ]
    assert not failed, failed
