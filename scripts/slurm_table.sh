#!/usr/bin/env bash
# A column of a paper's table in each job of a Slurm array, one GPU each. Copy it, and adapt the lines marked (1) to (3).
#   sbatch scripts/slurm_table.sh
# A job that is killed or requeued goes on where it stopped. Run it again as often as needed: what is finished is skipped,
# and a training that two columns share, such as a pre-training, is made by one job, for which the others wait with their
# GPUs: if it takes long, make it first by a job of its own.
#SBATCH --job-name=llm4rec
#SBATCH --array=0-2                     # (1) one for each column below
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=64G
#SBATCH --time=12:00:00                 # adapt to the table
#SBATCH --requeue
#SBATCH --output=slurm-%A_%a.log
set -euo pipefail

TABLE=unisrec/main                      # (2)
COLUMNS=(Scientific Pantry Instruments)
RAW=/shared/raw OUTPUTS=/shared/outputs CACHE=/shared/cache        # (3) on a disk that all nodes share

export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}" HF_HUB_OFFLINE=1
exec llm4rec reproduce "$TABLE" --columns "${COLUMNS[${SLURM_ARRAY_TASK_ID:-0}]}" --raw "$RAW" \
  paths.outputs="$OUTPUTS" paths.cache="$CACHE" "$@"
