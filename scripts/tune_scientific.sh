#!/usr/bin/env bash
# Tunes on Scientific's validation part: the same four trials for each model. The test part is not looked at.
#   scripts/tune_scientific.sh FOLDER_OF_THE_RAW_FILES [MODEL …]
# Run it again and finished trials are skipped. The winners stand in conf/experiment/unisrec/.
set -euo pipefail
raw=$(realpath "${1:?usage: scripts/tune_scientific.sh FOLDER_OF_THE_RAW_FILES [MODEL …]}")
shift
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
models=("$@")
if [ ${#models[@]} -eq 0 ]; then models=(unisrec "unisrec model.use_ids=true" sasrec); fi
for model in "${models[@]}"; do
  # shellcheck disable=SC2086  # a model may carry overrides
  llm4rec train -m model=$model dataset=amazon2018-scientific dataset.raw_dir="$raw" split=valid trainer.patience=5 \
    trainer.learning_rate=1e-3,2e-3 model.dropout=0.3,0.5 paths.outputs=outputs/tuning
done
llm4rec report --outputs outputs/tuning --metrics ndcg@10,recall@10
