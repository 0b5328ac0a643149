#!/usr/bin/env bash
# A sweep from the shell: every model with every seed, each a process of its own. Finished runs are skipped, a failed one
# stops no other, and the table at the end holds what there is. The same in one process: llm4rec train -m model=… seed=…
#   scripts/sweep.sh "sasrec unisrec" "0 1 2" task=direct trainer.epochs=5
set -uo pipefail
models=${1:?usage: scripts/sweep.sh "MODEL …" "SEED …" [overrides]}
seeds=${2:?usage: scripts/sweep.sh "MODEL …" "SEED …" [overrides]}
shift 2
PATH=$(dirname "$(realpath "$0")")/../.venv/bin:$PATH
failed=0
for model in $models; do
  for seed in $seeds; do
    llm4rec train model="$model" seed="$seed" "$@" || { failed=$((failed + 1)); echo "failed: model=$model seed=$seed" >&2; }
  done
done
llm4rec report
echo "$failed failed"
exit $((failed > 0))
