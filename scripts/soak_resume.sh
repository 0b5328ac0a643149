#!/usr/bin/env bash
# N times: starts a training run in an empty folder, kills it at random, repeats the command, and compares the result with an
# uninterrupted run: weights, metrics, predictions and log must be equal. About half a minute per kill.
#   bash scripts/soak_resume.sh 50
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh ""
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
exec .venv/bin/python scripts/soak_resume.py "$@"
