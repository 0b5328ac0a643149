#!/usr/bin/env bash
# Tunes on Scientific's validation split, the same four trials for each model; the test split is not used. Finished trials
# are skipped when it is run again. The best trials are the values in conf/experiment/unisrec/.
#   scripts/tune_scientific.sh FOLDER_OF_THE_RAW_FILES [MODEL …]
source "$(dirname "$0")/reproduce_common.sh"
raw=$(absolute "$1")
shift
models=("$@")
if [ ${#models[@]} -eq 0 ]; then models=(unisrec "unisrec model.use_ids=true" sasrec); fi
for model in "${models[@]}"; do
  # shellcheck disable=SC2086  # a model may carry overrides
  llm4rec train -m model=$model dataset=amazon2018-scientific dataset.raw_dir="$raw" split=valid trainer.patience=5 \
    trainer.learning_rate=1e-3,2e-3 model.dropout=0.3,0.5 paths.outputs=outputs/tuning
done
llm4rec report --outputs outputs/tuning --metrics ndcg@10,recall@10
