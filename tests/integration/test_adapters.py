"""A LoRA adapter beside its base answers as the merged model does, in both engines; what does not fit is refused."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from inference.engines.adapters import base_doubt, check_adapter, room_for_rank
from inference.engines.checkpoints import CheckpointRefused, check_checkpoint
from inference.runs.shards import read_results, shard_path
from tests.helpers.commands import REPO, TOY_CHECKPOINT, TOY_PIXELS, run
from tests.helpers.forked import run_forked

LANGUAGE = r".*language_model.*\.(q_proj|v_proj|up_proj|down_proj)"


def toy_model():
    return AutoModelForImageTextToText.from_pretrained(TOY_CHECKPOINT, dtype=torch.float32)


def save_adapter(folder, targets=LANGUAGE, rank=4, **more):
    """A random adapter of the toy model, large enough to change answers, as peft saves it."""
    torch.manual_seed(0)
    model = get_peft_model(toy_model(), LoraConfig(r=rank, lora_alpha=8, target_modules=targets, **more))
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_B" in name:
                values.normal_(std=0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("adapters") / "emotional")


@pytest.fixture(scope="module")
def merged(adapter):
    """A model folder with the adapter's product added to the weights."""
    folder = adapter.parent / "merged"
    shutil.copytree(TOY_CHECKPOINT, folder)
    PeftModel.from_pretrained(toy_model(), adapter).merge_and_unload().save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        shutil.copy(TOY_CHECKPOINT / name, folder)
    return folder


def infer(data, output, *more, check=True):
    """Greedy responses by sample, and what the command printed."""
    done = run_forked(
        "-m", "inference.inference_vllm", "--data_path", data, "--output_path", output, "--temperature", "0",
        "--max_new_tokens", "100", *TOY_PIXELS, *more, check=check,
    )  # fmt: skip
    return {result["sample_id"]: result.get("response") for result in read_results(shard_path(output, 0, 1))}, done


def test_responses_with_an_adapter_are_those_of_the_merged_model(adapter, merged, toy_data, tmp_path):
    def responses(name, engine, *more):
        return infer(toy_data, tmp_path / name, "--engine", engine, "--limit", "12", *more)[0]

    together = responses("merged", "transformers", "--checkpoint", merged)
    assert len(together) == 12 and None not in together.values()
    apart = ["--checkpoint", TOY_CHECKPOINT, "--adapter", adapter]
    assert responses("apart", "transformers", *apart) == together
    assert responses("apart, vLLM", "vllm", *apart) == together
    base = responses("base", "transformers", "--checkpoint", TOY_CHECKPOINT)
    assert sum(together[name] != base[name] for name in base) >= 6


def test_the_main_job_names_the_adapter_and_its_hash_and_refuses_another_one_under_way(adapter, toy_data, tmp_path):
    output = tmp_path / "run"
    settings = {
        "checkpoint": TOY_CHECKPOINT, "adapter": adapter, "data_path": toy_data, "output_path": output, "limit": 3,
        "engine": "transformers", "temperature": 0, "max_new_tokens": 60, "min_pixels": 3136, "max_pixels": 12544,
        "report": "false",
    }  # fmt: skip
    command = ["env", *(f"{name}={value}" for name, value in settings.items()), "bash"]
    template = REPO / "inference" / "infer_and_eval_example.sh"
    run(*command, template)
    identity = json.loads((output / "run.json").read_text())["identity"]
    assert len(identity["adapter"]["sha256"]) == 64
    assert identity["settings"]["model_name"] == "checkpoint+emotional"
    assert f"adapter {identity['adapter']['sha256'][:16]}" in (output / "metric.log").read_text()
    run("-m", "inference.provenance", output)
    other = save_adapter(tmp_path / "emotional", rank=2)
    command[command.index(f"adapter={adapter}")] = f"adapter={other}"
    done = run(*command, template, check=False)
    assert done.returncode != 0 and "adapter.sha256 was" in done.stderr
    run_json = output / "run.json"
    run_json.write_text(run_json.read_text().replace(str(adapter), str(other)))
    done = run("-m", "inference.provenance", output, check=False)
    assert done.returncode == 1 and f"DIFFERENT: adapter {other} has changed since" in done.stdout


