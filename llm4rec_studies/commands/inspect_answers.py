"""`llm4rec inspect answers RUN`: a chat model's prompts and answers, and what was read of each.

llm4rec inspect answers chatgptrec/demo/rating/seed0-ab
llm4rec inspect answers chatgptrec/demo/rating/seed0-ab --status invalid --n 20
llm4rec inspect answers chatgptrec/demo/rating/seed0-ab --user ASASDIE2W9UHU

For a finished run whose chat model writes its answers. Answers are read from the run folder. Prompts
are written again from its settings, and no request is sent. Long texts are cut in the middle: --wide
shows them whole.
"""

from __future__ import annotations

from pathlib import Path

from llm4rec_cli.commands import at_least, command_parser
from llm4rec_cli.llm.requests import Status
from llm4rec_cli.paths import default_outputs


def main(argv: list[str]) -> int:
    parser = command_parser("inspect answers", __doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder, or an end of its path")
    parser.add_argument("--n", metavar="N", type=at_least(1), default=5, help="answers to show (default: 5)")
    parser.add_argument("--status", choices=[status.value for status in Status], help="only answers with this status")
    parser.add_argument("--user", metavar="ID", help="only answers about this user, by the id in the raw files")
    parser.add_argument("--outputs", default=default_outputs(), help="folder of the runs (default: %(default)s)")
    options = parser.parse_args(argv)

    from llm4rec_cli.results.results import named_results
    from llm4rec_studies.inspection.answers import answers_of, texts

    (run,) = named_results([options.run], Path(options.outputs).expanduser())
    print("\n\n".join(texts(answers_of(run, options.n, options.status, options.user))))
    return 0
