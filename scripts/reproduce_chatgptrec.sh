#!/usr/bin/env bash
# What the paper concludes, asked of a chat model, beside floors and a trained recommender; then the report. Run it again:
# what is done is skipped, and no answer is asked for twice.
#   scripts/reproduce_chatgptrec.sh --small                 the demo, the packaged model, offline: some five minutes
#   scripts/reproduce_chatgptrec.sh FOLDER [override …]     real data under FOLDER (ml-100k, amazon2014-beauty, xrec-amazon,
#                                                           amazon2014-musical-instruments), 200 users a row, and 1,000
#                                                           by likelihood and PMI; without a GPU half a day
#   OPENAI_API_KEY=… scripts/reproduce_chatgptrec.sh --full FOLDER llm.model=gpt-4o-mini-2024-07-18 llm.budget_tokens=1_000_000
#                                                           the same by an endpoint, as the paper, whose gpt-3.5-turbo is gone
# A budget is each run's own. An endpoint tells no likelihoods, so those rows are left out there.
set -euo pipefail
usage="usage: scripts/reproduce_chatgptrec.sh --small | FOLDER [override …] | --full FOLDER [override …]"
mode=${1:?$usage}
shift
case $mode in # before the folder changes
  --small) ;;
  --full)
    folder=$(realpath "${1:?$usage}")
    shift
    ;;
  --*) echo "$usage" >&2 && exit 2 ;;
  *) folder=$(realpath "$mode") ;;
esac
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
metrics=rmse,mae,said/rmse,said/coverage,hr@5,ndcg@5,hr@10,ndcg@10,valid/hr@10,bleu4,rouge1,rougeL
metrics+=,answers/ok,answers/repaired,answers/invalid,listed/hallucinated,listed/duplicate
metrics+=,title_similarity@10,title_similarity_of_target

small() {
  local outputs=paths.outputs=outputs/chatgptrec_demo task demo=+experiment=chatgptrec/demo
  llm4rec train -m $demo task=rating prompt.shots=0,3 "$@" $outputs                       # fair with few shots?
  llm4rec train -m $demo task=rating prompt.shots=3 dataset.control=swap_users "$@" $outputs # somebody else's history
  llm4rec train -m $demo task=rating prompt.shots=3 model.answer=likelihood "$@" $outputs
  llm4rec train -m $demo task=direct task.max_examples=20 model.answer=generate,likelihood,pmi "$@" $outputs
  llm4rec train -m $demo task=sequential task.max_examples=20 "$@" $outputs               # hallucinated titles?
  llm4rec train -m $demo task=explanation,review_summary prompt.shots=0,2 "$@" $outputs   # poor on n-grams?
  llm4rec train -m model=mf,mlp task=rating $outputs # chosen on all of validation, then asked about the same users
  llm4rec eval -m model=mf,mlp task=rating task.max_examples=50 $outputs
  llm4rec train model=sasrec task=direct $outputs
  llm4rec eval model=sasrec task=direct task.max_examples=20 $outputs
  scripts/report.sh outputs/chatgptrec_demo --metrics "$metrics"
}

# A row each; floors stand beside all of them. Rankings by likelihood are judged among 1 + 99 candidates.
real() {
  local data=$1 outputs=paths.outputs=outputs/chatgptrec
  shift
  local films=(+experiment=chatgptrec/ml-100k dataset.raw_dir="$data/ml-100k")
  local beauty=(+experiment=chatgptrec/beauty dataset.raw_dir="$data/amazon2014-beauty")
  local books=(+experiment=chatgptrec/xrec dataset.raw_dir="$data/xrec-amazon")
  local instruments=(+experiment=chatgptrec/instruments dataset.raw_dir="$data/amazon2014-musical-instruments")
  llm4rec train -m "${films[@]}" task=rating prompt.shots=0,3 "$@" $outputs
  llm4rec train -m "${films[@]}" task=rating prompt.shots=3 dataset.control=swap_users "$@" $outputs
  llm4rec train model=mf task=rating dataset=ml-100k dataset.raw_dir="$data/ml-100k" $outputs
  llm4rec eval model=mf task=rating dataset=ml-100k dataset.raw_dir="$data/ml-100k" task.max_examples=200 $outputs
  for set in films beauty; do
    local -n chosen=$set
    llm4rec train -m "${chosen[@]}" task=direct prompt.shots=0,1 "$@" $outputs
    llm4rec train -m "${chosen[@]}" task=direct dataset.control=swap_users "$@" $outputs
    llm4rec train -m "${chosen[@]}" task=sequential prompt.shots=0,1 "$@" $outputs
    if [[ " $* " != *" llm=openai "* ]]; then
      for asked in "task=direct" "task=sequential task.candidates=uniform"; do
        llm4rec train -m "${chosen[@]}" $asked model.answer=likelihood,pmi prompt.shots=0,1 "$@" $outputs
        llm4rec train -m "${chosen[@]}" $asked model.answer=likelihood,pmi task.max_examples=1000 "$@" $outputs
      done
      llm4rec train "${chosen[@]}" task=direct model.answer=pmi dataset.control=swap_users "$@" $outputs
    fi
  done
  llm4rec train -m "${books[@]}" prompt.shots=0,2 "$@" $outputs
  llm4rec train -m "${instruments[@]}" prompt.shots=0,3 "$@" $outputs
  for dataset in ml-100k amazon2014-beauty; do
    llm4rec train model=sasrec dataset=$dataset dataset.raw_dir="$data/$dataset" $outputs
    for asked in task=direct task=sequential "task=sequential task.candidates=uniform"; do
      llm4rec eval -m model=sasrec dataset=$dataset dataset.raw_dir="$data/$dataset" $asked task.max_examples=200,1000 $outputs
    done
  done
  scripts/report.sh outputs/chatgptrec --metrics "$metrics"
}

case $mode in
  --small) small "$@" ;;
  --full) real "$folder" llm=openai "$@" ;;
  *) real "$folder" "$@" ;;
esac
