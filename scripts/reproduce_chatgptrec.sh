#!/usr/bin/env bash
# The paper's comparisons with a chat model, with floors and a trained recommender, then the report. When it is run again,
# finished runs are skipped and stored answers are reused.
#   scripts/reproduce_chatgptrec.sh --small [override …]    the demo, the packaged model, offline: about five minutes
#   scripts/reproduce_chatgptrec.sh FOLDER [override …]     real data under FOLDER (ml-100k, amazon2014-beauty, xrec-amazon,
#                                                           amazon2014-musical-instruments), 200 users per run, and 1,000
#                                                           by likelihood and PMI; half a day without a GPU
#   OPENAI_API_KEY=… scripts/reproduce_chatgptrec.sh --full FOLDER llm.model=gpt-4o-mini-2024-07-18 llm.budget_tokens=1_000_000
#                                                           the same through an endpoint, as in the paper, whose
#                                                           gpt-3.5-turbo is no longer served
# Each run has a token budget of its own. Endpoints return no likelihoods, so --full leaves those runs out.
source "$(dirname "$0")/reproduce_common.sh"
metrics=rmse,mae,said/rmse,said/coverage,hr@5,ndcg@5,hr@10,ndcg@10,valid/hr@10,bleu4,rouge1,rougeL
metrics+=,answers/ok,answers/repaired,answers/invalid,listed/hallucinated,listed/duplicate
metrics+=,title_similarity@10,title_similarity_of_target

small() {
  local outputs=paths.outputs=outputs/chatgptrec_demo demo=+experiment=chatgptrec/demo
  llm4rec train -m $demo task=rating prompt.shots=0,3 "$@" $outputs                             # fair with few shots?
  llm4rec train -m $demo task=rating prompt.shots=3 dataset.control=swap_users "$@" $outputs    # another user's history
  llm4rec train -m $demo task=rating prompt.shots=3 model.answer=likelihood "$@" $outputs
  llm4rec train -m $demo task=direct task.max_examples=20 model.answer=generate,likelihood,pmi "$@" $outputs
  llm4rec train $demo task=direct task.max_examples=20 model.answer=constrained "$@" $outputs    # candidates alone
  llm4rec train -m $demo task=sequential task.max_examples=20 "$@" $outputs                     # hallucinated titles?
  llm4rec train -m $demo task=explanation,review_summary prompt.shots=0,2 "$@" $outputs         # poor on n-grams?
  llm4rec train -m model=mf,mlp task=rating $outputs # selected on all of validation, then evaluated on the same users
  llm4rec eval -m model=mf,mlp task=rating task.max_examples=50 $outputs
  llm4rec train model=sasrec task=direct $outputs
  llm4rec eval model=sasrec task=direct task.max_examples=20 $outputs
  report outputs/chatgptrec_demo --metrics "$metrics"
}

# Rankings by likelihood are evaluated among 1 + 99 candidates.
real() {
  local data=$1 outputs=paths.outputs=outputs/chatgptrec name task dataset
  shift
  local films=(+experiment=chatgptrec/ml-100k dataset.raw_dir="$data/ml-100k")
  local beauty=(+experiment=chatgptrec/beauty dataset.raw_dir="$data/amazon2014-beauty")
  local books=(+experiment=chatgptrec/xrec dataset.raw_dir="$data/xrec-amazon")
  local instruments=(+experiment=chatgptrec/instruments dataset.raw_dir="$data/amazon2014-musical-instruments")
  llm4rec train -m "${films[@]}" task=rating prompt.shots=0,3 "$@" $outputs
  llm4rec train -m "${films[@]}" task=rating prompt.shots=3 dataset.control=swap_users "$@" $outputs
  llm4rec train model=mf task=rating dataset=ml-100k dataset.raw_dir="$data/ml-100k" $outputs
  llm4rec eval model=mf task=rating dataset=ml-100k dataset.raw_dir="$data/ml-100k" task.max_examples=200 $outputs
  for name in films beauty; do
    local -n experiment=$name
    llm4rec train -m "${experiment[@]}" task=direct prompt.shots=0,1 "$@" $outputs
    llm4rec train -m "${experiment[@]}" task=direct dataset.control=swap_users "$@" $outputs
    llm4rec train -m "${experiment[@]}" task=sequential prompt.shots=0,1 "$@" $outputs
    if [[ " $* " != *" llm=openai "* ]]; then
      for task in "task=direct" "task=sequential task.candidates=uniform"; do
        llm4rec train -m "${experiment[@]}" $task model.answer=likelihood,pmi prompt.shots=0,1 "$@" $outputs
        llm4rec train -m "${experiment[@]}" $task model.answer=likelihood,pmi task.max_examples=1000 "$@" $outputs
      done
      llm4rec train "${experiment[@]}" task=direct model.answer=pmi dataset.control=swap_users "$@" $outputs
    fi
  done
  llm4rec train -m "${books[@]}" prompt.shots=0,2 "$@" $outputs
  llm4rec train -m "${instruments[@]}" prompt.shots=0,3 "$@" $outputs
  for dataset in ml-100k amazon2014-beauty; do
    llm4rec train model=sasrec dataset=$dataset dataset.raw_dir="$data/$dataset" $outputs
    for task in task=direct task=sequential "task=sequential task.candidates=uniform"; do
      llm4rec eval -m model=sasrec dataset=$dataset dataset.raw_dir="$data/$dataset" $task task.max_examples=200,1000 $outputs
    done
  done
  report outputs/chatgptrec --metrics "$metrics"
}

case $mode in
  --small) small "${@:2}" ;;
  --full) folder=$(absolute "${2:-}"); real "$folder" llm=openai "${@:3}" ;;
  --*) usage ;;
  *) folder=$(absolute "$mode"); real "$folder" "${@:2}" ;;
esac
