#!/usr/bin/env bash
# All three stages on one 24 GB card: LoRA instead of all parameters, fewer and shorter rollouts.
#
#   python=.venv/bin/python bash train/one_gpu_example.sh 1     # then 2, then 3
#   print=true bash train/one_gpu_example.sh 1                  # what would run; starts nothing
#
# Not the paper's training: a way to try the recipe. The stages' own templates run with the
# settings below; every one can come from the environment. Stages 1 and 2 end with adapters, which
# this script merges into a model folder for the next stage.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
repo="$(dirname -- "$here")"

stage="${1:-}"
print="${print:-false}"
export python="${python:-python3}" n_gpu=1
output="${output:-$repo/output/one_gpu}"                # a folder a stage
lora_rank="${lora_rank:-32}"

{ # read whole before it runs: bash would otherwise follow an edit of this file in mid-run
source "$repo/scripts/process_environment.sh"
lora="--lora_rank $lora_rank --lora_alpha $((2 * lora_rank)) --target_modules all-linear"
case "$stage" in
  1 | 2)
    # Batch 128 as published, one sample at a time; a rate that LoRA needs (ten times the full one and more).
    export train_type="${train_type:-lora}" batch_size="${batch_size:-1}" accumulation="${accumulation:-128}"
    export max_length="${max_length:-2048}" save_steps="${save_steps:-100}"
    export swift_args="$lora ${swift_args:-}" print_command="$print"
    ;;&
  1)
    export learning_rate="${learning_rate:-1e-4}" output_dir="$output/stage1" model="${model:-Qwen/Qwen2.5-VL-7B-Instruct}"
    ;;
  2)
    export learning_rate="${learning_rate:-4e-5}" output_dir="$output/stage2" model="${model:-$output/scaffold}"
    ;;
  3)
    # Weights leave the card while vLLM samples, and vLLM sleeps while the adapters are trained.
    export batch_size="${batch_size:-16}" rollouts="${rollouts:-4}" mini_batch_size="${mini_batch_size:-16}"
    export micro_batch_size="${micro_batch_size:-1}" learning_rate="${learning_rate:-1e-5}"
    export max_prompt_length="${max_prompt_length:-1024}" max_response_length="${max_response_length:-512}"
    export gpu_memory_utilization="${gpu_memory_utilization:-0.8}" max_steps="${max_steps:-200}"
    export model="${model:-$output/cold_start}" output_dir="$output/stage3" print_config="$print"
    verl_args="${verl_args:-}"
    verl_args+=" actor_rollout_ref.model.lora_rank=$lora_rank actor_rollout_ref.model.lora_alpha=$((2 * lora_rank))"
    verl_args+=" actor_rollout_ref.model.target_modules=all-linear actor_rollout_ref.rollout.load_format=safetensors"
    verl_args+=" actor_rollout_ref.rollout.layered_summon=True actor_rollout_ref.model.use_fused_kernels=False"
    verl_args+=" actor_rollout_ref.actor.fsdp_config.param_offload=True"
    verl_args+=" actor_rollout_ref.actor.fsdp_config.optimizer_offload=True"
    verl_args+=" actor_rollout_ref.actor.fsdp_config.model_dtype=bf16"
    export verl_args
    ;;
  *)
    sed -n '2,10p' "${BASH_SOURCE[0]}" | cut -c3-
    exit 2
    ;;
esac

bash "$here/step${stage}_example.sh"
[[ "$print" != true && "$stage" != 3 ]] || exit 0

last="$(find "$output_dir" -maxdepth 1 -type d -name 'checkpoint-*' | sort -V | tail -n 1)"
merged="$output/$([[ "$stage" == 1 ]] && echo scaffold || echo cold_start)"
if [[ -f "$last/adapter_config.json" ]]; then
  echo "Merging the adapters of $last into $merged"
  USE_HF=1 TRUST_REMOTE_CODE="${trust_remote_code:-false}" "$python" -m swift.cli.export --custom_register_path "$here/no_remote_code.py" --adapters "$last" --merge_lora true --output_dir "$merged" --exist_ok true
fi
exit 0
}
