"""`llm4rec report claims`: claims of papers and of the field, judged by all finished runs.

llm4rec report claims
llm4rec report claims --markdown > claims.md
llm4rec report claims --outputs ~/outputs --wide
"""

from __future__ import annotations

from llm4rec_cli.commands import FORMS, command_parser
from llm4rec_cli.paths import default_outputs
from llm4rec_cli.run.catalog import outputs_folder


def main(argv: list[str]) -> int:
    parser = command_parser("report claims", __doc__)
    output = parser.add_mutually_exclusive_group()
    for form, help_line in FORMS.items():
        output.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=help_line)
    parser.add_argument("--outputs", help=f"folder of the runs (default: {default_outputs()})")
    options = parser.parse_args(argv)

    from llm4rec_cli.results.tables import is_wide, print_tables, say
    from llm4rec_studies.claims.render import claims_content, claims_text, commands_to_run
    from llm4rec_studies.claims.verdict import judge_claims

    results = judge_claims(outputs_folder(options.outputs))
    if options.form or is_wide():
        print_tables([claims_content(results)], options.form)
    else:
        say(*claims_text(results))
    if not options.form and (commands := commands_to_run(results)):
        print("\nto run", *commands, sep="\n")
    return 0
