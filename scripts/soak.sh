#!/usr/bin/env bash
# Disturbs commands at random and compares what they leave with what undisturbed ones leave; see docs/develop/tests.md.
#   bash scripts/soak.sh --kills 100 --power-cuts 50 --damaged 2000 --together 50
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh "[dev]"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
exec .venv/bin/python -m tests.soak "$@"
