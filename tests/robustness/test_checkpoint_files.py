"""A checkpoint that would run code of its own is refused, by every command that loads one."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.engines.checkpoints import CheckpointRefused, check_checkpoint, check_code, pickled_weights, remote_code
from tests.helpers.commands import REPO, TOY_CHECKPOINT, TOY_PIXELS, run, write_jsonl
from tests.helpers.hub_server import Hub


class Trap:
    """Writes a file when it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.fixture
def witness(tmp_path):
    """A file that is only there when a trap went off; at the end of the test it must not be."""
    path = tmp_path / "the trap went off"
    yield path
    assert not path.exists()


def copy_without_weights(folder):
    shutil.copytree(TOY_CHECKPOINT, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.fixture
def trapped(tmp_path, witness):
    """The toy checkpoint, with pickled weights that write ``witness``; shown to do so when read as pickles are."""
    folder = copy_without_weights(tmp_path / "trapped")
    weights = load_file(TOY_CHECKPOINT / "model.safetensors")
    torch.save({**weights, "trap": Trap(witness)}, folder / "pytorch_model.bin")
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert witness.exists()
    witness.unlink()
    return folder


@pytest.fixture
def with_code(tmp_path, witness):
    """The toy checkpoint with a configuration class of its own, which writes ``witness``."""
    folder = tmp_path / "with code"
    shutil.copytree(TOY_CHECKPOINT, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own_config.OwnConfig"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own_config.py").write_text(
        f"import pathlib\npathlib.Path({str(witness)!r}).touch()\n"
        "from transformers import Qwen2_5_VLConfig\nclass OwnConfig(Qwen2_5_VLConfig): pass\n"
    )
    return folder


def infer_options(engine, checkpoint, data, output, *more):
    return [
        "--engine", engine, "--checkpoint", checkpoint, "--data_path", data, "--output_path", output, "--limit", "1",
        "--max_new_tokens", "8", "--temperature", "0", *TOY_PIXELS, *more,
    ]  # fmt: skip


def infer(*arguments):
    return run("-m", "inference.inference_vllm", *infer_options(*arguments), check=False)


@pytest.mark.parametrize("engine", ["vllm", "transformers", "ray"])
def test_pickled_weights_are_refused_in_one_line_before_anything_is_loaded(engine, trapped, toy_data, tmp_path):
    done = infer(engine, trapped, toy_data, tmp_path / "run")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{trapped / 'pytorch_model.bin'}: the weights are pickled")
    assert "give --allow_pickle" in last


def test_single_images_refuse_them_too(trapped, toy_data):
    image = next((toy_data.parent / "images").rglob("*.png"))
    done = run("-m", "inference.predict", image, "--checkpoint", trapped, check=False)
    assert done.returncode == 2 and "give --allow_pickle" in done.stderr.splitlines()[-1]


@pytest.mark.security
@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_even_allowed_the_frameworks_run_no_code_of_a_pickle(engine, trapped, toy_data, tmp_path):
    done = infer(engine, trapped, toy_data, tmp_path / "run", "--allow_pickle")
    assert done.returncode != 0
    said = done.stdout + done.stderr  # vLLM names the setting, transformers only the file
    assert "weights_only" in said or f"Unable to load weights from pytorch checkpoint file for '{trapped}" in said


@pytest.mark.security
@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_the_frameworks_refuse_pickles_also_where_nobody_looked_before(engine, trapped, toy_data, tmp_path):
    """As with a hub name, of whose weights nothing is known before: the check alone is left out."""
    unchecked = (
        "import inference.engines.load as e, inference.inference_vllm as i; e.check_checkpoint = print; i.main()"
    )
    options = infer_options(engine, trapped, toy_data, tmp_path / "run")
    done = run(sys.executable, "-c", unchecked, *options, check=False)
    assert done.returncode == 1 and "give --allow_pickle" not in done.stderr


@pytest.mark.security
def test_honest_pickled_weights_are_read_when_asked_for(toy_data, tmp_path):
    folder = copy_without_weights(tmp_path / "pickled")
    torch.save(load_file(TOY_CHECKPOINT / "model.safetensors"), folder / "pytorch_model.bin")
    done = infer("transformers", folder, toy_data, tmp_path / "run", "--allow_pickle")
    assert "read 1 = predicted 1" in done.stderr


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_code_of_a_checkpoint_does_not_run_unless_asked_for(engine, with_code, toy_data, tmp_path):
    done = infer(engine, with_code, toy_data, tmp_path / "run")
    assert done.returncode == 2
    assert f"{with_code / 'config.json'}: names Python code" in done.stderr.splitlines()[-1]


@pytest.mark.security
def test_merging_reads_tensors_only(tmp_path, witness):
    actor = tmp_path / "global_step_1" / "actor"
    shutil.copytree(TOY_CHECKPOINT, actor / "huggingface", ignore=shutil.ignore_patterns("*.safetensors"))
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 1, "world_size": 1}))
    weights = load_file(TOY_CHECKPOINT / "model.safetensors")
    torch.save({**weights, "trap": Trap(witness)}, actor / "model_world_size_1_rank_0.pt")
    done = run("-m", "scripts.merge_checkpoint", tmp_path / "global_step_1", check=False)
    assert done.returncode == 2
    assert "a shard holds more than tensors" in done.stderr and "give --allow_pickle" in done.stderr
    assert not (tmp_path / "merged_1").exists()


