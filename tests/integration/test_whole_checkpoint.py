"""A checkpoint that is not whole, or is something else, is named in one line before anything starts."""

import json
import os
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.engines.checkpoints import CheckpointRefused, check_checkpoint
from tests.helpers.commands import REPO, TOY_CHECKPOINT, run, write_jsonl
from tests.helpers.forked import run_forked, run_template

WEIGHTS = "model.safetensors"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 16595981968\n"


@pytest.fixture
def model(tmp_path):
    shutil.copytree(TOY_CHECKPOINT, tmp_path / "model")
    return tmp_path / "model"


def refusal(checkpoint, **options):
    with pytest.raises(CheckpointRefused) as refused:
        check_checkpoint(checkpoint, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def into_shards(model):
    """The weights in two shards with an index; the shards' paths."""
    weights = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    names = sorted(weights)
    parts = [names[:20], names[20:]]
    paths = [model / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for part, path in zip(parts, paths, strict=True):
        save_file({name: weights[name] for name in part}, path, metadata={"format": "pt"})
    weight_map = {name: path.name for part, path in zip(parts, paths, strict=True) for name in part}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return paths


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


# Weights


@pytest.mark.parametrize("size", [0, 4, 1000, -1])
def test_weights_that_were_cut_off_anywhere_are_named(model, size):
    os.truncate(model / WEIGHTS, size % (model / WEIGHTS).stat().st_size)
    said = refusal(model)
    assert said.startswith(f"{model / WEIGHTS}: not a whole safetensors file (") and "download it again" in said


def test_weights_with_bytes_behind_them_are_named(model):
    with open(model / WEIGHTS, "ab") as handle:
        handle.write(b"x")
    assert refusal(model).startswith(f"{model / WEIGHTS}: not a whole safetensors file")


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_says_how_to_get_the_file(model, name):
    (model / name).write_text(POINTER)
    assert refusal(model) == f"{model / name}: a Git LFS pointer, not the file itself: run git lfs pull in {model}"


def test_whole_shards_with_their_index_pass(model):
    into_shards(model)
    check_checkpoint(model)


def test_a_missing_shard_is_named(model):
    _, second = into_shards(model)
    second.unlink()
    assert refusal(model).startswith(f"{second}: no such file, but {WEIGHTS}.index.json names it")


def test_a_shard_that_was_cut_off_is_named(model):
    first, _ = into_shards(model)
    cut(first)
    assert refusal(model).startswith(f"{first}: not a whole safetensors file")


def test_a_shard_without_tensors_that_the_index_expects_is_named(model):
    first, second = into_shards(model)
    shutil.copy(first, second)
    said = refusal(model)
    assert said.startswith(f"{second}: lacks ") and f"tensors that {WEIGHTS}.index.json expects in it" in said


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": {"a": 1}}'])
def test_an_index_that_is_none_is_named(model, content):
    into_shards(model)
    (model / f"{WEIGHTS}.index.json").write_text(content)
    assert refusal(model).startswith(f"{model / WEIGHTS}.index.json: ")


def test_shards_without_an_index_and_no_weights_at_all_are_named(model):
    paths = into_shards(model)
    (model / f"{WEIGHTS}.index.json").unlink()
    assert refusal(model).startswith(f"{model / WEIGHTS}.index.json: no such file beside {paths[0].name}")
    for path in paths:
        path.unlink()
    assert refusal(model).startswith(f"{model}: no weights: expected {WEIGHTS}")


def test_a_pickle_that_was_cut_off_is_named_where_pickles_are_allowed(model):
    path = model / "pytorch_model.bin"
    torch.save(load_file(model / WEIGHTS), path)
    (model / WEIGHTS).unlink()
    check_checkpoint(model, allow_pickle=True)
    cut(path)
    assert refusal(model, allow_pickle=True).startswith(f"{path}: cut off after {path.stat().st_size} bytes")


# Other files


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        (["config.json"], "config.json"),
        (["preprocessor_config.json", "processor_config.json"], "preprocessor_config.json"),
        (["tokenizer.json"], "tokenizer.json"),
        (["chat_template.jinja"], "chat_template.jinja"),
    ],
)
def test_a_missing_file_is_named(model, removed, named):
    for name in removed:
        (model / name).unlink()
    assert refusal(model).startswith(f"{model / named}: no such file: ")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_a_file_that_is_not_json_is_named(model, name):
    for content in ("", '{"a": '):
        (model / name).write_text(content)
        assert refusal(model).startswith(f"{model / name}: not JSON")


