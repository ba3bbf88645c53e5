#!/usr/bin/env bash
# What stages 1 and 2 share: ms-swift SFT with the paper's settings (full parameters). Not run
# alone: step1_example.sh and step2_example.sh set what differs and source this file.
# shellcheck disable=SC2154  # stage, model, dataset, output_dir, learning_rate: set by them

repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

# Settings of both stages. The environment beats what stands here.
python="${python:-python3}"
swift_path="${swift_path:-}"                          # a checkout of ms-swift; empty: the installed package
model_type="${model_type:-qwen2_5_vl}"
n_gpu="${n_gpu:-8}"                                   # processes on this machine
nnodes="${nnodes:-1}"                                 # machines; the rest for more than one
node_rank="${node_rank:-0}"
master_addr="${master_addr:-127.0.0.1}"
master_port="${master_port:-29500}"
use_cpu="${use_cpu:-false}"                         # true: on CPU, float32, no FSDP,
cpu_processes="${cpu_processes:-1}"                   # in so many processes
batch_size="${batch_size:-8}"                         # per device
accumulation="${accumulation:-2}"
max_length="${max_length:-2048}"
epochs="${epochs:-1}"
max_steps="${max_steps:--1}"
save_steps="${save_steps:-1000}"
eval_steps="${eval_steps:-100}"
logging_steps="${logging_steps:-5}"
workers="${workers:-8}"                               # data loader processes
split_dataset_ratio="${split_dataset_ratio:-0.01}"    # held out for the evaluation
freeze_vit="${freeze_vit:-true}"                      # as published: the language model is trained,
freeze_aligner="${freeze_aligner:-true}"              # vision tower and aligner are not
train_type="${train_type:-full}"                      # lora: adapters only, one GPU, no FSDP (one_gpu_example.sh)
attn_impl="${attn_impl:-}"                            # empty: flash_attn where it is installed, as published; else sdpa
swift_args="${swift_args:-}"                          # more options of swift sft, as one string of words
trust_remote_code="${trust_remote_code:-false}"       # true: run Python code that comes with the model
allow_pickle="${allow_pickle:-false}"                 # true: load weights that are pickled (*.bin, *.pt)
overwrite="${overwrite:-false}"                       # true: start anew in a folder that has been trained in
resume_anyway="${resume_anyway:-false}"               # true: go on there with another model, other data or settings
print_command="${print_command:-false}"               # true: print launcher and options, start nothing
export MIN_PIXELS="${MIN_PIXELS:-200704}"             # 256 × 28 × 28
export MAX_PIXELS="${MAX_PIXELS:-451584}"             # 576 × 28 × 28

# shellcheck source-path=SCRIPTDIR source=../scripts/process_environment.sh
source "$repo/scripts/process_environment.sh"

export USE_HF="${USE_HF:-1}" # the Hugging Face hub; ms-swift's own default is ModelScope
export TRUST_REMOTE_CODE="$trust_remote_code" # no_remote_code.py reads it

gpu=(--torch_dtype bfloat16 --attn_impl "$attn_impl" --gradient_checkpointing true
  --gradient_checkpointing_kwargs '{"use_reentrant": false}')
if [[ "$use_cpu" == true ]]; then
  # Not by accelerate, whose `launch --cpu` starts one process however many it is asked for.
  launcher=(-m torch.distributed.run --standalone --local_addr 127.0.0.1 --nproc_per_node "$cpu_processes")
  ((cpu_processes > 1)) || launcher=()
  precision=(--torch_dtype float32 --gradient_checkpointing false)
  export ACCELERATE_USE_CPU=true
elif [[ "$train_type" == lora ]]; then
  launcher=(-m accelerate.commands.launch --num_processes "$n_gpu" --num_machines 1 --mixed_precision bf16 --dynamo_backend no)
  precision=("${gpu[@]}")
else
  launcher=(-m accelerate.commands.launch --config_file "$repo/train/fsdp_offload.json"
    --num_processes "$((n_gpu * nnodes))" --num_machines "$nnodes"
    --machine_rank "$node_rank" --main_process_ip "$master_addr" --main_process_port "$master_port")
  precision=("${gpu[@]}")
fi

read -r -a more <<< "$swift_args"
options=(
  --model "$model" --model_type "$model_type"
  --custom_register_path "$repo/train/swift_image_tokens.py" "$repo/train/no_remote_code.py"
  --train_type "$train_type" --freeze_vit "$freeze_vit" --freeze_aligner "$freeze_aligner"
  --system 'You are a helpful assistant.'
  --dataset "$dataset" --split_dataset_ratio "$split_dataset_ratio" --max_length "$max_length"
  "${precision[@]}"
  --num_train_epochs "$epochs" --max_steps "$max_steps" --learning_rate "$learning_rate" --warmup_ratio 0.05
  --per_device_train_batch_size "$batch_size" --per_device_eval_batch_size "$batch_size"
  --gradient_accumulation_steps "$accumulation"
  --logging_steps "$logging_steps" --eval_steps "$eval_steps" --save_steps "$save_steps" --save_total_limit 2
  --dataloader_num_workers "$workers" --report_to none --check_model false
  --output_dir "$output_dir" --add_version false
  ${more[@]+"${more[@]}"}
)

exec "$python" "$repo/train/launch.py" --stage "$stage" --checkout "$swift_path" --print "$print_command" \
  --overwrite "$overwrite" --resume_anyway "$resume_anyway" \
  --allow_pickle "$allow_pickle" --trust_remote_code "$trust_remote_code" \
  -- "$python" ${launcher[@]+"${launcher[@]}"} swift/cli/sft.py "${options[@]}"