# The templates of training


def train(template, **settings):
    environment = {**os.environ, "python": sys.executable, **{name: str(value) for name, value in settings.items()}}
    return run("bash", REPO / "train" / template, env=environment, check=False)


@pytest.mark.parametrize("template", ["step1_example.sh", "step2_example.sh", "step3_example.sh"])
def test_training_starts_neither_from_pickled_weights_nor_with_code_of_the_model(
    template, trapped, with_code, tmp_path, witness
):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    settings = {"dataset": rows, "validation": rows, "output_dir": tmp_path / "out", "logger": '["console"]'}
    for model, option in ((trapped, "--allow_pickle"), (with_code, "--trust_remote_code")):
        done = train(template, model=model, **settings)
        assert done.returncode == 2 and f"give {option}" in done.stderr
    assert not (tmp_path / "out").exists()


SWIFT = """
import os, sys
from importlib.machinery import SourceFileLoader
SourceFileLoader("swift_plugins", sys.argv[2]).load_module()
from tests.helpers.ms_swift import get_model_processor
get_model_processor(sys.argv[1], load_model=False, model_type="qwen2_5_vl", use_hf=True)
"""


@pytest.mark.security
def test_ms_swift_which_trusts_every_model_runs_no_code_of_one(with_code, witness):
    """Without the module it would: that is shown first, so that the test can fail."""
    call = (sys.executable, "-c", SWIFT, with_code, REPO / "train" / "swift_plugins.py")
    run(*call, check=False, env={**os.environ, "TRUST_REMOTE_CODE": "true"})
    assert witness.exists()
    witness.unlink()
    done = run(*call, check=False)
    assert done.returncode != 0 and "set trust_remote_code=true if you have read it" in done.stderr


