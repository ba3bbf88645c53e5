#!/usr/bin/env bash
# The main job: every GPU infers its share of VECBench, then one evaluation of all of it.
#
#   bash inference/infer_and_eval_example.sh
#       as it stands: the toy world on CPU, from the checkpoint in this repository
#   checkpoint=output/EmoCaliber data_path=input_data/test_8k.jsonl n_gpu=8 \
#       bash inference/infer_and_eval_example.sh
#       the published job
#
# Start it again after any interruption: only what is missing is inferred.
set -euo pipefail

# Settings. The environment beats what stands here.
cur_path="${cur_path:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}" # this repository
checkpoint="${checkpoint:-$cur_path/scripts/toy_world/checkpoint}"              # model folder or hub name
data_path="${data_path:-$cur_path/input_data/toy_world/test.jsonl}"             # VECBench records
model_name="${model_name:-$(basename -- "$checkpoint")}"                        # name in the results
experiment_name="${experiment_name:-$(basename -- "$data_path" .jsonl)_$model_name}"
output_path="${output_path:-$cur_path/infer_results/$experiment_name}"
project_name="${project_name:-}"                                                # wandb project; empty: off
temperature="${temperature:-0.7}"
n_gpu="${n_gpu:-}"                                                              # empty: all there are, or 1 CPU worker
# Handed on to infer.sh: engine base_url max_new_tokens seed min_pixels max_pixels limit inference_args
limit="${limit:-}"
engine="${engine:-vllm}"

{ # read whole before it runs: bash would otherwise follow an edit of this file in mid-run
cd "$cur_path"
toy_checkpoint="$cur_path/scripts/toy_world/checkpoint"
toy_data="$cur_path/input_data/toy_world/test.jsonl"

# The environment: the running Python if it has what is needed, otherwise .venv (made if missing).
if [[ -z "${python:-}" ]]; then
  python="$(bash "$cur_path/scripts/setup.sh" --print-python "$engine")"
fi
export PYTHONPATH="$cur_path${PYTHONPATH:+:$PYTHONPATH}"

# The toy model was made for small images; everything else gets the published pixel budget.
if [[ "$checkpoint" == "$toy_checkpoint" && "$data_path" == "$toy_data" ]]; then
  min_pixels="${min_pixels:-3136}"
  max_pixels="${max_pixels:-12544}"
  max_new_tokens="${max_new_tokens:-192}"
fi
if [[ "$data_path" == "$toy_data" && ! -s "$toy_data" ]]; then
  "$python" -m scripts.toy_world.generate --output_dir "$(dirname -- "$toy_data")" --test "${toy_test_samples:-60}"
fi

if [[ ! -f "$data_path" ]]; then
  echo "No file at data_path=$data_path. Set data_path to a JSON-lines file of VECBench records." >&2
  exit 2
fi
if [[ "$engine" != openai && "$checkpoint" == */* && ! -d "$checkpoint" && "$checkpoint" != [!/.]*/* ]]; then
  echo "No folder at checkpoint=$checkpoint. Set checkpoint to a model folder or a hub name." >&2
  exit 2
fi
if [[ -z "$n_gpu" ]]; then
  n_gpu="$( (nvidia-smi -L 2> /dev/null || true) | grep -c '^GPU' || true)"
  [[ "$engine" != openai && "$n_gpu" -gt 0 ]] || n_gpu=1
fi
[[ "$n_gpu" =~ ^[1-9][0-9]*$ ]] || { echo "n_gpu=$n_gpu: expected a number of at least 1." >&2; exit 2; }

echo "Inferring $data_path with $checkpoint ($engine, $n_gpu worker(s), temperature $temperature)"
echo "into $output_path; the workers' logs are worker_<index>.log there."
mkdir -p "$output_path"
export python checkpoint data_path model_name output_path temperature n_gpu engine limit
export min_pixels="${min_pixels:-}" max_pixels="${max_pixels:-}" max_new_tokens="${max_new_tokens:-}"

pids=()
trap 'kill "${pids[@]}" 2> /dev/null; exit 130' INT TERM
for ((index = 0; index < n_gpu; index++)); do
  bash "$cur_path/inference/infer.sh" "$index" > "$output_path/worker_$index.log" 2>&1 &
  pids+=("$!")
done
"$python" -m inference.progress --data_path "$data_path" --output_path "$output_path" \
  ${limit:+--limit "$limit"} --pids "${pids[@]}"

failed=0
for index in "${!pids[@]}"; do
  if ! wait "${pids[index]}"; then
    failed=$((failed + 1))
    echo "Worker $index failed; the end of $output_path/worker_$index.log:" >&2
    tail -n 15 -- "$output_path/worker_$index.log" >&2
  fi
done
trap - INT TERM
if ((failed)); then
  echo "$failed of $n_gpu worker(s) failed. What was inferred is kept: start the same command again." >&2
  exit 1
fi

"$python" -m inference.evaluate --output_path "$output_path" --data_path "$data_path" \
  ${limit:+--limit "$limit"} --wandb_project "$project_name"
if [[ "$data_path" == "$toy_data" ]]; then
  "$python" -m scripts.toy_world.report --output_path "$output_path"
fi
exit 0
}
