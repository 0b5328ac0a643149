#!/usr/bin/env bash
# From a clone to a metrics table: makes .venv, installs the project, trains UniSRec on the built-in demo data.
#   bash scripts/quickstart.sh
# Works a second time: what is installed stays, and the finished run is shown again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(cat .venv/.llm4rec 2>/dev/null)" = "$(sha256sum pyproject.toml | cut -d' ' -f1) [dev]" ] && extras="[dev]" || extras=""
source scripts/venv.sh "$extras"
echo "== llm4rec train model=unisrec: demo data is written, not downloaded; about a minute on two cores"
.venv/bin/llm4rec train model=unisrec
echo "== next: source .venv/bin/activate; llm4rec --help; llm4rec list"
