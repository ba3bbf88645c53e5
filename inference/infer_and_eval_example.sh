#!/usr/bin/env bash
# The main job: every GPU infers its share of VECBench, then one evaluation of all of it.
#
#   bash inference/infer_and_eval_example.sh
#       as it stands: the toy world on CPU, from the checkpoint in this repository
#   checkpoint=output/EmoCaliber data_path=input_data/test_8k.jsonl n_gpu=8 \
#       bash inference/infer_and_eval_example.sh
#       the published job
#   engine=ray ray_address=auto checkpoint=… data_path=… bash inference/infer_and_eval_example.sh
#       the same over all machines of a Ray cluster, started on one of them
#
# Start it again after any interruption: only what is missing is inferred. A start with other data, another
# checkpoint or other settings than those of the results in output_path is refused.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

# Settings. The environment beats what stands here.
cur_path="${cur_path:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}" # this repository
engine="${engine:-vllm}"                                             # vllm, transformers, openai or ray
checkpoint="${checkpoint:-$cur_path/scripts/toy_world/checkpoint}"   # model folder or hub name (not for openai)
base_url="${base_url:-}"                                             # the endpoint of openai
ray_address="${ray_address:-}"                                       # of ray: auto or host:port; empty: this machine alone
n_actors="${n_actors:-}"                                             # of ray: empty: one per GPU, or one per node on CPU
data_path="${data_path:-$cur_path/input_data/toy_world/test.jsonl}"  # VECBench records
model_name="${model_name:-}"                                         # in the results; empty: the checkpoint's folder name
experiment_name="${experiment_name:-}"                               # empty: from data_path and model_name
output_path="${output_path:-}"                                       # empty: infer_results/<experiment_name>
project_name="${project_name:-}"                                     # wandb project; empty: off
temperature="${temperature:-0.7}"                                    # 0 is greedy decoding
n_responses="${n_responses:-1}"                                      # to each record, for self-consistency
n_gpu="${n_gpu:-}"                                                   # empty: all there are, or 1 CPU worker
image_root="${image_root:-}"                                         # more folders that images may lie in, separated by colons
limit="${limit:-}"                                                   # only the first so many records
overwrite="${overwrite:-false}"                                      # true: start anew, delete what was inferred into output_path
resume_anyway="${resume_anyway:-false}"                              # true: go on although data, checkpoint or settings differ
report="${report:-true}"                                             # report.html with tables, figures, samples; or false
evaluate_args="${evaluate_args:-}"                                   # more options of inference.evaluate, as one string of words
# More settings stand in infer.sh: max_new_tokens seed min_pixels max_pixels inference_args

