#!/usr/bin/env bash
# Stage 1, structured reasoning: the base model learns to think in the five named steps.
#
#   python=.venv/bin/python bash train/step1_example.sh
#   n_gpu=4 accumulation=4 bash train/step1_example.sh        # four GPUs, the same batch of 128
#   nnodes=2 node_rank=0 master_addr=10.0.0.1 bash train/step1_example.sh    # on each machine, with its rank
#
# Every setting here and in sft.sh can come from the environment.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
repo="$(dirname -- "$here")"

stage=1
model="${model:-Qwen/Qwen2.5-VL-7B-Instruct}" # hub name or folder of the base model
dataset="${dataset:-$repo/input_data/VEC-CoT/stage1_86k.jsonl}"
output_dir="${output_dir:-$repo/output/scaffold}"
learning_rate="${learning_rate:-1e-5}"

# shellcheck source-path=SCRIPTDIR source=sft.sh
source "$here/sft.sh"
