#!/usr/bin/env bash
# Stage 2, verbalized confidence: the scaffold model learns to say how sure it is.
#
#   python=.venv/bin/python bash train/step2_example.sh
#   n_gpu=4 accumulation=4 bash train/step2_example.sh        # four GPUs, the same batch of 128
#   nnodes=2 node_rank=0 master_addr=10.0.0.1 accumulation=1 bash train/step2_example.sh    # on each machine, its rank
#
# Every setting can come from the environment; further options of swift sft follow the name of this file.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

python="${python:-python3}"
swift_path="${swift_path:-}"                        # a checkout of ms-swift; empty: the installed package
model="${model:-$repo/output/scaffold/checkpoint-666}" # folder of the scaffold model (stage 1)
model_type="${model_type:-qwen2_5_vl}"
dataset="${dataset:-$repo/input_data/VEC-CoT/stage2_43k_w_conf.jsonl}"
output_dir="${output_dir:-$repo/output/cold_start}"
learning_rate="${learning_rate:-4e-6}"
n_gpu="${n_gpu:-8}" nnodes="${nnodes:-1}"           # per machine; machines. For more than one:
node_rank="${node_rank:-0}" master_addr="${master_addr:-127.0.0.1}" master_port="${master_port:-29500}"
use_cpu="${use_cpu:-false}" cpu_processes="${cpu_processes:-1}" # true: on CPU, float32, no FSDP, in so many processes
batch_size="${batch_size:-8}" accumulation="${accumulation:-2}" # per device; 8 GPUs × 8 × 2 = 128
max_length="${max_length:-2048}"                    # tokens; longer rows are left out
epochs="${epochs:-1}" max_steps="${max_steps:--1}"  # -1: as many as the epochs have
logging_steps="${logging_steps:-5}" eval_steps="${eval_steps:-100}" save_steps="${save_steps:-1000}"
split_dataset_ratio="${split_dataset_ratio:-0.01}"  # held out for the evaluation
workers="${workers:-8}"                             # data loader processes
freeze_vit="${freeze_vit:-true}" freeze_aligner="${freeze_aligner:-true}" # as published: the language model is trained
train_type="${train_type:-full}"                    # lora: adapters only, one machine, no FSDP (one_gpu_example.sh)
attn_impl="${attn_impl:-}"                          # empty: flash_attn where it is installed, as published; else sdpa
export MIN_PIXELS="${MIN_PIXELS:-200704}" MAX_PIXELS="${MAX_PIXELS:-451584}" # 256 and 576 × 28 × 28
swift_args="${swift_args:-}"                        # further options of swift sft, as one string of words
trust_remote_code="${trust_remote_code:-false}"     # true: run Python code that comes with the model
allow_pickle="${allow_pickle:-false}"               # true: load weights that are pickled (*.bin, *.pt)
overwrite="${overwrite:-false}"                     # true: start anew in a folder that has been trained in
resume_anyway="${resume_anyway:-false}"             # true: go on there with another model, other data or settings
print_command="${print_command:-false}"             # true: print launcher and options, start nothing

# shellcheck source-path=SCRIPTDIR source=../scripts/process_environment.sh
source "$repo/scripts/process_environment.sh"

exec "$python" "$repo/train/launch.py" --stage 2 --checkout "$swift_path" --fsdp "$repo/train/fsdp_offload.json" \
  --n_gpu "$n_gpu" --nnodes "$nnodes" --node_rank "$node_rank" --master_addr "$master_addr" \
  --master_port "$master_port" --use_cpu "$use_cpu" --cpu_processes "$cpu_processes" --print "$print_command" \
  --overwrite "$overwrite" --resume_anyway "$resume_anyway" --allow_pickle "$allow_pickle" \
  --trust_remote_code "$trust_remote_code" --more="$swift_args" \
  -- swift sft \
  --model "$model" --model_type "$model_type" --custom_register_path "$repo/train/swift_plugins.py" \
  --train_type "$train_type" --freeze_vit "$freeze_vit" --freeze_aligner "$freeze_aligner" \
  --torch_dtype bfloat16 --attn_impl "$attn_impl" \
  --gradient_checkpointing true --gradient_checkpointing_kwargs '{"use_reentrant": false}' \
  --system 'You are a helpful assistant.' --max_length "$max_length" \
  --dataset "$dataset" --split_dataset_ratio "$split_dataset_ratio" --dataloader_num_workers "$workers" \
  --num_train_epochs "$epochs" --max_steps "$max_steps" --learning_rate "$learning_rate" --warmup_ratio 0.05 \
  --per_device_train_batch_size "$batch_size" --gradient_accumulation_steps "$accumulation" \
  --per_device_eval_batch_size "$batch_size" --logging_steps "$logging_steps" --eval_steps "$eval_steps" \
  --save_steps "$save_steps" --save_total_limit 2 --output_dir "$output_dir" --add_version false \
  --report_to none --check_model false \
  "$@"