# Folders that are something else


def test_adapters_say_how_to_merge_them(model):
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct"}')
    (model / WEIGHTS).rename(model / "adapter_model.safetensors")
    said = refusal(model)
    assert said.startswith(f"{model}: adapters of Qwen/Qwen2.5-VL-7B-Instruct, not a model")
    assert f"swift export --adapters {model} --merge_lora true" in said
    (model / "config.json").unlink()  # as peft saves them
    assert refusal(model) == said


@pytest.mark.parametrize("place", ["", "global_step_45", "global_step_45/actor", "global_step_45/actor/huggingface"])
def test_verl_s_shards_say_how_to_merge_them(model, tmp_path, place):
    actor = tmp_path / "run" / "global_step_45" / "actor"
    shutil.copytree(model, actor / "huggingface", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, actor / "model_world_size_1_rank_0.pt")
    said = refusal(tmp_path / "run" / place)
    assert said.startswith(f"{tmp_path / 'run' / place}: shards of verl, not a model")
    assert f"python -m scripts.merge_checkpoint {actor} --output_dir" in said


def test_a_model_that_was_merged_beside_verl_s_steps_passes(model, tmp_path):
    (tmp_path / "global_step_45" / "actor").mkdir(parents=True)
    torch.save({}, tmp_path / "global_step_45" / "actor" / "model_world_size_1_rank_0.pt")
    check_checkpoint(model)


def test_the_folder_above_names_the_newest_checkpoint_in_it(model, tmp_path):
    for number, time in ((333, 2), (666, 3), (100, 1)):
        shutil.copytree(model, tmp_path / "stage 1" / f"checkpoint-{number}")
        os.utime(tmp_path / "stage 1" / f"checkpoint-{number}", (time, time))
    said = refusal(tmp_path / "stage 1")
    assert said.startswith(f"{tmp_path / 'stage 1' / 'config.json'}: no such file")
    assert said.endswith(f"for instance {tmp_path / 'stage 1' / 'checkpoint-666'}")


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "../a/b", "~/model", "output/a/b", "nowhere", "made/up"])
def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_name(name, tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)
    assert refusal(name) == f"{name}: no such folder: expected a model folder, or OWNER/MODEL of the hub"


def test_a_name_that_the_hub_does_not_have_says_where_a_folder_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal("output/EmoCaliber").startswith(f"output/EmoCaliber: no such folder in {tmp_path}, nor to be had")


def test_a_file_in_place_of_its_folder_is_named(model):
    assert refusal(model / WEIGHTS) == f"{model / WEIGHTS}: a file: name the folder that it lies in"


# Every command that takes a checkpoint


@pytest.fixture
def cut_off(model):
    cut(model / WEIGHTS)
    return model


@pytest.fixture
def records(tmp_path):
    record = {"conversations": [], "candidates": ["awe", "fear"], "ground_truth": "awe", "task": "EmoSet-8"}
    return write_jsonl(tmp_path / "records.jsonl", [record])


