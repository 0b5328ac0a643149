#!/usr/bin/env bash
# UniSRec's comparisons with floors and controls, then the report. Finished runs are skipped when it is run again.
#   scripts/reproduce_unisrec.sh --small                                   one seed on the demo: six minutes on two CPU cores
#   scripts/reproduce_unisrec.sh --demo                                    three seeds, all comparisons: about three hours
#   scripts/reproduce_unisrec.sh --ablations                               the effect of each part of pre-training, on the demo
#   scripts/reproduce_unisrec.sh FOLDER_OF_SCIENTIFIC FOLDER_OF_BEAUTY     real data, MiniLM: about eight hours
#   scripts/reproduce_unisrec.sh --full [override …]                       the paper's setting: BERT, five domains; needs a GPU
#                                                                          and the Hugging Face hub
source "$(dirname "$0")/reproduce_common.sh"
seeds=seed=0,1,2
frozen=model.freeze=none,encoder
cold_text="model.text_weights=[4]"             # the floor would select it on validation, where no item is cold
steps="trainer.epochs=200 trainer.patience=20"  # few users mean few steps per epoch

# Pre-trained or from scratch × frozen or full, also with ids, cold items and few users; each with its controls.
#   comparisons OUTPUTS PRETRAINED CONTROLS ARGUMENT…      CONTROLS: one override per word; ARGUMENT: shared by all runs
comparisons() {
  local outputs=paths.outputs=$1 pretrained=$2 controls=$3 init_from control
  shift 3
  for init_from in null "$pretrained"; do
    llm4rec train -m "$@" model.init_from="$init_from" $frozen model.use_ids=true $seeds "$outputs"
    for control in dataset.control=none $controls; do
      llm4rec train -m "$@" "$control" model.init_from="$init_from" $frozen $seeds "$outputs"
      llm4rec train -m "$@" "$control" model.init_from="$init_from" $frozen $seeds "$outputs" dataset.cold_items=0.1
      # shellcheck disable=SC2086  # several overrides
      llm4rec train -m "$@" "$control" model.init_from="$init_from" $frozen $seeds "$outputs" dataset.train_users=0.01,0.1 $steps
    done
  done
}

small() {
  local outputs=outputs/unisrec_small
  llm4rec train +experiment=unisrec/pretrain paths.outputs=$outputs
  llm4rec train -m model=unisrec model.init_from=null,$outputs/unisrec/demo_pretrain/pretrain paths.outputs=$outputs
  llm4rec train model=sasrec paths.outputs=$outputs
  llm4rec train model=sasrec model.tokens=true dataset.text=attributes paths.outputs=$outputs # brand and categories as features
  llm4rec train model=unisrec dataset.text=title paths.outputs=$outputs                       # text without them
  report $outputs
}

# The paper's setting: pre-trained on five domains, fine-tuned on five others, text only and with ids.
full() {
  local outputs=paths.outputs=outputs/unisrec_full targets=scientific,pantry,instruments,arts,office
  llm4rec train +experiment=unisrec/pretrain_paper "$outputs" "$@"
  llm4rec train -m +experiment=unisrec/paper dataset="$(sed 's/\([a-z]*\)/amazon2018-\1/g' <<<$targets)" \
    model.use_ids=false,true model.init_from=outputs/unisrec_full/unisrec/amazon2018-fhckm/pretrain "$outputs" "$@"
  report outputs/unisrec_full
}

demo() {
  llm4rec train -m +experiment=unisrec/pretrain $seeds paths.outputs=outputs/small
  comparisons outputs/small outputs/small/unisrec/demo_pretrain/pretrain "dataset.control=shuffle_text dataset=demo_null"
  llm4rec train -m model=sasrec dataset.cold_items=0,0.1 $seeds paths.outputs=outputs/small
  llm4rec train model=transition_text "$cold_text" dataset.cold_items=0.1 paths.outputs=outputs/small
  report outputs/small --metrics ndcg@10,recall@10,cold/ndcg@10,warm/ndcg@10
}

ablations() {
  local parts=(pretrain:transfer pretrain_no_sequence_loss:transfer pretrain_one_domain:transfer)
  parts+=(pretrain_linear:transfer_linear pretrain_one_expert:transfer_one_expert pretrain:transfer_ids)
  for part in "${parts[@]}"; do
    local name=${part%:*} tuned=${part#*:}
    local outputs=outputs/ablations/$name # one each, as model.init_from takes a folder with one run per seed
    llm4rec train -m +experiment=unisrec/"$name" $seeds paths.outputs="$outputs"
    llm4rec train -m +experiment=unisrec/"$tuned" $frozen $seeds paths.outputs="$outputs" \
      model.init_from="$(echo "$outputs"/unisrec/*/pretrain)"
  done
  llm4rec train -m +experiment=unisrec/ids_only $seeds paths.outputs=outputs/ablations/ids_only
  for outputs in outputs/ablations/*; do llm4rec report --outputs "$outputs" --metrics ndcg@10,recall@10; done
}

real() {
  local scientific=dataset.raw_dir=$1 beauty=dataset.raw_dir=$2
  for experiment in scientific scientific_ids scientific_sasrec scientific_linear; do
    llm4rec train -m +experiment=unisrec/$experiment "$scientific" $seeds
  done
  llm4rec train -m model=bpr_mf dataset=amazon2018-scientific "$scientific" $seeds
  llm4rec train -m +experiment=unisrec/beauty_sasrec "$beauty" $seeds
  llm4rec train -m +experiment=unisrec/beauty_unisrec "$beauty" $seeds
  llm4rec train -m +experiment=unisrec/beauty_pretrain "$beauty" $seeds
  comparisons outputs outputs/unisrec/amazon2014-beauty/pretrain dataset.control=shuffle_text \
    +experiment=unisrec/scientific_transfer "$scientific"
  llm4rec train model=transition_text "$cold_text" dataset=amazon2018-scientific "$scientific" dataset.cold_items=0.1
  report outputs --metrics recall@10,ndcg@10,recall@50,ndcg@50,cold/ndcg@10
}

case $mode in
  --small) small ;;
  --demo) demo ;;
  --full) full "${@:2}" ;;
  --ablations) ablations ;;
  --*) usage ;;
  *) scientific=$(absolute "$mode"); beauty=$(absolute "${2:-}"); real "$scientific" "$beauty" ;;
esac
