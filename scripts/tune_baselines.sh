#!/usr/bin/env bash
# Baselines searched with equal budgets on one dataset, history masked throughout: eight candidates each on validation, all
# trained to their end, then three seeds of the best on test. Finished trials and runs are skipped when it is run again.
#   scripts/tune_baselines.sh DATASET FOLDER_OF_THE_RAW_FILES ["MODEL [override …]" …]
#   scripts/tune_baselines.sh amazon2014-beauty PATH                              every baseline of the next item
#   TRIALS=4 scripts/tune_baselines.sh amazon2018-scientific PATH sasrec "sasrec model.loss=binary"
#   START=amazon2014-beauty SUFFIX= scripts/tune_baselines.sh amazon2018-scientific PATH sasrec
#     candidate 1 has the settings of +experiment=amazon2014-beauty/sasrec (SUFFIX=_masked is the default)
# The chosen settings become experiments, conf/experiment/DATASET/NAME_masked.yaml, which other datasets may take over:
#   llm4rec train +experiment=amazon2014-beauty/sasrec_masked dataset=ml-100k dataset.raw_dir=PATH
extras="[studies]"
source "$(dirname "$0")/reproduce_common.sh"
dataset=$1
if [ -z "${2:-}" ]; then usage; fi
raw=$(realpath "$2")
shift 2
cd "$checkout" # whose conf/ and outputs/ are written
models=("$@")
if [ ${#models[@]} -eq 0 ]; then
  models=(gru4rec bert4rec fdsa sasrec "sasrec model.loss=binary" esasrec bsarec unisrec item_knn)
  models+=("transition_text model.text_weights=[1]") # one weight a candidate, as one setting
fi
for model in "${models[@]}"; do
  name=$(sed 's/ model.text_weights=[^ ]*//; s/[a-z_.]*=//g; s/ /_/g' <<<"$model")
  start=${START:+--start $START/$name${SUFFIX-_masked}}
  # shellcheck disable=SC2086  # a model may carry overrides, and SETTINGS holds several
  llm4rec tune model=$model dataset="$dataset" dataset.raw_dir="$raw" task.mask_history=true trainer.patience=10 \
    ${SETTINGS:-} --trials "${TRIALS:-8}" --unpruned $start --name "$dataset-$name" --save "$dataset/${name}_masked"
  llm4rec train -m +experiment="$dataset/${name}_masked" dataset.raw_dir="$raw" task.stored_items=100 seed=0,1,2
done
llm4rec report dataset="$dataset"