def settings(**values):
    return {**os.environ, "python": sys.executable, **{name: str(value) for name, value in values.items()}}


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "inference.predict", TOY_CHECKPOINT / "notice.txt", "--checkpoint", "MODEL"],
        ["-m", "inference.demo", "--checkpoint", "MODEL"],
        [
            "-m", "inference.inference_vllm", "--checkpoint", "MODEL", "--data_path", "RECORDS", "--output_path",
            "OUTPUT", "--prepare_only",
        ],
        [
            "-m", "scripts.build_vec_cot", "--data_path", "RECORDS", "--test_path", "--work", "OUTPUT", "--teacher",
            "--engine openai --base_url http://127.0.0.1:1/v1 --model_name m", "--scaffold", "--checkpoint MODEL",
        ],
        ["-m", "inference.engines.checkpoints", "MODEL"],
    ],
    ids=lambda command: command[1],
)  # fmt: skip
def test_every_command_ends_with_that_one_line_and_status_2(command, cut_off, records, tmp_path):
    output = tmp_path / "output"
    places = {"MODEL": str(cut_off), "RECORDS": str(records), "OUTPUT": str(output)}
    words = [str(word) for word in command]
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    done = run_forked(*words, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{cut_off / WEIGHTS}: not a whole safetensors file")
    assert not output.exists()


def test_the_main_job_ends_with_it_before_its_workers(cut_off, records, tmp_path):
    environment = settings(checkpoint=cut_off, data_path=records, output_path=tmp_path / "output")
    done = run("bash", REPO / "inference" / "infer_and_eval_example.sh", env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{cut_off / WEIGHTS}: not a whole safetensors file")
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["job.lock"]


@pytest.mark.parametrize("template", ["step1_example.sh", "step2_example.sh", "step3_example.sh"])
def test_training_ends_with_it_before_it_starts(template, cut_off, records, tmp_path):
    environment = settings(
        model=cut_off, dataset=records, validation=records, output_dir=tmp_path / "output", logger='["console"]'
    )
    done = run_template(REPO / "train" / template, environment=environment, check=False)
    assert done.returncode == 2
    assert f"{cut_off / WEIGHTS}: not a whole safetensors file" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "output").exists()


def test_stage_1_takes_no_path_that_does_not_exist_for_a_hub_name(records, tmp_path):
    (tmp_path / "output").mkdir()
    environment = settings(model="output/base", dataset=records, output_dir=tmp_path / "trained")
    done = run("bash", REPO / "train" / "step1_example.sh", env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "output/base: no such folder: expected a model folder" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "trained").exists()


def test_merging_names_a_shard_that_was_cut_off(model, tmp_path):
    actor = tmp_path / "global_step_1" / "actor"
    shutil.copytree(model, actor / "huggingface", ignore=shutil.ignore_patterns("*.safetensors"))
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 1, "world_size": 1}))
    shard = actor / "model_world_size_1_rank_0.pt"
    torch.save(load_file(model / WEIGHTS), shard)
    cut(shard)
    done = run_forked("-m", "scripts.merge_checkpoint", tmp_path / "global_step_1", check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{shard}: cut off after {shard.stat().st_size} bytes")


def test_a_run_whose_checkpoint_was_refused_may_go_on_with_a_mended_one(cut_off, toy_data, tmp_path):
    """Nothing was inferred with the bad one: the folder is not another run's."""
    command = ["-m", "inference.inference_vllm", "--data_path", toy_data, "--output_path", tmp_path / "output"]
    done = run_forked(*command, "--checkpoint", cut_off, check=False)
    assert done.returncode == 2 and "not a whole safetensors file" in done.stderr.splitlines()[-1]
    shutil.copy(TOY_CHECKPOINT / WEIGHTS, cut_off)
    run_forked(*command, "--checkpoint", cut_off, "--prepare_only")
    run_json = json.loads((tmp_path / "output" / "run.json").read_text())
    assert run_json["changes"] == []


def test_weights_of_another_model_are_not_filled_up_with_random_numbers(of_five_layers):
    """transformers itself only warns; vLLM refuses by itself."""
    from inference.engines.base import EngineSettings
    from inference.engines.load import load_engine

    with pytest.raises(CheckpointRefused, match=r"lack 12 tensors .*layers\.4\."):
        load_engine(EngineSettings(str(of_five_layers), engine="transformers"))


def test_where_a_configuration_was_loaded_from_is_no_value_of_the_model(model):
    """verl saves it so, in the nested configuration, too."""
    config = json.loads((model / "config.json").read_text())
    config["_name_or_path"] = config["text_config"]["_name_or_path"] = "/somewhere/else"
    (model / "config.json").write_text(json.dumps(config))
    check_checkpoint(model)


@pytest.mark.parametrize("method", ["fp8", "compressed-tensors", "awq", "made-up"])
def test_weights_that_are_not_quantised_as_config_json_has_it_are_refused(tmp_path, method):
    """vLLM would compute with scales that nothing was read into, transformers as if nothing were said."""
    folder = shutil.copytree(TOY_CHECKPOINT, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": method}}))
    with pytest.raises(
        CheckpointRefused, match=rf"config.json, field 'quantization_config': says {method}, but none of"
    ):
        check_checkpoint(folder)
