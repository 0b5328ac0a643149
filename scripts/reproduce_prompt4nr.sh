#!/usr/bin/env bash
# Prompt4NR's templates, single and as ensembles, with floors, then the report. Finished runs are skipped when it is run again.
#   scripts/reproduce_prompt4nr.sh --small                  the demo's click log, three templates, ensembles: eleven minutes
#   scripts/reproduce_prompt4nr.sh --ablations              on the demo: loss, warm-up, virtual tokens only, controls, shops
#   scripts/reproduce_prompt4nr.sh --part FOLDER            a part of MIND-small, three templates, on two CPU cores
#   scripts/reproduce_prompt4nr.sh --full [override …]      MIND-small with bert-base-uncased, all twelve templates; needs a
#                                                           GPU and the Hugging Face hub
source "$(dirname "$0")/reproduce_common.sh"
views="relevance emotion action utility"
metrics=auc,mrr,ndcg@5,ndcg@10

# Print the folder of the run with this template and seed.
#   run_folder OUTPUTS DATASET TEMPLATE SEED
run_folder() {
  grep -l "\"shown_as\": \"prompt4nr $3\"" "$1"/prompt4nr/"$2"/direct/seed"$4"-*/metrics.json |
    xargs grep -l '"trained_run": null' | head -n 1 | xargs dirname
}

# For each seed, combine the runs of several templates.
#   ensembles OUTPUTS DATASET "SEED …" "COMBINE …" TEMPLATE…
ensembles() {
  local outputs=$1 dataset=$2 seeds=$3 combines=$4 seed template combine member
  shift 4
  for seed in $seeds; do
    local members=()
    for template in "$@"; do members+=("$(run_folder "$outputs" "$dataset" "$template" "$seed")"); done
    for combine in $combines; do
      if [ "$combine" = weights ]; then
        for member in "${members[@]}"; do llm4rec eval run="$member" split=valid paths.outputs="$outputs"; done
      fi
      llm4rec ensemble run="[$(IFS=,; echo "${members[*]}")]" combine="$combine" --outputs "$outputs"
    done
  done
}

small() {
  local outputs=outputs/prompt4nr_demo templates=(discrete_utility continuous_utility hybrid_action)
  for template in "${templates[@]}"; do
    llm4rec train +experiment=prompt4nr/demo prompt=prompt4nr/"$template" model.titles=3 task.max_examples=300 \
      paths.outputs=$outputs
  done
  ensembles $outputs demo_news 0 "sum rank weights" "${templates[@]}"
  report $outputs --metrics $metrics
}

ablations() {
  local outputs=paths.outputs=outputs/prompt4nr_ablations demo="+experiment=prompt4nr/demo prompt=prompt4nr/continuous_utility"
  # shellcheck disable=SC2086  # several overrides
  {
    llm4rec train -m $demo model.loss=listwise,pointwise seed=0,1,2 $outputs
    llm4rec train -m $demo model.warm_up.epochs=0 seed=0,1,2 $outputs
    llm4rec train -m $demo model.prompt_only=true seed=0,1,2 $outputs
    llm4rec train -m $demo dataset.control=shuffle_text,swap_users seed=0,1,2 $outputs
  }
  llm4rec train -m model=prompt4nr dataset=demo task=direct model.titles=6 trainer.epochs=1 seed=0,1,2 $outputs
  report outputs/prompt4nr_ablations --metrics $metrics
}

# A part of MIND-small on a CPU.
part() {
  local outputs=outputs/prompt4nr_part templates=(discrete_utility continuous_utility hybrid_utility)
  for template in "${templates[@]}"; do
    llm4rec train +experiment=prompt4nr/mind-small-5k dataset.raw_dir="$1" prompt=prompt4nr/"$template" paths.outputs=$outputs
  done
  ensembles $outputs mind-small-5k 0 "sum rank weights" "${templates[@]}"
  report $outputs --metrics $metrics
}

# The paper's setting: twelve templates, an ensemble of each type, and an ensemble of the best template of each type.
full() {
  local outputs=outputs/prompt4nr_full kind view
  for kind in discrete continuous hybrid; do
    for view in $views; do
      llm4rec train -m +experiment=prompt4nr/paper prompt=prompt4nr/"${kind}_$view" seed=0,1,2 paths.outputs=$outputs "$@"
    done
    # shellcheck disable=SC2086  # four templates
    ensembles $outputs mind-small "0 1 2" "sum weights" $(printf "${kind}_%s " $views)
  done
  ensembles $outputs mind-small "0 1 2" "sum weights" discrete_utility continuous_utility hybrid_action
  report $outputs --metrics $metrics
}

case $mode in
  --small) small ;;
  --ablations) ablations ;;
  --part) folder=$(absolute "${2:-}"); part "$folder" ;;
  --full) full "${@:2}" ;;
  *) usage ;;
esac