def changed(adapter, folder, change=None, **config):
    """A copy of the adapter with other configuration or tensors."""
    shutil.copytree(adapter, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    if change:
        save_file(change(load_file(folder / "adapter_model.safetensors")), folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_of_another_base_is_refused_with_the_first_layer_that_does_not_fit(adapter, tmp_path):
    wider = changed(adapter, tmp_path / "wider", lambda tensors: {
        name: torch.cat([values, values], dim=1) if "lora_A" in name else values for name, values in tensors.items()
    })  # fmt: skip
    with pytest.raises(
        CheckpointRefused, match=r"wider/adapter_model.safetensors: an adapter of another base .*of shape"
    ):
        check_adapter(wider, TOY_CHECKPOINT, "transformers")
    deeper = changed(adapter, tmp_path / "deeper", lambda tensors: {
        name.replace("layers.0.", "layers.40."): values for name, values in tensors.items()
    })  # fmt: skip
    with pytest.raises(CheckpointRefused, match=r"it changes layers\.40\..* is not there"):
        check_adapter(deeper, TOY_CHECKPOINT, "vllm")


def test_an_adapter_of_the_vision_tower_is_refused_by_vllm_alone(tmp_path):
    seeing = save_adapter(tmp_path / "seeing", targets=r".*(visual.*\.qkv|language_model.*\.q_proj)")
    check_adapter(seeing, TOY_CHECKPOINT, "transformers")
    with pytest.raises(CheckpointRefused, match=r"layers of the vision tower, visual\.blocks\.0\.attn\.qkv\.weight"):
        check_adapter(seeing, TOY_CHECKPOINT, "vllm")


@pytest.mark.parametrize(
    "more",
    [{"use_dora": True}, {"alpha_pattern": {"up_proj": 64}}, {"rank_pattern": {"up_proj": 2}},
     {"init_lora_weights": "pissa"}],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
def test_more_than_plain_low_rank_matrices_is_refused_by_vllm_alone(tmp_path, more):
    """It does not know the patterns' ranks and scalings, nor that PiSSA has changed the base."""
    weighted = save_adapter(tmp_path / "weighted", **more)
    check_adapter(weighted, TOY_CHECKPOINT, "transformers")
    with pytest.raises(CheckpointRefused, match=f"field '{next(iter(more))}': vllm takes plain LoRA of linear layers"):
        check_adapter(weighted, TOY_CHECKPOINT, "vllm")


def test_what_is_no_adapter_is_refused_in_one_line_that_names_file_and_field(adapter, tmp_path):
    cases = {
        TOY_CHECKPOINT: r"checkpoint/adapter_config.json: no such file, .*it holds a model: give it as checkpoint",
        tmp_path: r"adapter_config.json: no such file, expected the folder of a LoRA adapter$",
        changed(adapter, tmp_path / "prompt", peft_type="PROMPT_TUNING"): r"field 'peft_type': expected LORA",
        changed(adapter, tmp_path / "none", r=0): r"field 'r': expected a number of at least 1, got 0",
        changed(adapter, tmp_path / "huge", r=1024): r"field 'r': vllm takes at most 512, got 1024",
    }
    for folder, message in cases.items():
        with pytest.raises(CheckpointRefused, match=message):
            check_adapter(folder, TOY_CHECKPOINT, "vllm")
    cut = changed(adapter, tmp_path / "cut") / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    with pytest.raises(CheckpointRefused, match="not a whole safetensors file"):
        check_adapter(cut.parent, TOY_CHECKPOINT, "vllm")
    cut.unlink()
    with pytest.raises(CheckpointRefused, match=r"adapter_model\.safetensors: no such file"):
        check_adapter(cut.parent, TOY_CHECKPOINT, "vllm")


def test_an_adapter_given_as_the_checkpoint_is_answered_with_what_to_give(adapter):
    with pytest.raises(
        CheckpointRefused, match=rf"give checkpoint=.*scripts/toy_world/checkpoint adapter={adapter}, or merge"
    ):
        check_checkpoint(adapter)


def test_another_base_by_name_is_said_and_ranks_round_up(adapter, tmp_path):
    assert base_doubt(adapter, str(TOY_CHECKPOINT)) is None
    assert "trained on" in base_doubt(adapter, "Qwen/Qwen2.5-VL-7B-Instruct")
    copy = shutil.copytree(TOY_CHECKPOINT, tmp_path / "another base")
    done = run("-m", "inference.predict", REPO / "images" / "example_prediction.png", "--checkpoint", copy,
               "--adapter", adapter)  # fmt: skip
    assert f"{adapter}: says that it was trained on {TOY_CHECKPOINT}, and is loaded beside {copy}" in done.stderr
    assert room_for_rank(adapter) == 8
    assert room_for_rank(changed(adapter, tmp_path / "ranked", r=33)) == 64