{ # read whole before it runs: bash would otherwise follow an edit of this file in mid-run
toy_data="$cur_path/input_data/toy_world/test.jsonl"

stop() { echo "$1" >&2; exit 2; }
if [[ "$engine" == openai ]]; then
  [[ -n "$base_url" ]] || stop "engine=openai: set base_url to the endpoint, for instance http://127.0.0.1:8000/v1"
  [[ -n "$model_name" ]] || stop "engine=openai: set model_name to the model that the endpoint is asked for"
  checkpoint=""
fi
model_name="${model_name:-$(basename -- "$checkpoint")}"
data_folder="$(basename -- "$(dirname -- "$(realpath -m -- "$data_path")")")"
experiment_name="${experiment_name:-${data_folder}_$(basename -- "$data_path" .jsonl)_$(basename -- "$model_name")}"
output_path="${output_path:-$cur_path/infer_results/$experiment_name}"

# The environment: the running Python if it has what is needed, otherwise .venv (made if missing).
if [[ -z "${python:-}" ]]; then
  python="$(bash "$cur_path/scripts/setup.sh" --print-python "$engine")"
fi
source "$cur_path/scripts/process_environment.sh"
export PYTHONPATH="$cur_path${PYTHONPATH:+:$PYTHONPATH}"

if [[ "$data_path" == "$toy_data" ]]; then
  # Small images and short answers; everything else gets infer.sh's published settings.
  min_pixels="${min_pixels:-3136}"
  max_pixels="${max_pixels:-12544}"
  max_new_tokens="${max_new_tokens:-192}"
  if [[ ! -s "$toy_data" ]]; then
    "$python" -m scripts.toy_world.generate --output_dir "$(dirname -- "$toy_data")" --test "${toy_test_samples:-60}"
  fi
fi

[[ -f "$data_path" ]] ||
  stop "No file at data_path=$data_path. Set data_path to a JSON-lines file of VECBench records."
if [[ "$engine" == ray ]]; then
  n_gpu=1 # one process reads and writes; the cluster's actors have the GPUs
elif [[ -z "$n_gpu" ]]; then
  if [[ "$engine" == openai ]]; then
    n_gpu=1
  else
    n_gpu="$("$python" -m inference.engines.devices | wc -l)"
  fi
  ((n_gpu > 0)) || n_gpu=1 # the CPU
fi
[[ "$n_gpu" =~ ^[1-9][0-9]*$ ]] || stop "n_gpu=$n_gpu: expected a number of at least 1."
if [[ "$engine" != openai && "$engine" != ray && -z "${device:-}" ]]; then
  "$python" -m inference.engines.devices --worker "$((n_gpu - 1))" > /dev/null # there is a GPU for each, or none at all
fi

[[ -z "$project_name" ]] || "$python" -m inference.runs.wandb_run || stop "project_name=$project_name cannot be logged to."

shown_url="$base_url"
if [[ "$base_url" =~ ^([^/]*://)[^/?]*@(.*)$ ]]; then # a password in it is nobody's business
  shown_url="${BASH_REMATCH[1]}***@${BASH_REMATCH[2]}"
fi
echo "Inferring $data_path with ${checkpoint:-$model_name at $shown_url} ($engine, $n_gpu worker(s), temperature $temperature)"
echo "into $output_path; the workers' logs are worker_<index>.log there."
mkdir -p "$output_path"
# Held until this script ends, however it ends.
exec 8>> "$output_path/job.lock"
flock --nonblock 8 ||
  stop "output_path=$output_path: another job is running there (pid $(cat -- "$output_path/job.lock")). Wait for it, or take another output_path."
{ echo "$$" > "$output_path/job.lock"; } 2> /dev/null ||
  stop "$output_path/job.lock cannot be written: is the disk full? Make room and start the same command again."
export python checkpoint data_path model_name output_path temperature n_responses n_gpu engine base_url limit image_root
export ray_address n_actors overwrite resume_anyway parent_pid="$$"
export min_pixels="${min_pixels:-}" max_pixels="${max_pixels:-}" max_new_tokens="${max_new_tokens:-}"

bash "$cur_path/inference/infer.sh" prepare 8>&- # once, before the workers: what is there, and may it be added to?

pids=()
trap 'kill "${pids[@]}" 2> /dev/null; exit 130' INT TERM
for ((index = 0; index < n_gpu; index++)); do
  bash "$cur_path/inference/infer.sh" "$index" > "$output_path/worker_$index.log" 2>&1 8>&- &
  pids+=("$!")
done
"$python" -m inference.runs.progress --data_path "$data_path" --output_path "$output_path" \
  ${limit:+--limit "$limit"} --pids "${pids[@]}"

failed=()
for index in "${!pids[@]}"; do
  status=0
  wait "${pids[index]}" || status=$?
  if ((status)); then
    log="$output_path/worker_$index.log"
    failed+=("Worker $index failed (status $status, log $log): $("$python" -m inference.engines.root_cause "$log")")
  fi
done
trap - INT TERM
if ((${#failed[@]})); then
  echo "${#failed[@]} of $n_gpu worker(s) failed. What was inferred is kept: start the same command again." >&2
  printf '%s\n' "${failed[@]}" >&2
  exit 1
fi

read -r -a more <<< "$evaluate_args"
"$python" -m inference.evaluate --output_path "$output_path" --data_path "$data_path" \
  ${limit:+--limit "$limit"} --wandb_project "$project_name" ${more[@]+"${more[@]}"}
if [[ "$data_path" == "$toy_data" ]]; then
  "$python" -m scripts.toy_world.report --output_path "$output_path"
fi
if [[ "$report" == true ]]; then
  show_run=("$python" -m inference.report --output_path "$output_path" --data_path "$data_path")
  IFS=: read -r -d '' -a roots < <(printf '%s\0' "$image_root") || true
  for root in ${roots[@]+"${roots[@]}"}; do
    show_run+=("--image_root=$root")
  done
  if ! "${show_run[@]}"; then
    echo "WARNING: there is no report.html; the numbers above stand without it. To try again:" >&2
    echo "  ${show_run[*]@Q}" >&2
  fi
fi
exit 0
}
