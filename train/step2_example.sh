#!/usr/bin/env bash
# Stage 2, verbalized confidence: the scaffold model learns to say how sure it is.
#
#   python=.venv/bin/python bash train/step2_example.sh
#   n_gpu=4 accumulation=4 bash train/step2_example.sh        # four GPUs, the same batch of 128
#   nnodes=2 node_rank=0 master_addr=10.0.0.1 bash train/step2_example.sh    # on each machine, with its rank
#
# Every setting here and in sft.sh can come from the environment.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
repo="$(dirname -- "$here")"

stage=2
model="${model:-$repo/output/scaffold}" # folder of the scaffold model (stage 1)
dataset="${dataset:-$repo/input_data/VEC-CoT/stage2_43k_w_conf.jsonl}"
output_dir="${output_dir:-$repo/output/cold_start}"
learning_rate="${learning_rate:-4e-6}"

# shellcheck source-path=SCRIPTDIR source=sft.sh
source "$here/sft.sh"
