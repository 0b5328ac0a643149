#!/usr/bin/env bash
# Tests under other arithmetic than this machine's usual one: disturbed weights and text vectors (tests/support/perturb.py),
# two threads, and each set of kernels of other CPUs that can be selected on this one. No test may fail under any.
#   bash scripts/test_kernels.sh [arguments for pytest]          the tests marked numeric, at most 20 minutes
#   bash scripts/test_kernels.sh --all [arguments for pytest]    all tests, as many times as scripts/test.sh as there are settings
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh "[dev]"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
marked="-m numeric"
if [ "${1:-}" = --all ]; then
  marked=
  shift
fi
settings=("PERTURB=1e-6" "OMP_NUM_THREADS=2")
while read -r flag variables; do
  if [ "$flag" = any ] || grep -qw "$flag" /proc/cpuinfo 2>/dev/null; then settings+=("$variables"); fi
done < <(grep -v '^#' scripts/kernels.txt)
failed=()
for setting in "${settings[@]}"; do
  echo "== $setting"
  # shellcheck disable=SC2086
  env OMP_NUM_THREADS=1 $setting .venv/bin/python -m pytest -q $marked -n "${WORKERS:-2}" --dist loadfile \
    --no-loadscope-reorder "$@" || failed+=("$setting")
done
printf 'failed under: %s\n' "${failed[@]:-none}"
[ ${#failed[@]} -eq 0 ]
