"""`llm4rec new model NAME`: write a package of your own with a model that trains, or a rule.

llm4rec new model running_mean                       writes ./llm4rec-running-mean
llm4rec new model my_model --out ~/code/my-model
llm4rec new model my_rule --kind rule                a rule without training

The package is a repository of its own: settings, model, YAML, search space, and the tests that models of llm4rec pass.
After `pip install -e FOLDER` the model is one of `llm4rec list models`, and every command takes it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.config.plugins import NAME
from llm4rec_cli.config.registry import model_names
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import fill_once

TEMPLATE, RULE = (Path(__file__).parents[1] / "plugin_template" / kind for kind in ("model", "rule"))
TEMPLATES = {"model": (TEMPLATE,), "rule": (TEMPLATE, RULE)}  # a rule's files replace those of the model
WRITTEN_AS = "running_mean"  # the model of the templates


def main(argv: list[str]) -> int:
    """Write the package and print the commands that come next."""
    parser = command_parser("new", __doc__)
    kinds = parser.add_subparsers(dest="what", required=True, metavar="model")
    model = kinds.add_parser("model", help="a model", description="Write a package with a model.")
    model.add_argument("name", metavar="NAME", help="of the model: lower-case letters, digits and _")
    model.add_argument("--out", metavar="FOLDER", type=Path, help="where to write it (default: ./llm4rec-NAME)")
    model.add_argument(
        "--kind", choices=TEMPLATES, default="model", help="a model that trains, or a rule without training"
    )
    options = parser.parse_args(argv)
    name = options.name
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}': a model's name has lower-case letters, digits and _", "llm4rec new model my_model")
    if name in model_names():
        raise UsageError(f"there is a model '{name}' already", "choose another name; llm4rec list models has all")
    folder = (options.out or Path(f"llm4rec-{name.replace('_', '-')}")).expanduser()
    if folder.exists():
        raise UsageError(f"{folder} exists", "choose another folder: --out FOLDER")
    fill_once(folder, lambda part: write_package(name, part, options.kind))
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(path)
    install, test = shlex.join(["pip", "install", "-e", f"{folder}[test]"]), shlex.join(["pytest", str(folder)])
    print(f"next: {install} && {test} && llm4rec train model={name}")
    return 0


def write_package(name: str, folder: Path, kind: str = "model") -> None:
    """Write the template of a kind for a model of this name."""

    def named(text: str) -> str:
        for spell in (str, lambda words: words.replace("_", "-"), lambda words: words.title().replace("_", "")):
            text = text.replace(spell(WRITTEN_AS), spell(name))
        return text

    for template in TEMPLATES[kind]:
        for file in sorted(template.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                path = folder / named(str(file.relative_to(template)))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(named(file.read_text(encoding="utf-8")), encoding="utf-8")
