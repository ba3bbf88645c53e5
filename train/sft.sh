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
batch_size="${batch_size:-8}"                         # a device
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
swift_args="${swift_args:-}"                          # more options of swift sft, as one string of words
trust_remote_code="${trust_remote_code:-false}"       # true: run Python code that comes with the model
allow_pickle="${allow_pickle:-false}"                 # true: load weights that are pickled (*.bin, *.pt)
print_command="${print_command:-false}"               # true: print launcher and options, start nothing
export MIN_PIXELS="${MIN_PIXELS:-200704}"             # 256 × 28 × 28
export MAX_PIXELS="${MAX_PIXELS:-451584}"             # 576 × 28 × 28

source "$repo/scripts/process_environment.sh"
if [[ ! -s "$dataset" ]]; then
  echo "stage $stage: no file at dataset=$dataset. Set dataset to the JSON-lines training file." >&2
  exit 2
fi
if [[ "$model" == [/.]* && ! -d "$model" ]]; then
  echo "stage $stage: no folder at model=$model. Set model to a model folder or a hub name." >&2
  exit 2
fi
if [[ -n "$swift_path" ]]; then
  [[ -f "$swift_path/swift/cli/sft.py" ]] || { echo "stage $stage: no swift/cli/sft.py in swift_path=$swift_path" >&2; exit 2; }
  export PYTHONPATH="$swift_path${PYTHONPATH:+:$PYTHONPATH}"
fi
"$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("swift") is None)' || {
  echo "stage $stage: $python has no ms-swift. Run bash scripts/setup.sh and set python=.venv/bin/python, or set swift_path." >&2
  exit 2
}
export USE_HF="${USE_HF:-1}" # the Hugging Face hub; ms-swift's own default is ModelScope
export TRUST_REMOTE_CODE="$trust_remote_code" # no_remote_code.py reads it
if [[ -d "$model" ]]; then
  export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
  allowed=()
  [[ "$allow_pickle" != true ]] || allowed+=(--allow_pickle)
  [[ "$trust_remote_code" != true ]] || allowed+=(--trust_remote_code)
  PYTHONPATH="$repo${PYTHONPATH:+:$PYTHONPATH}" "$python" -m inference.checkpoint_files "$model" ${allowed[@]+"${allowed[@]}"}
fi
sft="$("$python" -c 'import importlib.util as u; print(u.find_spec("swift").submodule_search_locations[0])')/cli/sft.py"

if [[ "$use_cpu" == true ]]; then
  launcher=(--cpu --num_processes "$cpu_processes" --num_machines 1 --mixed_precision no --dynamo_backend no)
  precision=(--torch_dtype float32 --gradient_checkpointing false)
  nnodes=1
elif [[ "$train_type" == lora ]]; then
  launcher=(--num_processes "$n_gpu" --num_machines 1 --mixed_precision bf16 --dynamo_backend no)
  precision=(--torch_dtype bfloat16 --attn_impl flash_attn --gradient_checkpointing true
    --gradient_checkpointing_kwargs '{"use_reentrant": false}')
  nnodes=1
else
  launcher=(--config_file "$repo/train/fsdp_offload.json" --num_processes "$((n_gpu * nnodes))" --num_machines "$nnodes"
    --machine_rank "$node_rank" --main_process_ip "$master_addr" --main_process_port "$master_port")
  precision=(--torch_dtype bfloat16 --attn_impl flash_attn --gradient_checkpointing true
    --gradient_checkpointing_kwargs '{"use_reentrant": false}')
fi

# Resume from the newest complete checkpoint of this output folder, if there is one. The optimizer's state is
# one file (.pt alone, .bin under FSDP). The trainer's own state is written last: a checkpoint that was
# interrupted has none, or half of one.
complete() {
  [[ -f "$1/optimizer.pt" || -f "$1/optimizer.bin" ]] &&
    "$python" -c 'import json, sys; json.load(open(sys.argv[1]))' "$1/trainer_state.json" 2> /dev/null
}
resume=()
last=""
if [[ -d "$output_dir" ]]; then
  while IFS= read -r folder; do
    if complete "$folder"; then
      last="$folder"
      break
    fi
    echo "stage $stage: passing over $folder: it is not complete" >&2
  done < <(find "$output_dir" -maxdepth 1 -type d -name 'checkpoint-*' | sort -rV)
fi
if [[ -n "$last" ]]; then
  resume=(--resume_from_checkpoint "$last")
  # The weights, too, by name: Qwen2.5-VL's parameters are saved under other names than the module
  # has, and the trainer's own loading then skips every one of them without a word.
  # An adapter's checkpoint is no model: its base stays.
  [[ "$train_type" == lora ]] || model="$last"
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
  ${resume[@]+"${resume[@]}"} ${more[@]+"${more[@]}"}
)

if [[ "$print_command" == true ]]; then
  printf '%s\n' "${launcher[@]}" -- "${options[@]}" # one word a line; starts nothing
  exit 0
fi
# The plan, before anything heavy starts.
rows="$(wc -l < "$dataset")"
[[ "$use_cpu" != true ]] || n_gpu="$cpu_processes"
devices=$((n_gpu * nnodes))
steps="$max_steps"
if ((max_steps < 1)); then
  steps="$(awk -v rows="$rows" -v held_out="$split_dataset_ratio" -v a_step="$((devices * batch_size))" \
    -v accumulation="$accumulation" -v epochs="$epochs" \
    'function ceil(x) { return x > int(x) ? int(x) + 1 : int(x) }
     BEGIN { print ceil(ceil(ceil(rows * (1 - held_out)) / a_step) / accumulation) * epochs }')"
fi
echo "Stage $stage: $rows rows of $dataset, ${split_dataset_ratio} of them held out"
echo "  $n_gpu device(s) × $nnodes machine(s) × $batch_size × $accumulation accumulated = batch $((devices * batch_size * accumulation)), learning rate $learning_rate"
echo "  $steps steps (fewer if rows are over $max_length tokens)"
echo "  checkpoints in $output_dir, $((${steps%.*} / save_steps)) of them: every $save_steps steps, 2 kept; and the last step's${resume:+; resuming from $last}"
mkdir -p "$output_dir"
exec "$python" "$repo/train/launch.py" "$output_dir" "$python" -m accelerate.commands.launch "${launcher[@]}" "$sft" "${options[@]}"
