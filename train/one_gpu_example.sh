#!/usr/bin/env bash
# All three stages on one 24 GB card: LoRA instead of all parameters, fewer and shorter rollouts.
#
#   python=.venv/bin/python bash train/one_gpu_example.sh 1     # then 2, then 3
#   print=true bash train/one_gpu_example.sh 1                  # what would run; starts nothing
#
# Not the paper's training: a way to try the recipe. The stages' own templates run with the settings
# below; every one can come from the environment, and further options of the trainer follow the stage.
# Stages 1 and 2 end with adapters, which this script merges into a model folder for the next stage.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
repo="$(dirname -- "$here")"

print="${print:-false}"
export python="${python:-python3}" n_gpu=1
output="${output:-$repo/output/one_gpu}" # one folder per stage
lora_rank="${lora_rank:-32}"
lora_alpha="${lora_alpha:-$((2 * lora_rank))}"

{ # read whole before it runs: bash would otherwise follow an edit of this file in mid-run
source "$repo/scripts/process_environment.sh"

# Batch 128 as published, one sample at a time; a rate that LoRA needs (ten times the full one and more).
sft() { # STAGE MODEL LEARNING_RATE RESULT OPTION...
  model="${model:-$2}" learning_rate="${learning_rate:-$3}" output_dir="$output/stage$1" print_command="$print" \
    train_type="${train_type:-lora}" batch_size="${batch_size:-1}" accumulation="${accumulation:-128}" \
    max_length="${max_length:-2048}" save_steps="${save_steps:-100}" bash "$here/step$1_example.sh" \
    --lora_rank "$lora_rank" --lora_alpha "$lora_alpha" --target_modules all-linear "${@:5}"
  [[ "$print" != true ]] || return 0
  last="$(find "$output/stage$1" -maxdepth 1 -type d -name 'checkpoint-*' | sort -V | tail -n 1)"
  [[ -f "$last/adapter_config.json" ]] || return 0
  echo "Merging the adapters of $last into $output/$4"
  USE_HF=1 TRUST_REMOTE_CODE="${trust_remote_code:-false}" "$python" -m swift.cli.export \
    --adapters "$last" --merge_lora true --output_dir "$output/$4" --exist_ok true \
    --custom_register_path "$here/swift_plugins.py"
}

# Weights stay in main memory, and each layer comes to the card for its turn (FSDP 2): while the adapters reach vLLM, its
# own copy fills the card. vLLM has adapters of the language model only, so the vision tower gets none.
grpo() { # OVERRIDE...
  model="${model:-$output/cold_start}" output_dir="$output/stage3" print_config="$print" max_steps="${max_steps:-200}" \
    batch_size="${batch_size:-16}" mini_batch_size="${mini_batch_size:-16}" micro_batch_size="${micro_batch_size:-4}" \
    rollouts="${rollouts:-4}" learning_rate="${learning_rate:-1e-5}" max_prompt_length="${max_prompt_length:-1024}" \
    max_response_length="${max_response_length:-512}" gpu_memory_utilization="${gpu_memory_utilization:-0.8}" \
    bash "$here/step3_example.sh" \
    actor_rollout_ref.model.lora_rank="$lora_rank" actor_rollout_ref.model.lora_alpha="$lora_alpha" \
    actor_rollout_ref.model.target_modules=all-linear actor_rollout_ref.model.exclude_modules="'.*visual.*'" \
    actor_rollout_ref.model.use_fused_kernels=False \
    actor_rollout_ref.rollout.load_format=safetensors actor_rollout_ref.rollout.layered_summon=True \
    actor_rollout_ref.rollout.max_num_seqs=64 \
    actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.fsdp_config.offload_policy=True \
    actor_rollout_ref.actor.fsdp_config.model_dtype=bf16 "$@"
}

case "${1:-}" in
  1) sft 1 Qwen/Qwen2.5-VL-7B-Instruct 1e-4 scaffold "${@:2}" ;;
  2) sft 2 "$output/scaffold" 4e-5 cold_start "${@:2}" ;;
  3) grpo "${@:2}" ;;
  *) sed -n '2,9p' "${BASH_SOURCE[0]}" | cut -c3-; exit 2 ;;
esac
exit 0
}
