"""`llm4rec compare RUN RUN`: paired comparison of runs on the same examples, user by user.

llm4rec compare outputs/sasrec/demo/sequential/seed0-ab12cd34ef outputs/unisrec/demo/sequential/seed0-12ab34cd56
llm4rec compare sasrec/demo/sequential/seed0-ab unisrec/demo/sequential/seed0-12     ends of paths, shortened
llm4rec compare sasrec/… unisrec/… p5/…                      the first with each of the others
llm4rec compare sasrec/… unisrec/… --metric ndcg@10,hr@50 --markdown
llm4rec compare sasrec/… unisrec/… --json | jq .metrics
llm4rec compare sasrec/… unisrec/… --wide                    all columns, on lines of any length
llm4rec compare sasrec/… unisrec/… --seeds                   over all seeds of these runs' variants
llm4rec compare sasrec/… chatgptrec/… --draws                over all draws of their candidates (task.draw)
llm4rec compare transition_text/… unisrec/… --seeds --ratio    how many per cent above a rule, with the interval
llm4rec compare sasrec/… unisrec/… --metric ndcg@10 --seeds --margin 5%     equivalent within 5 %?
llm4rec compare sasrec/… unisrec/… --targets cold            of runs with dataset.cold_items: only held-out targets

A run is its folder, any end of its path that matches one run under --outputs, or a model's name where that is one
variant (compare popularity unisrec; controls and other splits apart). Data, split and protocol must be the
same, and the examples too: each user's target and number of candidates, or the impression; otherwise the differences
are listed. The table has, per metric, both means, B − A, its 95 % t interval, the two-sided p that belongs to it, and
the number of examples on which B is better, equal or worse (for errors lower is better). Ratings are compared by
squared (mse) and absolute (mae) errors, texts by ROUGE, because RMSE and BLEU are not means over examples.

With one run each, interval and p cover variation over users, not over seeds: another training of the same method gives
other predictions and may reverse the result. No claim rests on one seed.

With --seeds, they cover both: users are paired, as both models are evaluated on the same ones, seeds are not, as seed 0
of one model has nothing in common with seed 0 of another: both may have other seeds, and other numbers of them. Few
seeds make wide intervals. A last column has the difference of each seed that both have, if there are several. A rule
that depends on no seed is compared with every seed of the others.

With --draws, the metrics of each user are averaged over all draws of sampled candidates (task.draw) for the same
weights. A run is named by any of its draws, and both must have the same ones. Candidates are drawn independently for
each user, so interval and p cover users as before.

--ratio prints B / A with its interval instead of B − A: "x % above" is a statement about a ratio.

Holm's correction covers all metrics and pairs in the table. Choose the deciding metric, and --margin, before you look
at the results. --margin tests equivalence: two runs are equivalent if the 90 % interval of their difference lies within
± the margin, which is two one-sided tests at 5 %; for a percentage, the interval of the ratio of the means. A large p
does not show equivalence.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.commands import command_parser
from llm4rec_cli.paths import default_outputs

if TYPE_CHECKING:
    from llm4rec_cli.evaluation.paired import Margin


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)

    from llm4rec_cli.results.results import named_results
    from llm4rec_cli.results.tables import json_text, markdown, show
    from llm4rec_studies.comparison import as_json, compare, table

    outputs = Path(options.outputs).expanduser()
    runs = named_results([options.a, *options.others], outputs)
    metrics = options.metric.split(",") if options.metric else None
    comparison = compare(
        runs, outputs, metrics, options.seeds, options.draws, options.targets, options.margin, options.ratio
    )
    content = table(comparison)
    if options.json:
        print(json_text(as_json(comparison), indent=2))
    elif options.markdown:
        print(markdown(content.columns, content.rows))
        print("\n" + "\n".join(f"- {note}" for note in [content.title, *content.notes]))
    else:
        show(content)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("compare", __doc__)
    parser.add_argument("a", metavar="RUN", help="A: a run folder, or an end of its path")
    parser.add_argument("others", metavar="RUN", nargs="+", help="B, C, …: each is compared with A")
    parser.add_argument("--seeds", action="store_true", help="compare over all seeds of these runs' variants")
    parser.add_argument("--draws", action="store_true", help="compare over all draws of candidates of these runs")
    parser.add_argument(
        "--targets", choices=("cold", "warm"), help="only examples with held-out targets, or only the others"
    )
    parser.add_argument("--metric", "--metrics", help="comma-separated names (default: hr@1, hr@5, hr@10, ndcg@10, …)")
    parser.add_argument(
        "--margin",
        type=_margin,
        metavar="X",
        help="largest difference that counts as equivalent: 0.005, or 5%% of A's mean",
    )
    parser.add_argument("--ratio", action="store_true", help="print B / A with its interval, in place of B − A")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object")
    output.add_argument("--markdown", action="store_true", help="a Markdown table")
    parser.add_argument("--outputs", default=default_outputs(), help="folder of the runs (default: %(default)s)")
    return parser


def _margin(text: str) -> Margin:
    from llm4rec_cli.evaluation.paired import Margin

    try:
        return Margin.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"cannot read the margin '{text}'; write 0.005, or 5% for 5 % of A's mean"
        ) from None
