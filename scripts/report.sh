#!/usr/bin/env bash
# What the reproduce_*.sh end with: the table, the page, and what the claims say of these runs.
#   scripts/report.sh OUTPUTS [argument of llm4rec report …]
set -euo pipefail
outputs=${1:?usage: scripts/report.sh OUTPUTS [argument of llm4rec report …]}
shift
PATH=$(dirname "$(realpath "$0")")/../.venv/bin:$PATH
llm4rec report --outputs "$outputs" "$@"
llm4rec report --outputs "$outputs" --html "$outputs/report.html"
llm4rec report --outputs "$outputs" --claims
