#!/usr/bin/env bash
# The numeric tests under every kernel that can be selected on this CPU, with one thread and with two: at most 20 minutes.
#   bash scripts/test_kernels.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh "[dev]"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
# The names that torch, oneDNN and MKL use; where a CPU lacks a feature, they fall back to the best one it has.
kernels=("" "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 MKL_CBWR=COMPATIBLE")
for flags in \
  "avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 MKL_CBWR=AVX2" \
  "avx512f ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE MKL_ENABLE_INSTRUCTIONS=AVX512 MKL_CBWR=AVX512" \
  "avx512_bf16 ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 MKL_CBWR=AUTO" \
  "amx_bf16 ONEDNN_MAX_CPU_ISA=AVX512_CORE_AMX MKL_CBWR=AUTO"; do
  if grep -qw "${flags%% *}" /proc/cpuinfo 2>/dev/null; then kernels+=("${flags#* }"); fi
done
failed=()
for kernel in "${kernels[@]}"; do
  for threads in 1 2; do
    echo "== ${kernel:-default kernels}, OMP_NUM_THREADS=$threads"
    workers=$((threads == 1 ? 2 : 0))
    # shellcheck disable=SC2086
    env $kernel OMP_NUM_THREADS=$threads .venv/bin/python -m pytest -q -m numeric -n $workers --dist loadfile "$@" ||
      failed+=("${kernel:-default kernels}, $threads threads")
  done
done
printf 'failed: %s\n' "${failed[@]:-none}"
[ ${#failed[@]} -eq 0 ]
