#!/usr/bin/env bash
# One worker: one device, one share of the data. Usage: bash inference/infer.sh INDEX [OPTION of inference_vllm…]
#
# `bash inference/infer.sh prepare` infers nothing: it checks that no other run works in output_path and that
# what was inferred there has the same data, checkpoint and settings, or, with overwrite=true or
# resume_anyway=true, deletes it or adds to it all the same.
# The main job starts its workers by it (infer_and_eval_example.sh explains the settings); alone it runs one share,
# for instance on a second machine that shares the output folder:
#   checkpoint=… data_path=… output_path=… n_gpu=16 bash inference/infer.sh 8
# The share INDEX of n_gpu runs on the GPU INDEX (or the INDEX-th of CUDA_VISIBLE_DEVICES, which may be empty:
# no GPU); `device=3` names another one.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

index="${1:?usage: bash inference/infer.sh INDEX, or prepare}"
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
python="${python:-python3}"
engine="${engine:-vllm}"
: "${data_path:?set data_path to a JSON-lines file of VECBench records}" "${output_path:?set output_path to the folder of the run}"

# Settings that are set become options; the others have the defaults of inference_vllm, the published ones.
options=()
for name in data_path output_path checkpoint adapter model_name engine base_url ray_address n_actors temperature \
  max_new_tokens seed n_responses max_images replace_images min_pixels max_pixels limit parent_pid; do
  if [[ -n "${!name:-}" ]]; then options+=("--$name" "${!name}"); fi
done
IFS=: read -r -d '' -a roots < <(printf '%s\0' "${image_root:-}") || true # more folders, separated by colons
options+=("${roots[@]/#/--image_root=}")
read -r -a more <<< "${inference_args:-}" # as one string of words: inference_args="--max_num_seqs 512"
options+=("${more[@]}" "${@:2}")

# shellcheck source-path=SCRIPTDIR source=../scripts/process_environment.sh
source "$repo/scripts/process_environment.sh"
export PYTHONPATH="$repo${PYTHONPATH:+:$PYTHONPATH}"
if [[ -d "${checkpoint:-}" ]]; then
  export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" # a local folder needs no hub
fi

if [[ "$index" == prepare ]]; then
  index=0
  options+=(--prepare_only)
  if [[ "${overwrite:-false}" == true ]]; then options+=(--overwrite); fi
  if [[ "${resume_anyway:-false}" == true ]]; then options+=(--resume_anyway); fi
elif [[ "$engine" == ray ]]; then
  python="$(bash "$repo/scripts/python_for_ray.sh" "$python")"
elif [[ "$engine" != openai ]]; then # an endpoint or a cluster has devices of its own
  device="${device:-$("$python" -m inference.engines.devices --worker "$index")}"
  if [[ -n "$device" ]]; then export CUDA_VISIBLE_DEVICES="$device"; fi
fi
exec "$python" -m inference.inference_vllm --index "$index" --n_shards "${n_gpu:-1}" "${options[@]}"
