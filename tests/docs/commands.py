"""Commands in docs/ and the README, and a walk through those of a file that need nothing from elsewhere."""

import re
import shlex
from pathlib import Path

from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.config.schema import Backend
from llm4rec_cli.data.prepare import prepare
from tests.llm.tiny_llm import tiny_llm
from tests.models.tiny_bert import tiny_bert
from tests.support.driver import call, compose, spec_of
from tests.support.small import sizes
from tests.support.small_log import small_log

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
VALUES = {"$target": "amazon2018-arts", "$ids": "true", "$from": "outputs/x", "RUN": "outputs/y"}
ASKING = ("train", "eval", "prepare", "enrich")
COMPOSED = (*ASKING, "recommend")  # from a config


def lines(file: Path) -> list[list[str]]:
    """The arguments of each `llm4rec …` in the file's shell blocks, by torchrun too."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", file.read_text(), re.DOTALL)).replace("\\\n", " ")
    found = []
    for line in blocks.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["torchrun"]:
            words = words[words.index("llm4rec_cli") :]
        if words[:1] in (["llm4rec"], ["llm4rec_cli"]):
            found.append(words[1:])
    return found


def commands(file: Path) -> list[list[str]]:
    """The overrides of each `train | eval | prepare | enrich` of the file; of a sweep, its first values."""
    found = [words for words in lines(file) if words[0] in ASKING]
    return [[first_of_sweep(word) for word in words[1:] if word != "-m"] for words in found]


def first_of_sweep(word: str) -> str:
    """`seed=0` of `seed=0,1,2`."""
    return re.sub(r"^(\S+=[^,\[]*),.*", r"\1", word)


def last_of_sweep(word: str) -> str:
    """`seed=2` of `seed=0,1,2`: what the defaults have not run. tests/cli/test_sweep.py sweeps."""
    return re.sub(r"^([^\s=]+)=[^\[]*,([^,\[]*)$", r"\1=\2", word)


# What a command stands for in a walk through a file: runs made before, in order; users and items of the demo.
PLACES = {
    "README.md": {
        "compare": ("sasrec/demo/sequential/seed0-*", "unisrec/demo/sequential/seed0-*"),
        "ensemble": tuple(f"{name}/demo_news/direct/seed0-*" for name in ("prompt4nr", "popularity", "random")),
        "human": ("p5/demo/explanation/seed0-*", "retrieval/demo/explanation/seed0-*"),
    },
    "unisrec.md": {"train": ("unisrec/demo_pretrain/pretrain",)},
    "chatgptrec.md": {
        "human": ("chatgptrec/demo/explanation/seed0-*", "retrieval/demo/explanation/seed0-*"),
    },
}
# Run by tests of their own: files of somebody else's, sheets that are filled, all configs; or of runs on real data.
ELSEWHERE = (["score"], ["human", "score"], ["human", "judge"], ["validate"], ["report", "--outputs", "outputs/tuning"])
# Of each file, how many such commands it has at least.
WALKED = {README: 30, DOCS / "unisrec.md": 8, DOCS / "p5.md": 20, DOCS / "chatgptrec.md": 12, DOCS / "prompt4nr.md": 9}


def at_hand(words: list[str]) -> bool:
    """Whether a command needs no data, weights or answers but those of the package."""
    if words[0] not in COMPOSED:
        return not any(words[: len(other)] == other for other in ELSEWHERE)
    if any(mark in word for word in words for mark in ("PATH", "NAME", "$", "dataset=mine")):
        return False
    config = composed(words)
    offline = config.llm.backend != Backend.openai or config.llm.dry_run
    return config.dataset.name.startswith("demo") and offline


def composed(words):
    """The config of a command; of a sweep, that of its first job."""
    return compose(*(hydra_override(first_of_sweep(word)) for word in words[1:] if "=" in word))


class Walk:
    """The commands of one file, typed one after the other in one folder, each made small."""

    def __init__(self, file, new_folder, cache):
        self.file = file
        self.places, self.cwd, self.cache = PLACES.get(file.name, {}), new_folder("walk"), cache
        self.llm, self.bert = tiny_llm(new_folder("llm"), 4096), tiny_bert(new_folder("bert"))
        self.log = small_log(new_folder("log"))

    def __call__(self, words):
        typed = self.filled(words)
        if self.file != README:  # whose sweeps are compared
            typed = [last_of_sweep(word) for word in typed]
        if words[0] in COMPOSED:
            typed += self.small(words)
        return call(*typed, cwd=self.cwd, cache=self.cache)

    def filled(self, words):
        """The command with what its capitals stand for."""
        runs = iter(self.places.get(words[0], ()))
        filled = []
        for word in words:
            while re.search(r"\bRUN\b", word):
                found = sorted((self.cwd / "outputs").glob(next(runs)))
                word = re.sub(r"\bRUN\b", str(found[0]), word, count=1)
            filled.append(word)
        if "ID" in words:
            demo = prepare(spec_of("dataset=demo").config.dataset, self.cache / "llm4rec")
            filled[words.index("--user") + 1] = demo.user_ids[0]
            filled[words.index("--item") + 1] = demo.items["item_id"][0]
        return filled

    def small(self, words):
        """Overrides of size that every model of the command takes."""
        config = composed(words)
        names = [name for word in words if word.startswith("model=") for name in word[6:].split(",")]
        own = [sizes(name) for name in names or [config.model.name]]
        sized = [f"llm.model={self.llm}", "llm.max_tokens=8", "task.max_examples=5"]
        sized += ["trainer.epochs=1", "trainer.batch_size=512", *(s for s in own[0] if all(s in of for of in own))]
        if config.model.name == "prompt4nr":
            sized += [f"model.backbone={self.bert}"]
            sized += ["dataset.train_users=0.05"] if config.dataset.name == "demo" else []
        if config.dataset.name == "demo_news" and "ensemble" not in self.places:  # which looks for the generated one
            sized += ["dataset.generator=null", f"dataset.raw_dir={self.log}"]
        return sized


def walk_through(file, new_folder, cache):
    """Types the file's commands that need nothing from elsewhere, in their order."""
    walk = Walk(file, new_folder, cache)
    walked = [words for words in lines(file) if at_hand(words)]
    if file == README:
        walked += [words for words in lines(DOCS / "results.md") if words[1:2] not in (["--papers"], ["RUN"])]
    failed = [(words, answer.err) for words in walked for answer in [walk(words)] if answer.code]
    assert failed == []
    assert len(walked) >= WALKED[file]