@pytest.mark.security
@pytest.mark.parametrize("trusted", [False, True])
def test_stage_1_registers_that_module_with_ms_swift(with_code, toy_data, tmp_path, witness, trusted):
    """The whole template: what the check before the start cannot see (a hub name) ends here."""
    message = {"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "<answer>awe</answer>"}
    image = str(next((toy_data.parent / "images").rglob("*.png")))
    data = write_jsonl(tmp_path / "rows.jsonl", [{"messages": list(message), "images": [image]}] * 2)
    for folder in ("train", "scripts"):  # the templates source a file there
        shutil.copytree(REPO / folder, tmp_path / folder)
    script = tmp_path / "train" / "launch.py"  # a copy without the check before the start
    text = script.read_text()
    assert "        check_checkpoint(" in text
    script.write_text(text.replace("        check_checkpoint(", "        ("))
    settings = {"dataset": data, "model": with_code, "output_dir": tmp_path / "out", "use_cpu": "true", "max_steps": 1,
                "batch_size": 1, "accumulation": 1, "workers": 0, "split_dataset_ratio": 0, "MIN_PIXELS": 3136,
                "MAX_PIXELS": 12544, "trust_remote_code": str(trusted).lower(), "PYTHONPATH": REPO}  # fmt: skip
    environment = {**os.environ, "python": sys.executable, **{name: str(value) for name, value in settings.items()}}
    done = run("bash", tmp_path / "train" / "step1_example.sh", env=environment, check=False)
    if trusted:
        assert witness.exists()
        witness.unlink()
    else:
        assert done.returncode != 0 and "set trust_remote_code=true if you have read it" in done.stderr + done.stdout


# What counts as what


def test_a_trainer_s_own_files_beside_safetensors_or_alone_are_no_weights(tmp_path):
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(1))
    assert pickled_weights(tmp_path) == []
    (tmp_path / "consolidated.00.pth").write_bytes(b"")
    with pytest.raises(CheckpointRefused, match="consolidated"):
        check_code(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    check_code(tmp_path)


def test_auto_map_is_seen_in_every_file_however_it_is_spelled(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"auto\\u005fmap": {"AutoTokenizer": ["a.B", null]}}')
    (tmp_path / "config.json").write_text('{"vision_config": {"auto_map": {"AutoConfig": "other/repository--a.B"}}}')
    (tmp_path / "lightglue.json").write_text('{"parts": [{"trust_remote_code": true}]}')
    (tmp_path / "kernel.json").write_text('{"text_config": {"_attn_implementation": "somebody/kernel"}}')
    (tmp_path / "kernels.json").write_text('{"attn_implementation": {"": "sdpa", "vision_config": "somebody/kernel"}}')
    (tmp_path / "internal.json").write_text('{"_attn_implementation_internal": "somebody/kernel"}')
    (tmp_path / "parts.json").write_text('{"attn_implementation": {"vision_config": "eager"}, "more": {"a": "b/c"}}')
    (tmp_path / "fine.json").write_text('{"trust_remote_code": false, "attn_implementation": "sdpa", "auto_map": null}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty.json").write_text('{"auto_map": {}}')
    names = [path.stem for path in remote_code(tmp_path)]
    assert names == ["config", "internal", "kernel", "kernels", "lightglue", "tokenizer_config"]


def test_a_generate_function_of_its_own_is_code(tmp_path):
    (tmp_path / "custom_generate").mkdir()
    (tmp_path / "custom_generate" / "generate.py").write_text("def generate(model, **kwargs): ...\n")
    with pytest.raises(CheckpointRefused, match=r"custom_generate/generate\.py"):
        check_code(tmp_path)
    check_code(tmp_path, trust_remote_code=True)


def test_the_shipped_checkpoint_passes():
    check_checkpoint(TOY_CHECKPOINT)


def check_on_hub(hub, name, folder, *more):
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder)}
    return run("-m", "inference.engines.checkpoints", name, *more, check=False, env=environment)


def test_a_hub_model_is_looked_at_before_anything_is_loaded(tmp_path):
    with Hub() as hub:
        hub.add("models", "good/model", {"config.json": b'{"model_type": "qwen2_5_vl"}', "model.safetensors": b"x"})
        hub.add("models", "bad/model", {"config.json": b'{"auto_map": {"AutoConfig": "a.B"}}', "a.py": b"x"})
        assert check_on_hub(hub, "good/model", tmp_path).returncode == 0
        done = check_on_hub(hub, "bad/model", tmp_path)
        assert done.returncode == 2 and "give --trust_remote_code" in done.stderr
        assert check_on_hub(hub, "bad/model", tmp_path, "--trust_remote_code").returncode == 0
        done = check_on_hub(hub, "no/model", tmp_path)
        assert done.returncode == 2 and "nor to be had from the hub" in done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.suffix in (".py", ".safetensors")] == []


def test_no_command_trusts_code_by_default():
    texts = {
        path: path.read_text() for folder in ("inference", "scripts", "train") for path in (REPO / folder).rglob("*.py")
    }
    trusting = [path for path, text in texts.items() if "trust_remote_code=True" in text.replace(" ", "")]
    assert trusting == []
    assert [path for path, text in texts.items() if "weights_only=False" in text.replace(" ", "")] == []
