"""Stage 3's template: every override is accepted by verl's own composition and validation."""

import os
import sys

import pytest
from omegaconf import OmegaConf

from tests.helpers.commands import REPO, run
from tests.helpers.verl_process import validate

TEMPLATE = REPO / "train" / "step3_example.sh"


def composed(**settings):
    """What verl would run with, as verl's own Hydra application prints it."""
    environment = {**os.environ, "python": sys.executable, "print_config": "true", **settings}
    return OmegaConf.create(run("bash", TEMPLATE, env=environment).stdout)


@pytest.fixture(scope="module")
def config():
    return composed(dataset="/data/it's a, b=c.parquet", validation="/data/val.parquet", model="/models/cold start")


def test_verls_own_validation_accepts_the_template(config):
    validate(config)


def test_the_settings_are_the_papers(config):
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (config.algorithm.adv_estimator, config.algorithm.norm_adv_by_std_in_grpo) == ("grpo", False)
    assert not config.algorithm.use_kl_in_reward
    assert (config.data.train_batch_size, rollout.n, actor.ppo_mini_batch_size) == (64, 8, 32)
    assert actor.ppo_micro_batch_size_per_gpu == 4
    assert (config.data.max_prompt_length, config.data.max_response_length) == (4096, 2048)
    assert config.data.filter_overlong_prompts
    assert actor.optim.lr == 1e-6
    assert (actor.use_kl_loss, actor.kl_loss_coef, actor.kl_loss_type, actor.entropy_coeff) == (
        True,
        0.01,
        "low_var_kl",
        0,
    )
    assert config.actor_rollout_ref.model.enable_gradient_checkpointing
    assert config.actor_rollout_ref.ref.fsdp_config.param_offload
    assert not actor.fsdp_config.param_offload
    assert (rollout.name, rollout.tensor_model_parallel_size, rollout.gpu_memory_utilization) == ("vllm", 1, 0.6)
    assert rollout.temperature == 1
    trainer = config.trainer
    assert (trainer.save_freq, trainer.test_freq, trainer.total_epochs, trainer.n_gpus_per_node) == (100, 10, 1, 8)
    assert list(trainer.logger) == ["console", "wandb"]


def test_paths_with_spaces_quotes_and_commas_arrive_whole(config):
    assert config.data.train_files == "/data/it's a, b=c.parquet"
    assert config.actor_rollout_ref.model.path == "/models/cold start"
    reads = config.reward if "reward" in config else config  # where the installed verl reads it
    assert reads.custom_reward_function.path == str(REPO / "train" / "cus_reward.py")


def test_every_setting_comes_from_the_environment_and_more_overrides_can_be_added():
    config = composed(n_gpu="4", nnodes="2", batch_size="32", verl_args="trainer.total_training_steps=7 data.seed=3")
    assert (config.trainer.n_gpus_per_node, config.trainer.nnodes, config.data.train_batch_size) == (4, 2, 32)
    assert (config.trainer.total_training_steps, config.data.seed) == (7, 3)
    assert config.transfer_queue.backend.SimpleStorage.num_data_storage_units == 4


def test_vllm_has_room_for_a_prompt_and_a_response_wherever_their_lengths_come_from(config):
    assert config.actor_rollout_ref.rollout.max_model_len == 4096 + 2048
    longer = composed(verl_args="data.max_prompt_length=5000")
    assert longer.actor_rollout_ref.rollout.max_model_len == 5000 + 2048
    given = composed(verl_args="actor_rollout_ref.rollout.max_model_len=9000")
    assert given.actor_rollout_ref.rollout.max_model_len == 9000


def test_a_missing_model_or_file_is_named_before_anything_starts(tmp_path):
    environment = {**os.environ, "python": sys.executable, "model": "/nowhere"}
    done = run("bash", TEMPLATE, env=environment, check=False)
    assert done.returncode == 2
    assert "no folder at model=/nowhere. Set model" in done.stderr
    done = run("bash", TEMPLATE, env={**environment, "model": str(tmp_path), "dataset": "/none.parquet"}, check=False)
    assert done.returncode == 2
    assert "no file at dataset=/none.parquet. Set dataset" in done.stderr
