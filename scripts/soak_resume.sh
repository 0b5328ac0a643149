#!/usr/bin/env bash
# Kills a training N times at random, each time from an empty folder, gives the same command again, and compares with a
# run that nobody disturbed: weights, metrics, predictions and log must be equal. About half a minute a kill.
#   bash scripts/soak_resume.sh 50
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(cat .venv/.llm4rec 2>/dev/null)" = "$(sha256sum pyproject.toml | cut -d' ' -f1) [dev]" ] && extras="[dev]" || extras=""
source scripts/venv.sh "$extras"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
exec .venv/bin/python scripts/soak_resume.py "$@"
