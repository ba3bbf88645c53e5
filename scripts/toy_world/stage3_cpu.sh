#!/usr/bin/env bash
# Stage 3 on a machine without a GPU: train/step3_example.sh with the CPU adapter and a toy model's settings.
#
#   python=.venv/bin/python model=scripts/toy_world/checkpoint dataset=train.parquet validation=val.parquet \
#     bash scripts/toy_world/stage3_cpu.sh
#
# Every setting of the template can be given here, too.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh script`
set -euo pipefail
repo="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"

# A toy model's settings where they differ from the paper's. With few responses per step the gradient is
# noisy: a constant rate or a weaker pull to the reference lets answers decay while confidence calibrates.
export batch_size="${batch_size:-32}" rollouts="${rollouts:-4}" mini_batch_size="${mini_batch_size:-32}"
export micro_batch_size="${micro_batch_size:-32}"
export learning_rate="${learning_rate:-1.2e-4}" kl_coefficient="${kl_coefficient:-0.05}"
warmup_steps="${warmup_steps:-8}"
export max_prompt_length="${max_prompt_length:-144}" max_response_length="${max_response_length:-80}"
export save_freq="${save_freq:-20}" test_freq="${test_freq:-10}"
export logger="${logger:-[\"console\"]}" attn_impl="${attn_impl:-sdpa}"
threads="${threads:-2}"

cpu=(
  # A GPU that Ray only counts: verl asks for one to place its worker.
  +ray_kwargs.ray_init.num_gpus=1
  +ray_kwargs.ray_init.include_dashboard=False
  +ray_kwargs.ray_init._node_ip_address=127.0.0.1
  +ray_kwargs.ray_init.object_store_memory=500000000
  # float32; no CUDA graphs, no memory to hand back and forth.
  ++actor_rollout_ref.actor.fsdp_config.dtype=float32
  ++actor_rollout_ref.ref.fsdp_config.dtype=float32
  ++actor_rollout_ref.ref.fsdp_config.model_dtype=fp32
  actor_rollout_ref.model.enable_gradient_checkpointing=False
  actor_rollout_ref.rollout.dtype=float32
  actor_rollout_ref.rollout.enforce_eager=True
  actor_rollout_ref.rollout.free_cache_engine=False
  actor_rollout_ref.actor.use_torch_compile=False
  actor_rollout_ref.ref.use_torch_compile=False
  actor_rollout_ref.actor.optim.lr_warmup_steps="$warmup_steps"
  actor_rollout_ref.actor.optim.lr_scheduler_type=cosine
  data.dataloader_num_workers=0
)
verl="$("${python:-python3}" -c 'from importlib.metadata import version; print(version("verl"))')"
if [[ "$(printf '%s\n' 0.9 "$verl" | sort --version-sort | head -n 1)" == 0.9 ]]; then
  export VERL_USE_EXTERNAL_MODULES=scripts.toy_world.verl_cpu VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda
  cpu+=(
    trainer.device=cpu
    ++actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32
    ++actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype=fp32
    ++actor_rollout_ref.rollout.enable_sleep_mode=False
    # vLLM tries the largest batch of images and videos that it allows before it starts: none of videos.
    +actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=1
    +actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.video=0
    # Its worker in its engine's process: each process imports everything anew.
    +actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend=uni
    actor_rollout_ref.rollout.max_num_seqs=64
    actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=64
    # One process of each kind: the defaults (8) are for a machine of many cores.
    ray_kwargs.ray_init.num_cpus=8
    actor_rollout_ref.rollout.agent.num_workers=1
    reward.num_workers=1
  )
else
  export VERL_USE_EXTERNAL_MODULES=scripts.toy_world.verl_cpu_0_6
  # Prompts that share a cached block end the CPU engine of vLLM 0.11 ("Sliding window unsupported").
  cpu+=(ray_kwargs.ray_init.num_cpus=4 actor_rollout_ref.rollout.enable_prefix_caching=False)
fi
export n_gpu=1 nnodes=1
export PYTHONPATH="$repo${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS="$threads" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 RAY_USAGE_STATS_ENABLED=0 RAY_DEDUP_LOGS=0 RAY_AUTH_MODE=disabled
variables="$("${python:-python3}" -m inference.engines.vllm_cpu)"
while IFS= read -r variable; do export "${variable?}"; done <<< "$variables"
export HF_HUB_OFFLINE=1 HYDRA_FULL_ERROR=1
exec bash "$repo/train/step3_example.sh" "${cpu[@]}" "$@"
