#!/usr/bin/env bash
# One training on several GPUs of several nodes: torchrun on each node, which share each batch.
#   sbatch scripts/slurm_nodes.sh +experiment=p5/paper dataset.raw_dir=PATH paths.outputs=/shared/outputs
#SBATCH --job-name=llm4rec
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1             # torchrun starts a process for each GPU
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=slurm-%j.log
set -euo pipefail

FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=4 HF_HUB_OFFLINE=1 SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # srun does not take sbatch's
exec srun torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc_per_node "${SLURM_GPUS_ON_NODE:-1}" \
  --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d --rdzv_endpoint "$FIRST:29500" -m llm4rec_cli train "$@"
