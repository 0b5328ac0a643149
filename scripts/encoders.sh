#!/usr/bin/env bash
# What the encoder of item texts adds: unisrec and sasrec with every encoder at hand and with random vectors, history masked.
#   scripts/encoders.sh DATASET FOLDER_OF_THE_RAW_FILES [override …]
#   scripts/encoders.sh amazon2018-scientific PATH
#   scripts/encoders.sh ml-100k PATH
#   SEEDS=0 SASREC=adapted UNISREC= scripts/encoders.sh amazon2014-beauty PATH
#   ENCODERS="minilm smollm2" SASREC=adapted scripts/encoders.sh amazon2018-scientific PATH dataset.control=shuffle_text
# ENCODERS: names as of model.encoder.name; +last = the last token, +instruction = the last token after an instruction.
# SASREC and UNISREC: values of model.vectors and model.encoder.whiten; empty = not this model. EXPERIMENTS: whose settings.
# Finished runs are skipped when it is run again. Vectors are whitened for sasrec, and for unisrec, on text alone, with and without.
source "$(dirname "$0")/reproduce_common.sh"
if [ -z "${2:-}" ]; then usage; fi
dataset=$1
raw=$(realpath "$2")
shift 2
settings=("dataset=$dataset" "dataset.raw_dir=$raw" task.mask_history=true trainer.epochs=100 trainer.patience=5
  "seed=${SEEDS:-0,1,2}" "$@")
from=${EXPERIMENTS:-scientific}
if [ -n "${SASREC=learned,initial,frozen,adapted}" ] && [[ $SASREC == *learned* ]]; then
  llm4rec train -m +experiment="$from/sasrec" "${settings[@]}"
  SASREC=${SASREC//learned,/}
fi
for name in ${ENCODERS:-random tfidf minilm smollm2 smollm2+last smollm2+instruction}; do
  encoder=("model.encoder.name=${name%%+*}" model.encoder.dimension=256)
  case $name in
    *+last) encoder+=(model.encoder.pooling=last) ;;
    *+instruction)
      encoder+=(model.encoder.pooling=last "model.encoder.instruction='This item: {text} In one word, it is for'")
      ;;
  esac
  if [ -n "$SASREC" ] && [ "$SASREC" != learned ]; then
    llm4rec train -m +experiment="$from/sasrec" "${settings[@]}" "${encoder[@]}" model.encoder.whiten=true model.vectors="$SASREC"
  fi
  if [ -n "${UNISREC=true,false}" ]; then
    llm4rec train -m +experiment="$from/unisrec" "${settings[@]}" "${encoder[@]}" model.encoder.whiten="$UNISREC" model.use_ids=false
  fi
done
llm4rec report dataset="$dataset"
