#!/usr/bin/env bash
# Stage 3, calibrated confidence: GRPO on the cold-start model with verl and the reward of cus_reward.py.
#
#   python=.venv/bin/python bash train/step3_example.sh
#   print_config=true bash train/step3_example.sh          # what verl would run with; starts nothing
#
# Several machines: `ray start --head` on the first, `ray start --address=FIRST:6379` on the others; then this on the
# first, with nnodes set. Every setting can come from the environment; overrides of verl follow the name of this file.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

python="${python:-python3}" verl_path="${verl_path:-}" # a checkout of verl; empty: the installed package
model="${model:-$repo/output/cold_start/checkpoint-333}" # folder of the cold-start model (stage 2)
dataset="${dataset:-$repo/input_data/VEC-CoT/stage3_train.parquet}" # training prompts in verl's format
validation="${validation:-$repo/input_data/VEC-CoT/stage3_val.parquet}" # validation prompts in verl's format
output_dir="${output_dir:-$repo/output/emocaliber}"
reward_path="${reward_path:-$repo/train/cus_reward.py}" # null: what scripts/install_reward.sh put into verl
rule="${rule:-}"                                      # empty: the paper's reward; rlcr, brier: see train/README.md
rollout_data="${rollout_data-$output_dir/rollouts}"   # each step's responses and rewards; empty: off
project_name="${project_name:-emocaliber}" experiment_name="${experiment_name:-$(basename -- "$output_dir")}"
logger="${logger:-[\"console\",\"wandb\"]}"           # [\"console\"] without wandb
n_gpu="${n_gpu:-8}" nnodes="${nnodes:-1}"             # per machine; machines
batch_size="${batch_size:-64}" rollouts="${rollouts:-8}" # prompts per step, responses per prompt
mini_batch_size="${mini_batch_size:-32}" micro_batch_size="${micro_batch_size:-4}" # prompts per update, per device
learning_rate="${learning_rate:-1e-6}" kl_coefficient="${kl_coefficient:-0.01}" temperature="${temperature:-1.0}"
max_prompt_length="${max_prompt_length:-4096}" max_response_length="${max_response_length:-2048}" # tokens
gpu_memory_utilization="${gpu_memory_utilization:-0.6}" save_freq="${save_freq:-100}" test_freq="${test_freq:-10}"
epochs="${epochs:-1}" max_steps="${max_steps:-null}" seed="${seed:-null}" # null: all steps; prompts in no fixed order
attn_impl="${attn_impl:-}"                            # empty: flash_attn where it is installed, else sdpa
verl_args="${verl_args:-}"                            # further overrides, as one string of words
trust_remote_code="${trust_remote_code:-false}" allow_pickle="${allow_pickle:-false}" # true: run its code; read pickles
overwrite="${overwrite:-false}"                       # true: start anew in a folder that has been trained in
resume_anyway="${resume_anyway:-false}"               # true: go on there with another model, other data or settings
print_config="${print_config:-false}"                 # true: what verl would run with; starts nothing

# shellcheck source-path=SCRIPTDIR source=../scripts/process_environment.sh
source "$repo/scripts/process_environment.sh"

exec "$python" "$repo/train/launch.py" --stage 3 --checkout "$verl_path" --print "$print_config" \
  --overwrite "$overwrite" --resume_anyway "$resume_anyway" --allow_pickle "$allow_pickle" \
  --trust_remote_code "$trust_remote_code" --more="$verl_args" \
  -- verl.trainer.main_ppo hydra.run.dir="$output_dir/hydra" \
  algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo=False algorithm.use_kl_in_reward=False \
  data.train_files="$dataset" data.val_files="$validation" data.image_key=images data.seed="$seed" \
  data.train_batch_size="$batch_size" data.filter_overlong_prompts=True data.truncation=right \
  data.max_prompt_length="$max_prompt_length" data.max_response_length="$max_response_length" \
  actor_rollout_ref.model.path="$model" ++actor_rollout_ref.model.override_config.attn_implementation="$attn_impl" \
  actor_rollout_ref.model.trust_remote_code="$trust_remote_code" actor_rollout_ref.model.use_remove_padding=False \
  actor_rollout_ref.model.use_fused_kernels=True actor_rollout_ref.model.enable_gradient_checkpointing=True \
  actor_rollout_ref.actor.optim.lr="$learning_rate" actor_rollout_ref.actor.ppo_mini_batch_size="$mini_batch_size" \
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu="$micro_batch_size" actor_rollout_ref.actor.entropy_coeff=0 \
  actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef="$kl_coefficient" \
  actor_rollout_ref.actor.kl_loss_type=low_var_kl \
  actor_rollout_ref.actor.fsdp_config.param_offload=False actor_rollout_ref.actor.fsdp_config.optimizer_offload=False \
  actor_rollout_ref.ref.fsdp_config.param_offload=True \
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu="$micro_batch_size" \
  actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu="$micro_batch_size" \
  actor_rollout_ref.rollout.n="$rollouts" actor_rollout_ref.rollout.gpu_memory_utilization="$gpu_memory_utilization" \
  actor_rollout_ref.rollout.temperature="$temperature" actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
  actor_rollout_ref.rollout.enable_chunked_prefill=False actor_rollout_ref.rollout.enforce_eager=False \
  actor_rollout_ref.rollout.free_cache_engine=True \
  +actor_rollout_ref.rollout.engine_kwargs.vllm.disable_mm_preprocessor_cache=True \
  custom_reward_function.path="$reward_path" custom_reward_function.name=compute_score \
  ${rule:+++custom_reward_function.reward_kwargs.rule="$rule"} \
  trainer.n_gpus_per_node="$n_gpu" trainer.nnodes="$nnodes" trainer.total_epochs="$epochs" trainer.critic_warmup=0 \
  trainer.total_training_steps="$max_steps" trainer.save_freq="$save_freq" trainer.test_freq="$test_freq" \
  trainer.project_name="$project_name" trainer.experiment_name="$experiment_name" trainer.logger="$logger" \
  trainer.default_local_dir="$output_dir" ${rollout_data:+trainer.rollout_data_dir="$rollout_data"} \
  ++transfer_queue.backend.SimpleStorage.num_data_storage_units="$n_gpu" trainer.resume_mode=auto "$@"
