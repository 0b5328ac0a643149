#!/usr/bin/env bash
# From a clone to a table of metrics: makes .venv, installs the project, trains UniSRec on the built-in demo data.
#   bash scripts/quickstart.sh
# A second call installs nothing and shows the finished run.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh "[all]"
echo "== llm4rec train model=unisrec: demo data is written, not downloaded; about two minutes on two cores"
.venv/bin/llm4rec train model=unisrec
echo "== next: source .venv/bin/activate; llm4rec --help; llm4rec list"
