#!/usr/bin/env bash
# The main job: every GPU infers its share of VECBench, then one evaluation of all of it.
#
#   bash inference/infer_and_eval_example.sh
#       without settings: the toy world on CPU, from the checkpoint in this repository
#   checkpoint=output/EmoCaliber data_path=input_data/test_8k.jsonl n_gpu=8 \
#       bash inference/infer_and_eval_example.sh
#       the published job
#   engine=ray ray_address=auto checkpoint=… data_path=… bash inference/infer_and_eval_example.sh
#       the same over all machines of a Ray cluster, started on one of them
#
# Start it again after any interruption: only what is missing is inferred. A start with other data, another
# checkpoint or other settings than those of the results in output_path is refused.
# Further options of python -m inference.inference_vllm follow the name of this file.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail

# Settings. The environment has precedence; all that follows reads them there.
set -a
cur_path="${cur_path:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}" # this repository
engine="${engine:-vllm}"                                             # vllm, transformers, openai or ray
checkpoint="${checkpoint:-$cur_path/scripts/toy_world/checkpoint}"   # model folder or hub name (not for openai)
adapter="${adapter:-}"                                               # folder of a LoRA adapter of the checkpoint, unmerged
base_url="${base_url:-}"                                             # the endpoint of openai
ray_address="${ray_address:-}"                                       # of ray: auto or host:port; empty: this machine alone
n_actors="${n_actors:-}"                                             # of ray: empty: one per GPU, or one per node on CPU
toy_data="$cur_path/input_data/toy_world/test.jsonl"
data_path="${data_path:-$toy_data}"                                  # VECBench records
model_name="${model_name:-}"                                         # in the results; empty: the checkpoint's folder name
experiment_name="${experiment_name:-}"                               # empty: from data_path and model_name
output_path="${output_path:-}"                                       # empty: infer_results/<experiment_name>
project_name="${project_name:-}"                                     # wandb project; empty: off
temperature="${temperature:-0.7}"                                    # 0 is greedy decoding
n_responses="${n_responses:-1}"                                      # to each record, for self-consistency
max_images="${max_images:-1}"                                        # that a record may have
replace_images="${replace_images:-}"                                 # grey, noise or other: what the model sees in place of each image
n_gpu="${n_gpu:-}"                                                   # empty: all there are, or 1 CPU worker
image_root="${image_root:-}"                                         # more folders that images may lie in, separated by colons
limit="${limit:-}"                                                   # only the first so many records
overwrite="${overwrite:-false}"                                      # true: start anew, delete what was inferred into output_path
resume_anyway="${resume_anyway:-false}"                              # true: go on although data, checkpoint or settings differ
report="${report:-true}"                                             # report.html with tables, plots, samples; or false
evaluate_args="${evaluate_args:-}"                                   # more options of inference.evaluate, as one string of words
# Not set here: seed max_new_tokens min_pixels max_pixels inference_args. Their defaults are the published settings,
if [[ "$data_path" == "$toy_data" ]]; then # but for small images and short answers
  min_pixels="${min_pixels:-3136}" max_pixels="${max_pixels:-12544}" max_new_tokens="${max_new_tokens:-192}"
fi

{ # read whole before it runs: bash would otherwise follow an edit of this file in mid-run
# The running Python if it has what is needed, otherwise that of .venv (made if missing).
python="${python:-$(bash "$cur_path/scripts/setup.sh" --print-python "$engine")}"
PYTHONPATH="$cur_path${PYTHONPATH:+:$PYTHONPATH}"
source "$cur_path/scripts/process_environment.sh"

if [[ "$data_path" == "$toy_data" && ! -s "$toy_data" ]]; then
  "$python" -m scripts.toy_world.generate --output_dir "$(dirname -- "$toy_data")" --test "${toy_test_samples:-60}"
fi
# infer.sh for each worker, then python -m inference.evaluate and python -m inference.report.
exec "$python" -m inference.runs.job "$@"
}
