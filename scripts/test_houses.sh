#!/usr/bin/env bash
# Studies and zoo are additions: in a copy of the checkout without one of them, the fast tests of the core and of the other
# pass. Three minutes.
#   bash scripts/test_houses.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh "[dev]"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
libraries=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for house in studies zoo; do
  echo "== without llm4rec_$house"
  copy=$work/without_$house
  mkdir -p "$copy"
  git ls-files -co --exclude-standard -z | xargs -0 tar cf - | tar xf - -C "$copy"
  rm -r "$copy/llm4rec_$house" "$copy/tests/$house"
  # The libraries of .venv, without its link to this checkout.
  .venv/bin/python -m venv --without-pip "$copy/.venv"
  printf '%s\n' "$copy" "$libraries" > "$(echo "$copy"/.venv/lib/python3*/site-packages)/test.pth"
  # Tests of the whole checkout are left out.
  (cd "$copy" && .venv/bin/python -m pytest -n "${WORKERS:-2}" --dist loadfile --no-loadscope-reorder -m "not slow" \
    --ignore tests/docs --ignore tests/scripts --ignore tests/soak --ignore tests/test_configs.py --ignore tests/test_workflows.py "$@")
done
