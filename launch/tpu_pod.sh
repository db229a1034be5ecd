#!/usr/bin/env bash
# Runs an experiment on every host of a TPU pod slice.
#   launch/tpu_pod.sh TPU_NAME ZONE FILE [OPTIONS...]
# The hosts must have the checkout in ~/robust_jax and see the same --workdir.
set -euo pipefail
name=${1:?TPU name} zone=${2:?zone} file=${3:?experiment file}
shift 3
gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker all --command \
  "cd ~/robust_jax && python3 -m venv .venv && .venv/bin/pip install -q -e '.[tpu]' &&
   .venv/bin/robust-jax run $(printf '%q ' "$file" --scale paper --distributed auto "$@")"
