#!/usr/bin/env bash
# sbatch launch/slurm.sh FILE [OPTIONS...], from a checkout with .venv that all nodes see.
#SBATCH --job-name=robust_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
# TERM comes 120 s before the time limit: the run saves, exits with 143, and is queued again to go on.
set -uo pipefail
srun .venv/bin/robust-jax run "${1:?experiment file}" --scale paper --distributed auto "${@:2}"
status=$?
[ "$status" -eq 143 ] && scontrol requeue "$SLURM_JOB_ID"
exit "$status"
