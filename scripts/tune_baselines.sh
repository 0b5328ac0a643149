#!/usr/bin/env bash
# Baselines tuned with equal budgets on one dataset: pruned trials of each on validation, then three seeds of the chosen
# settings on test, and the same weights with the history masked. Finished trials and runs are skipped when it is run again.
#   scripts/tune_baselines.sh DATASET FOLDER_OF_THE_RAW_FILES ["MODEL [override …]" …]
#   scripts/tune_baselines.sh amazon2014-beauty PATH                              every baseline of the next item
#   TRIALS=4 MINUTES=20 scripts/tune_baselines.sh amazon2018-scientific PATH sasrec "sasrec model.loss=binary"
#   SETTINGS="trainer.batch_size=128 trainer.patience=10" scripts/tune_baselines.sh amazon2014-beauty PATH sasrec fdsa
# The chosen settings become experiments, conf/experiment/DATASET/NAME.yaml, which other datasets may take over:
#   llm4rec train +experiment=amazon2014-beauty/sasrec dataset=ml-100k dataset.raw_dir=PATH
extras="[tune]"
source "$(dirname "$0")/reproduce_common.sh"
dataset=$1
if [ -z "${2:-}" ]; then usage; fi
raw=$(realpath "$2")
shift 2
cd "$checkout" # whose conf/ and outputs/ are written
models=("$@")
if [ ${#models[@]} -eq 0 ]; then
  models=(gru4rec bert4rec fdsa sasrec "sasrec model.loss=binary" esasrec bsarec unisrec item_knn transition_text)
fi
for model in "${models[@]}"; do
  name=$(sed 's/[a-z_.]*=//g; s/ /_/g' <<<"$model")
  data=(dataset="$dataset" dataset.raw_dir="$raw")
  # shellcheck disable=SC2086  # a model may carry overrides, and SETTINGS holds several
  llm4rec tune model=$model "${data[@]}" ${SETTINGS:-} --trials "${TRIALS:-8}" --minutes "${MINUTES:-60}" \
    --name "$dataset-$name" --save "$dataset/$name"
  llm4rec train -m +experiment="$dataset/$name" dataset.raw_dir="$raw" task.stored_items=100 seed=0,1,2
  llm4rec eval -m +experiment="$dataset/$name" dataset.raw_dir="$raw" task.stored_items=100 seed=0,1,2 \
    task.mask_history=true
done
llm4rec report dataset="$dataset"
