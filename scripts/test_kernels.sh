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
# The names that torch, oneDNN, MKL, OpenBLAS and NumPy use; where a CPU lacks a feature, they use the best one it has.
settings=(
  "PERTURB=1e-6"
  "OMP_NUM_THREADS=2"
  "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem NPY_DISABLE_CPU_FEATURES=X86_V3,X86_V4,AVX512_ICL,AVX512_SPR"
)
for flags in \
  "avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 MKL_CBWR=AVX2 OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES=X86_V4,AVX512_ICL,AVX512_SPR" \
  "avx512f ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE MKL_ENABLE_INSTRUCTIONS=AVX512 MKL_CBWR=AVX512 OPENBLAS_CORETYPE=SkylakeX" \
  "avx512_bf16 ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 MKL_CBWR=AUTO" \
  "amx_bf16 ONEDNN_MAX_CPU_ISA=AVX512_CORE_AMX MKL_CBWR=AUTO"; do
  if grep -qw "${flags%% *}" /proc/cpuinfo 2>/dev/null; then settings+=("${flags#* }"); fi
done
failed=()
for setting in "${settings[@]}"; do
  echo "== $setting"
  # shellcheck disable=SC2086
  env OMP_NUM_THREADS=1 $setting .venv/bin/python -m pytest -q $marked -n "${WORKERS:-2}" --dist loadfile \
    --no-loadscope-reorder "$@" || failed+=("$setting")
done
printf 'failed under: %s\n' "${failed[@]:-none}"
[ ${#failed[@]} -eq 0 ]
