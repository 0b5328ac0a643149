"""The generated parts of the documentation.

    python scripts/docs_pages.py    writes them into the pages, between two comments: `generated: NAME` and `end`

PARTS maps names to functions that return Markdown. BUILT are parts that only the site has: this file is a hook of
mkdocs.yml, which fills them in when scripts/build_docs.sh builds the site. Tables of results are those of
`llm4rec report` on the runs in docs/recorded/, which scripts/record_runs.py writes.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import json
import os
import re
import shlex
import sys
import tempfile
import textwrap
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import docs_config  # noqa: E402

from llm4rec_cli import cli  # noqa: E402
from llm4rec_cli.commands.new import TEMPLATE  # noqa: E402
from llm4rec_cli.config.commands import commands as known_commands  # noqa: E402
from llm4rec_cli.config.registry import config_class, model_names  # noqa: E402
from llm4rec_cli.data import readers  # noqa: E402
from llm4rec_cli.evaluation.metrics import Metric  # noqa: E402
from llm4rec_cli.evaluation.metrics import metrics as all_metrics  # noqa: E402
from llm4rec_cli.labels import LABELS  # noqa: E402
from llm4rec_cli.results.tables import markdown  # noqa: E402
from llm4rec_studies.paper_tables import definitions, reproduction  # noqa: E402
from llm4rec_studies.paper_tables.definitions import Size, matches  # noqa: E402

RECORDED, BAD_INPUT = Path("docs/recorded"), ROOT / "tests/data/bad/cases.yaml"
PAPERS = ("unisrec", "prompt4nr", "p5", "chatgptrec", "tiger,rpg", "tallrec,collm")  # of a page each
PART = re.compile(r"(?<=<!-- generated: )(.+?)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)
BUILT_PART = re.compile(r"\*Filled in when the site is built \(`bash scripts/build_docs\.sh`\): (.+?)\.\*")
WIDTH = 105  # characters per line of a command's help


def main() -> None:
    """Write the generated parts into the pages."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (current := with_parts(text)) != text:
            page.write_text(current, encoding="utf-8")
            print(page.relative_to(ROOT))


def with_parts(text: str) -> str:
    """Return a page with its generated parts as they are now."""
    return PART.sub(lambda part: f"{part[1]}{part[2]}\n{PARTS[part[1]]().strip()}\n\n", text)


def on_page_markdown(text: str, **_: Any) -> str:
    """Fill in the parts of a page that only the site has."""
    return BUILT_PART.sub(lambda part: BUILT[part[1]](), text)


def on_files(files: Any, config: Any) -> Any:
    """Add the HTML report on the recorded runs to the site."""
    from mkdocs.structure.files import File

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        output_of("report", "--html", str(page), "--outputs", str(RECORDED))
        files.append(File.generated(config, "results/report.html", content=page.read_text(encoding="utf-8")))
    return files


def output_of(*arguments: str) -> str:
    """Return what `llm4rec <arguments>` prints on standard output."""
    environment, out = dict(os.environ), io.StringIO()
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        with contextlib.chdir(ROOT), contextlib.redirect_stdout(out):  # so that no page names a folder of a machine
            code = cli.main(arguments)
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    finally:
        os.environ.clear()
        os.environ.update(environment)
    if code:
        raise RuntimeError(f"llm4rec {' '.join(arguments)} exits with {code}")
    return out.getvalue()


