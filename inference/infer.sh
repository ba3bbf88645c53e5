#!/usr/bin/env bash
# One worker: one device, one share of the data. Usage: bash inference/infer.sh INDEX
#
# `bash inference/infer.sh prepare` infers nothing: it checks that nobody else works in output_path and that
# what was inferred there has the same data, checkpoint and settings, or, with overwrite=true or
# resume_anyway=true, deletes it or adds to it all the same.
# Called by infer_and_eval_example.sh, which explains the settings; alone it runs one share,
# for instance on a second machine that shares the output folder:
#   checkpoint=… data_path=… output_path=… n_gpu=16 bash inference/infer.sh 8
# The share INDEX of n_gpu runs on the GPU INDEX (or the INDEX-th of CUDA_VISIBLE_DEVICES, which may be empty:
# no GPU); `device=3` names another one.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

index="${1:?usage: bash inference/infer.sh INDEX, or prepare}"
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

python="${python:-python3}"
data_path="${data_path:?set data_path to a JSON-lines file of VECBench records}"
output_path="${output_path:?set output_path to the folder of the run}"
checkpoint="${checkpoint:-}"
model_name="${model_name:-}"
n_gpu="${n_gpu:-1}"
engine="${engine:-vllm}"
base_url="${base_url:-}"
ray_address="${ray_address:-}" # of engine=ray: auto or host:port; empty: a Ray cluster on this machine alone
n_actors="${n_actors:-0}"      # engines on the cluster; 0: one per GPU, or one per node on CPU
temperature="${temperature:-0.7}"
max_new_tokens="${max_new_tokens:-2048}"
seed="${seed:-0}"
n_responses="${n_responses:-1}" # to each record, for self-consistency; above 1 needs a temperature above 0
min_pixels="${min_pixels:-200704}" # 256 × 28 × 28
max_pixels="${max_pixels:-451584}" # 576 × 28 × 28
limit="${limit:-}"
image_root="${image_root:-}" # more folders that images may lie in, separated by colons
overwrite="${overwrite:-false}"         # of prepare
resume_anyway="${resume_anyway:-false}" # of prepare
parent_pid="${parent_pid:-}"            # the worker ends when this process does, which must be its parent
# More options of inference_vllm, as one string of words: inference_args="--max_num_seqs 512"
inference_args="${inference_args:-}"

# shellcheck source-path=SCRIPTDIR source=../scripts/process_environment.sh
source "$repo/scripts/process_environment.sh"
export PYTHONPATH="$repo${PYTHONPATH:+:$PYTHONPATH}"

only_prepare=()
if [[ "$index" == prepare ]]; then
  index=0
  parent_pid=""
  only_prepare=(--prepare_only)
  if [[ "$overwrite" == true ]]; then only_prepare+=(--overwrite); fi
  if [[ "$resume_anyway" == true ]]; then only_prepare+=(--resume_anyway); fi
fi

if [[ "$engine" == openai || "$engine" == ray || ${#only_prepare[@]} -gt 0 ]]; then
  : # the endpoint or the cluster has the devices
elif [[ -n "${device:-}" ]]; then
  export CUDA_VISIBLE_DEVICES="$device"
else
  device="$("$python" -m inference.engines.devices --worker "$index")"
  if [[ -n "$device" ]]; then export CUDA_VISIBLE_DEVICES="$device"; fi
fi
if [[ -d "$checkpoint" ]]; then
  export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" # a local folder needs no hub
fi

if [[ "$engine" == ray && ${#only_prepare[@]} -eq 0 ]]; then
  python="$(bash "$repo/scripts/python_for_ray.sh" "$python")"
fi

read -r -a more <<< "$inference_args"
IFS=: read -r -d '' -a roots < <(printf '%s\0' "$image_root") || true
for root in ${roots[@]+"${roots[@]}"}; do
  more+=("--image_root=$root")
done
exec "$python" -m inference.inference_vllm \
  --data_path "$data_path" --output_path "$output_path" \
  --index "$index" --n_shards "$n_gpu" \
  --checkpoint "$checkpoint" --model_name "$model_name" \
  --engine "$engine" --base_url "$base_url" --ray_address "$ray_address" --n_actors "$n_actors" \
  --temperature "$temperature" --max_new_tokens "$max_new_tokens" --seed "$seed" \
  --n_responses "$n_responses" \
  --min_pixels "$min_pixels" --max_pixels "$max_pixels" \
  ${limit:+--limit "$limit"} ${parent_pid:+--parent_pid "$parent_pid"} \
  ${more[@]+"${more[@]}"} ${only_prepare[@]+"${only_prepare[@]}"}
