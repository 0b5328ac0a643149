#!/usr/bin/env bash
# All checks: makes .venv, installs the project, then lint, spelling, types and tests.
#   bash scripts/test.sh [arguments for pytest, e.g. -k ranking]     WORKERS=0 runs the tests in one process
#   bash scripts/test.sh --fast [arguments]                          while editing: leaves out the tests marked slow
#   bash scripts/test.sh core|studies|zoo [--fast] [arguments]       only the tests of one package
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh "[dev]"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
unset PYTHONDONTWRITEBYTECODE # cached bytecode of the tests saves five seconds per worker
case "${1:-}" in
  core) shift; set -- "$@" tests --ignore tests/studies --ignore tests/zoo ;;
  studies|zoo) house=$1; shift; set -- "$@" "tests/$house" ;;
esac
if [ "${1:-}" = --fast ]; then
  shift
  set -- -m "not slow" "$@"
fi
echo "== ruff: lint and format"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== codespell"
.venv/bin/codespell llm4rec_cli llm4rec_studies llm4rec_zoo conf scripts tests docs README.md CONTRIBUTING.md .github mkdocs.yml
echo "== mypy"
.venv/bin/mypy
echo "== pytest"
.venv/bin/python -m pytest -n "${WORKERS:-2}" --dist loadfile --no-loadscope-reorder "$@"
