#!/usr/bin/env bash
# Prompt4NR's templates, each alone and as ensembles, beside floors; then the report. Run it again: what is done is skipped.
#   scripts/reproduce_prompt4nr.sh --small                     the demo's click log, three templates, ensembles: eleven minutes
#   scripts/reproduce_prompt4nr.sh --ablations                 on the demo: loss, warm-up, virtual tokens alone, controls, shops
#   scripts/reproduce_prompt4nr.sh --part FOLDER               a part of MIND-small, three templates, on two CPU cores
#   scripts/reproduce_prompt4nr.sh --full [override …]         MIND-small with bert-base-uncased, all twelve; a GPU, the hub
set -euo pipefail
usage="usage: scripts/reproduce_prompt4nr.sh --small | --ablations | --part FOLDER | --full [override …]"
mode=${1:?$usage}
views="relevance emotion action utility"
metrics=auc,mrr,ndcg@5,ndcg@10

# The folder of the run of a template with a seed.
#   run OUTPUTS DATASET TEMPLATE SEED
run() {
  grep -l "\"shown_as\": \"prompt4nr $3\"" "$1"/prompt4nr/"$2"/direct/seed"$4"-*/metrics.json |
    xargs grep -l '"trained_run": null' | head -n 1 | xargs dirname
}

# Ensembles of the runs of several templates, of each seed.
#   ensembles OUTPUTS DATASET "SEED …" "COMBINE …" TEMPLATE…
ensembles() {
  local outputs=$1 dataset=$2 seeds=$3 ways=$4 seed template combine
  shift 4
  for seed in $seeds; do
    local members=()
    for template in "$@"; do members+=("$(run "$outputs" "$dataset" "$template" "$seed")"); done
    for combine in $ways; do
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
  scripts/report.sh $outputs --metrics $metrics
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
  scripts/report.sh outputs/prompt4nr_ablations --metrics $metrics
}

# A part of MIND-small on a CPU.
part() {
  local outputs=outputs/prompt4nr_part templates=(discrete_utility continuous_utility hybrid_utility)
  for template in "${templates[@]}"; do
    llm4rec train +experiment=prompt4nr/mind-small-5k dataset.raw_dir="$1" prompt=prompt4nr/"$template" paths.outputs=$outputs
  done
  ensembles $outputs mind-small-5k 0 "sum rank weights" "${templates[@]}"
  scripts/report.sh $outputs --metrics $metrics
}

# The paper's: twelve templates; an ensemble of each type, and one of the best template of each type.
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
  scripts/report.sh $outputs --metrics $metrics
}

case $mode in
  --part) folder=$(realpath "${2:?$usage}") ;; # before the folder changes
  --*) ;;
  *) echo "$usage" >&2 && exit 2 ;;
esac
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
case $mode in
  --small) small ;;
  --ablations) ablations ;;
  --part) part "$folder" ;;
  --full) full "${@:2}" ;;
  *) echo "$usage" >&2 && exit 2 ;;
esac
