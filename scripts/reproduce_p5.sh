#!/usr/bin/env bash
# P5's comparisons with floors and baselines, then the report. Finished runs are skipped when it is run again.
#   scripts/reproduce_p5.sh --small                                   one seed on the demo: about ten minutes on two CPU cores
#   scripts/reproduce_p5.sh --demo                                    three seeds, and prompts held out from training
#   scripts/reproduce_p5.sh --ablations                               whole words, item indexings, single tasks, transfer
#   scripts/reproduce_p5.sh FOLDER_OF_BEAUTY FOLDER_OF_INSTRUMENTS    real data (amazon2014-beauty, -musical-instruments)
#   scripts/reproduce_p5.sh --full FOLDER [override …]                the paper's setting: t5-small on Beauty's reviews; needs
#                                                                     a GPU and the Hugging Face hub
source "$(dirname "$0")/reproduce_common.sh"
seeds=seed=0,1,2
metrics=hr@5,ndcg@5,hr@10,ndcg@10
metrics+=,rmse,mae,like_accuracy,said/rmse,said/coverage             # of ratings
metrics+=,rouge1,rougeL,bleu2,bleu4,feature_match,unique_sentences   # of texts

# One model for all tasks, and baselines for one task each.
small() {
  local outputs=outputs/p5_small
  llm4rec train +experiment=p5/demo trainer.epochs=6 paths.outputs=$outputs
  llm4rec train -m model=mf,mlp task=rating paths.outputs=$outputs
  llm4rec train -m model=next_id model.index=sequential,leaky_p5 paths.outputs=$outputs # how much leaky item numbers reveal
  report $outputs --metrics $metrics
}

# The paper's setting with its leaks; then without them, and with P5-base.
full() {
  local data=dataset.raw_dir=$1 outputs=paths.outputs=outputs/p5_full
  shift
  llm4rec train +experiment=p5/paper "$data" "$outputs" "$@"
  llm4rec train +experiment=p5/paper "$data" dataset.split=leave_one_out model.index=sequential model.whole_word=always \
    model.samples.negatives=known "$outputs" "$@"
  llm4rec train +experiment=p5/paper "$data" model.backbone=t5-base trainer.batch_size=64 "$outputs" "$@"
  report outputs/p5_full --metrics $metrics
}

# The same with three seeds; then evaluated with training prompts and with held-out ones.
# shellcheck disable=SC2086  # several overrides
demo() {
  local outputs=paths.outputs=outputs/p5_demo
  local trained="+experiment=p5/demo model.index=sequential model.whole_word=always" # --ablations writes here too
  llm4rec train -m +experiment=p5/demo $seeds $outputs
  llm4rec train -m model=mf,mlp task=rating $seeds $outputs
  llm4rec train -m model=sasrec task=sequential,direct $seeds $outputs
  llm4rec eval -m $trained task=rating model.ask.rating=1-6,1-10,4-2,4-4 $seeds $outputs
  llm4rec eval -m $trained task=sequential model.ask.sequential=2-3,2-13 $seeds $outputs
  llm4rec eval -m $trained task=direct model.ask.direct=5-1,5-4 $seeds $outputs
  llm4rec eval -m $trained task=explanation model.ask.explanation=3-1,3-9,3-12 $seeds $outputs
  report outputs/p5_demo --metrics $metrics
}

# The first value of each list was trained by --demo and is skipped. Single-task models have a folder of their own, because
# a table would not distinguish them from the multi-task ones.
ablations() {
  local outputs=paths.outputs=outputs/p5_demo
  llm4rec train -m +experiment=p5/demo model.whole_word=always,training,never $seeds $outputs
  llm4rec train -m +experiment=p5/demo model.index=sequential,random,collaborative,semantic,leaky_p5 $seeds $outputs
  llm4rec train -m +experiment=p5/demo task=rating,sequential,direct,explanation,review_summary $seeds \
    paths.outputs=outputs/p5_single
  outputs=paths.outputs=outputs/p5_transfer
  llm4rec train -m +experiment=p5/demo_transfer $seeds $outputs
  llm4rec eval -m +experiment=p5/demo_transfer task=rating model.ask.rating=Z-1,Z-2,Z-3,Z-4 $seeds $outputs
  llm4rec eval -m +experiment=p5/demo_transfer task=explanation model.ask.explanation=Z-5,Z-6,Z-7 $seeds $outputs
  for outputs in outputs/p5_demo outputs/p5_single outputs/p5_transfer; do report $outputs --metrics $metrics; done
}

# Beauty: three item indexings, and SASRec. Instruments: leave-one-out and P5's split, with rating baselines.
real() {
  local beauty=dataset.raw_dir=$1 instruments=dataset.raw_dir=$2 outputs=paths.outputs=outputs/p5
  local splits=dataset.split=leave_one_out,p5_reviews
  llm4rec train -m +experiment=p5/beauty,p5/beauty_random,p5/beauty_leaky "$beauty" $seeds $outputs
  llm4rec train -m +experiment=unisrec/beauty_sasrec "$beauty" $seeds $outputs
  llm4rec train -m +experiment=p5/instruments "$instruments" $splits $seeds $outputs
  llm4rec train -m model=mf,mlp task=rating dataset=amazon2014-musical-instruments "$instruments" $splits $seeds $outputs
  llm4rec train -m model=next_id model.index=sequential,leaky_p5 dataset=amazon2014-beauty "$beauty" task.mask_history=true $outputs
  report outputs/p5 --metrics $metrics
}

case $mode in
  --small) small ;;
  --demo) demo ;;
  --full) folder=$(absolute "${2:-}"); full "$folder" "${@:3}" ;;
  --ablations) ablations ;;
  --*) usage ;;
  *) beauty=$(absolute "$mode"); instruments=$(absolute "${2:-}"); real "$beauty" "$instruments" ;;
esac
