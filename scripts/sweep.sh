#!/usr/bin/env bash
# A sweep from the shell: every model with every seed, each in a process of its own. Finished runs are skipped, a failed run
# does not stop the others, and a table of all finished runs ends it. Hydra does the same, and skips finished runs too:
#   llm4rec train -m model=sasrec,unisrec seed=0,1,2                                          one after another
#   llm4rec train -m model=sasrec,unisrec seed=0,1,2 hydra/launcher=joblib hydra.launcher.n_jobs=2      on these cores
#   llm4rec train -m model=sasrec,unisrec seed=0,1,2 hydra/launcher=submitit_slurm            on a cluster
#   scripts/sweep.sh "sasrec unisrec" "0 1 2" task=direct trainer.epochs=5
set -uo pipefail
models=${1:?usage: scripts/sweep.sh "MODEL …" "SEED …" [overrides]}
seeds=${2:?usage: scripts/sweep.sh "MODEL …" "SEED …" [overrides]}
shift 2
PATH=$(dirname "$(realpath "$0")")/../.venv/bin:$PATH
failed=0
for model in $models; do
  for seed in $seeds; do
    code=0
    llm4rec train model="$model" seed="$seed" "$@" || code=$?
    if [ $code -eq 130 ]; then exit 130; fi # interrupted
    if [ $code -ne 0 ]; then failed=$((failed + 1)); echo "failed: model=$model seed=$seed" >&2; fi
  done
done
llm4rec report
echo "$failed failed"
exit $((failed > 0))
