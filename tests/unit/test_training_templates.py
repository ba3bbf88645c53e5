"""The training templates as recipes: everything of the paper is in the file that a reader opens."""

import re

import pytest

from tests.helpers.commands import REPO
from train.verl_launch import hydra_string

SFT = {
    "model_type": "qwen2_5_vl", "train_type": "full", "freeze_vit": "true", "freeze_aligner": "true",
    "torch_dtype": "bfloat16", "gradient_checkpointing": "true",
    "gradient_checkpointing_kwargs": '{"use_reentrant": false}', "system": "You are a helpful assistant.",
    "max_length": "2048", "num_train_epochs": "1", "warmup_ratio": "0.05", "per_device_train_batch_size": "8",
    "gradient_accumulation_steps": "2", "n_gpu": "8", "logging_steps": "5", "eval_steps": "100", "save_steps": "1000",
    "save_total_limit": "2", "dataloader_num_workers": "8",
}  # fmt: skip
GRPO = {
    "algorithm.adv_estimator": "grpo", "algorithm.norm_adv_by_std_in_grpo": "False",
    "algorithm.use_kl_in_reward": "False", "data.train_batch_size": "64", "data.max_prompt_length": "4096",
    "data.max_response_length": "2048", "data.filter_overlong_prompts": "True",
    "actor_rollout_ref.model.enable_gradient_checkpointing": "True", "actor_rollout_ref.actor.optim.lr": "1e-6",
    "actor_rollout_ref.actor.ppo_mini_batch_size": "32", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": "4",
    "actor_rollout_ref.actor.kl_loss_coef": "0.01", "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "actor_rollout_ref.actor.entropy_coeff": "0", "actor_rollout_ref.ref.fsdp_config.param_offload": "True",
    "actor_rollout_ref.rollout.name": "vllm", "actor_rollout_ref.rollout.n": "8",
    "actor_rollout_ref.rollout.temperature": "1.0", "actor_rollout_ref.rollout.tensor_model_parallel_size": "1",
    "actor_rollout_ref.rollout.gpu_memory_utilization": "0.6", "trainer.save_freq": "100", "trainer.test_freq": "10",
    "trainer.total_epochs": "1", "trainer.n_gpus_per_node": "8", "trainer.logger": '["console","wandb"]',
}  # fmt: skip


def written(template, pattern):
    """Option → its value in the template's text, a variable's default in its place."""
    text = (REPO / "train" / template).read_text(encoding="utf-8")
    variables = {
        name: value.replace('\\"', '"') for name, value in re.findall(r'\b(\w+)="\$\{\1:-(.*?)\}"(?= |$)', text, re.M)
    }
    options = re.findall(pattern, text.partition("exec ")[2])
    return variables, {
        name: variables.get(value.strip("\"'").removeprefix("$"), value.strip("\"'")) for name, value in options
    }


@pytest.mark.parametrize(("stage", "rate"), [(1, "1e-5"), (2, "4e-6")])
def test_who_reads_a_template_of_ms_swift_reads_every_hyper_parameter_of_the_paper(stage, rate):
    variables, options = written(f"step{stage}_example.sh", r"--(\w+) (\"[^\"]*\"|'[^']*'|\S+)")
    expected = {**SFT, "learning_rate": rate}
    assert {name: options.get(name) for name in expected} == expected
    assert (variables["MIN_PIXELS"], variables["MAX_PIXELS"]) == ("200704", "451584")
    assert options["fsdp"].endswith("fsdp_offload.json")


def test_who_reads_the_template_of_verl_reads_every_hyper_parameter_of_the_paper():
    _, options = written("step3_example.sh", r"([\w.]+)=(\"[^\"]*\"|\S+)")
    assert {name: options.get(name) for name in GRPO} == GRPO


@pytest.mark.parametrize("template", ["step1_example.sh", "step2_example.sh", "step3_example.sh", "one_gpu_example.sh"])
def test_a_template_hides_nothing_in_another_file_and_is_short(template):
    text = (REPO / "train" / template).read_text(encoding="utf-8")
    assert re.findall(r"^ *(?:source|\.) (.*)$", text, re.MULTILINE) == ['"$repo/scripts/process_environment.sh"']
    assert len(text.splitlines()) <= 70


@pytest.mark.parametrize(
    "text", ["a b", "it's", "a,b=c", "\\", "a\\'b", "'", "\\\\", "[a]", "${x", "a\nb", "", "x: {y}", "null"]
)
def test_hydra_reads_any_text_as_it_is(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([f"key={hydra_string(text)}"])
    assert override.value() == text