def notebook(name: str) -> str:
    """Return a notebook as Markdown."""
    cells = json.loads((ROOT / "docs/notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = {"markdown": "{}", "code": "```python\n{}\n```"}
    return "\n\n".join(shown[cell["cell_type"]].format("".join(cell["source"])) for cell in cells)


def readme() -> str:
    """Return the README from its title to its list of pages, without badges, with links as from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    body = text.partition("\n\n")[2].partition("## Documentation")[0]
    body = re.sub(r"^\[!\[.*\n", "", body, flags=re.MULTILINE)
    body = re.sub(r"<p.*?<img src=\"(.+?)\".*?alt=\"(.+?)\">\s*</p>", r"![\2](\1)", body, flags=re.DOTALL)
    return body.replace("](docs/", "](")


def template() -> str:
    """Return the files of the package that `llm4rec new model` writes."""
    languages = {".py": "python", ".yaml": "yaml", ".toml": "toml"}
    files = [path for path in sorted(TEMPLATE.rglob("*")) if path.suffix in languages and path.stat().st_size]
    files.sort(key=lambda path: list(languages).index(path.suffix))
    return "\n\n".join(
        f"```{languages[path.suffix]}\n# {path.relative_to(TEMPLATE)}\n{path.read_text(encoding='utf-8')}```"
        for path in files
    )


def commands() -> str:
    """Return the help of every command. Commands with overrides share the config groups, shown once, under `train`."""
    parts = [_code(output_of("--help"))]
    for command in known_commands().values():
        if not command.is_ours:
            continue
        parts.append(f"## {command.typed}")
        if command.name == "train" or not command.takes_overrides:
            parts.append(_code(output_of(*command.typed.split(), "--help")))
        else:
            options = command.load().parser().format_help() if command.has_options else ""
            title = f"llm4rec {command.typed} [overrides]: {command.summary}"
            parts.append(_code("\n\n".join(filter(None, [title, options, f"Examples:\n{command.examples}"]))))
    return "\n\n".join(parts)


def _code(text: str) -> str:
    lines = [part for line in text.strip().splitlines() for part in _wrapped(line.rstrip())]
    return "\n".join(["```text", *lines, "```"])


def _wrapped(line: str) -> list[str]:
    return [line] if len(line) <= WIDTH else textwrap.wrap(line, WIDTH, subsequent_indent="    ")


def report(*arguments: str) -> str:
    """Return the Markdown of `llm4rec report` on the recorded runs."""
    return output_of("report", "--markdown", *arguments, "--outputs", str(RECORDED))


def floors() -> str:
    """Return the tables of recorded floors, without controls."""
    lines = report(f"model={FLOORS}").splitlines()
    return "\n".join(line for line in lines if " (control) |" not in line)


def papers(name: str) -> str:
    """Return the tables of a paper, or of several with commas between, with what the recorded runs hold of each, and
    the recorded cells."""
    with contextlib.chdir(ROOT):
        content = reproduction.states(RECORDED, name, in_full=True)
    rows = [[f"`{table}`", *cells] for table, *cells in content.rows]
    parts = [markdown(content.columns, rows), *content.notes]
    for table, size in itertools.product(map(definitions.table, definitions.names()), (Size.paper, Size.cpu)):
        if matches(table.name.partition("/")[0], name) and (
            lines := reproduction.recorded_lines(table, size, ROOT / RECORDED)
        ):
            parts.append(f"### `{table.name}`")
            parts.append(f"{reproduction.heading(table, size)}.")
            for shown in reproduction.long_contents(table, size, lines):
                parts += [f"**{shown.title}**", markdown(shown.columns, shown.rows)]
                parts.append("\n".join(f"- {note}" for note in shown.notes))
    return "\n\n".join(filter(None, parts))


def states() -> str:
    """Return what `llm4rec list papers` prints for the recorded runs."""
    return _code(output_of("list", "papers", "--outputs", str(RECORDED)))


def dry_run(*arguments: str) -> str:
    """Return what `llm4rec reproduce --dry-run` prints where no data have been downloaded."""
    with tempfile.TemporaryDirectory() as empty, mock.patch.dict(os.environ, LLM4REC_CACHE=empty):
        return f"```text\n{output_of('reproduce', '--dry-run', *arguments).strip()}\n```"


def metrics() -> str:
    """Return the table of metrics."""
    rows = [
        [
            f"`{metric.name}{'@K' if metric.cutoffs else ''}`",
            str(metric.kind),
            "lower" if metric.lower else "higher",
            _shown(metric),
            f"`{metric.paired_as}`" if metric.paired_as else "",
        ]
        for metric in all_metrics()
    ]
    return markdown(["metric", "of", "better", "in tables by default", "compared in pairs by"], rows)


def _shown(metric: Metric) -> str:
    if not metric.shown:
        return "no"
    return ", ".join(f"K = {k}" for k in metric.cutoffs) or "yes"


def labels() -> str:
    """Return the table of labels."""
    rows = [
        [
            f"`{label.name}`",
            label.condition,
            "yes" if label.unusual else "",
            "" if label.paper else "no",
            "" if label.beats else "no",
        ]
        for label in LABELS.values()
    ]
    return markdown(["label", "condition", "unusual", "compared with papers", "may beat"], rows)


def file_roles() -> str:
    """Return the table of readers with the files that each reads."""
    rows = []
    for name in readers.names():
        for required, optional in readers.load(name).ROLES:
            files = [f"`{role}`" for role in sorted(required)] + [f"`{role}` (optional)" for role in sorted(optional)]
            rows.append([f"`{name}`", ", ".join(files)])
    return markdown(["reader", "file roles in `domains`"], rows)


def bad_input() -> str:
    """Return the tests' cases of bad input with the errors that they give."""
    cases = yaml.safe_load(BAD_INPUT.read_text(encoding="utf-8"))
    parts = []
    for title, head, rows in (
        ("Raw files that are refused", ("dataset", "case", "error"), _listed(cases["refused"])),
        ("Raw files that are read", ("dataset", "case", "output of `prepare`"), _listed(cases["read"])),
        ("Any file, damaged", ("damage", "error"), [*cases["damaged"].items(), *cases["large"].items()]),
        ("Data that cannot be trained on", ("dataset", "case", "error"), _listed(cases["trained"])),
        ("Overrides that do not fit the data", ("exit code", "typed", "error"), _listed(cases["failed"])),
        ("Wrong overrides (exit code 2, before data is read)", ("typed", "error"), [*cases["typed"].items()]),
    ):
        parts += [f"## {title}", markdown(head, [_case(*row) for row in rows])]
    return "\n\n".join(parts)


def _listed(section: dict[str, dict[str, str]]) -> list[tuple[str, str, str]]:
    """Return (dataset, case, expected) for each case of a section."""
    return [(str(dataset), case, expected) for dataset, named in section.items() for case, expected in named.items()]


def _case(*row: str) -> list[str]:
    """Return a row: names of folders as words, commands and messages as code."""
    *facts, case, expected = row
    return [*map(str, facts), f"`{case}`" if "=" in case else case.replace("_", " "), f"`{expected}`"]


DRY_RUN = "unisrec/main --columns Scientific --rows SASRec,CCDR,UniSRec_t --seeds 0 --untuned"


def public_core() -> str:
    """Return the table of the names of the core that the zoo imports, by module."""
    used = defaultdict[str, set[str]](set)
    for file in (ROOT / "llm4rec_zoo").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llm4rec_cli"):
                used[str(node.module)] |= {alias.name for alias in node.names}
    rows = []
    for module, names in sorted(used.items()):
        spec = find_spec(module)
        assert spec and spec.origin
        says = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        sentence = re.split(r"(?<=\.)\s", says)[0].replace("\n", " ").replace("|", "\\|")
        rows.append([f"`{module.removeprefix('llm4rec_cli.')}`", ", ".join(f"`{n}`" for n in sorted(names)), sentence])
    return markdown(["module of `llm4rec_cli`", "names", "the module"], rows)


FLOORS = ",".join(name for name in model_names() if config_class(name).traits.is_floor)
PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "config keys": docs_config.config_keys,
    "roles": docs_config.roles,
    "config options": docs_config.config_options,
    "datasets": docs_config.datasets,
    "file roles": file_roles,
    "labels": labels,
    "metrics": metrics,
    "public core": public_core,
    "readme": readme,
    "template": template,
    "bad input": bad_input,
    "recorded floors": floors,
    "states of tables": states,
    "dry run": partial(dry_run, *shlex.split(DRY_RUN)),
    **{f"papers {name}": partial(papers, name) for name in PAPERS},
}
BUILT: dict[str, Callable[[], str]] = {"recorded results": report, "notebook": partial(notebook, "first-run")}

if __name__ == "__main__":
    main()
