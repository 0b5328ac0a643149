#!/usr/bin/env bash
# P5's comparisons with floors and baselines, then the report. Run it again: what is done is skipped.
#   scripts/reproduce_p5.sh --small                                   one seed on the demo: some ten minutes on two CPU cores
#   scripts/reproduce_p5.sh --demo                                    three seeds, and prompts that training did not have
#   scripts/reproduce_p5.sh --ablations                               whole words, item indexings, single tasks, transfer
#   scripts/reproduce_p5.sh FOLDER_OF_BEAUTY FOLDER_OF_INSTRUMENTS    real data (amazon2014-beauty, -musical-instruments)
#   scripts/reproduce_p5.sh --full FOLDER [override …]                the paper's setting: t5-small on Beauty's reviews; a GPU, the hub
set -euo pipefail
usage="usage: scripts/reproduce_p5.sh --small | --demo | --ablations | FOLDER_OF_BEAUTY FOLDER_OF_INSTRUMENTS | --full FOLDER"
mode=${1:?$usage}
seeds=seed=0,1,2
rankings=task=sequential,direct
of_ratings=rmse,mae,like_accuracy,said/rmse,said/coverage
of_texts=rouge1,rougeL,bleu2,bleu4,feature_match,unique_sentences
metrics=hr@5,ndcg@5,hr@10,ndcg@10,$of_ratings,$of_texts

# One model of all tasks, and baselines of one task beside it.
small() {
  local outputs=outputs/p5_small
  llm4rec train +experiment=p5/demo trainer.epochs=6 paths.outputs=$outputs
  llm4rec train -m model=mf,mlp task=rating paths.outputs=$outputs
  llm4rec train -m model=next_id model.index=sequential,leaky_p5 paths.outputs=$outputs # what leaking numbers give away
  scripts/report.sh $outputs --metrics $metrics
}

# The paper's, leaks and all; then without the leaks, and by P5-base.
full() {
  local data=dataset.raw_dir=$1 outputs=paths.outputs=outputs/p5_full
  shift
  llm4rec train +experiment=p5/paper "$data" "$outputs" "$@"
  llm4rec train +experiment=p5/paper "$data" dataset.split=leave_one_out model.index=sequential model.whole_word=always \
    model.samples.negatives=known "$outputs" "$@"
  llm4rec train +experiment=p5/paper "$data" model.backbone=t5-base trainer.batch_size=64 "$outputs" "$@"
  scripts/report.sh outputs/p5_full --metrics $metrics
}

# The same with three seeds; then prompts that it was trained with, and the held-out ones.
# shellcheck disable=SC2086  # several overrides
demo() {
  local outputs=paths.outputs=outputs/p5_demo
  local as_trained="+experiment=p5/demo model.index=sequential model.whole_word=always" # not one of the ablations there
  llm4rec train -m +experiment=p5/demo $seeds $outputs
  llm4rec train -m model=mf,mlp task=rating $seeds $outputs
  llm4rec train -m model=sasrec $rankings $seeds $outputs
  llm4rec eval -m $as_trained task=rating model.ask.rating=1-6,1-10,4-2,4-4 $seeds $outputs
  llm4rec eval -m $as_trained task=sequential model.ask.sequential=2-3,2-13 $seeds $outputs
  llm4rec eval -m $as_trained task=direct model.ask.direct=5-1,5-4 $seeds $outputs
  llm4rec eval -m $as_trained task=explanation model.ask.explanation=3-1,3-9,3-12 $seeds $outputs
  scripts/report.sh outputs/p5_demo --metrics $metrics
}

# What --demo trained is the first of each list, and not trained again. Single tasks stand apart: their tables would not
# tell them from the others.
ablations() {
  local outputs=paths.outputs=outputs/p5_demo
  llm4rec train -m +experiment=p5/demo model.whole_word=always,training,never $seeds $outputs
  llm4rec train -m +experiment=p5/demo model.index=sequential,random,collaborative,semantic,leaky_p5 $seeds $outputs
  llm4rec train -m +experiment=p5/demo task=rating,sequential,direct,explanation,review_summary $seeds \
    paths.outputs=outputs/p5_single
  outputs=paths.outputs=outputs/p5_transfer
  llm4rec train -m +experiment=p5/transfer $seeds $outputs
  llm4rec eval -m +experiment=p5/transfer task=rating model.ask.rating=Z-1,Z-2,Z-3,Z-4 $seeds $outputs
  llm4rec eval -m +experiment=p5/transfer task=explanation model.ask.explanation=Z-5,Z-6,Z-7 $seeds $outputs
  for outputs in outputs/p5_demo outputs/p5_single outputs/p5_transfer; do scripts/report.sh $outputs --metrics $metrics; done
}

# Beauty: three ways to number items, and SASRec. Instruments: this house's division and P5's, with rating baselines.
real() {
  local beauty=dataset.raw_dir=$1 instruments=dataset.raw_dir=$2 outputs=paths.outputs=outputs/p5
  local divided=dataset.split=leave_one_out,p5_reviews
  llm4rec train -m +experiment=p5/beauty,p5/beauty_random,p5/beauty_leaky "$beauty" $seeds $outputs
  llm4rec train -m +experiment=unisrec/beauty_sasrec "$beauty" $seeds $outputs
  llm4rec train -m +experiment=p5/instruments "$instruments" $divided $seeds $outputs
  llm4rec train -m model=mf,mlp task=rating dataset=amazon2014-musical-instruments "$instruments" $divided $seeds $outputs
  llm4rec train -m model=next_id model.index=sequential,leaky_p5 dataset=amazon2014-beauty "$beauty" task.mask_history=true $outputs
  scripts/report.sh outputs/p5 --metrics $metrics
}

case $mode in
  --full) folder=$(realpath "${2:?$usage}") ;; # before the folder changes
  --*) ;;
  *) beauty=$(realpath "$mode") instruments=$(realpath "${2:?$usage}") ;;
esac
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
case $mode in
  --small) small ;;
  --demo) demo ;;
  --full) full "$folder" "${@:3}" ;;
  --ablations) ablations ;;
  --*) echo "$usage" >&2 && exit 2 ;;
  *) real "$beauty" "$instruments" ;;
esac
