"""What one generation of transformers saved is run by the other once it is converted, with the same answers.

The configurations in golden/ were written by transformers 4.57.0 and 5.9.0, from the shipped checkpoint.
"""

import copy
import json
import shutil

import pytest
import transformers

from inference.engines.checkpoints import CheckpointRefused, check_checkpoint
from scripts.convert_checkpoint import convert, spell_config, spell_for_both
from tests.helpers.commands import REPO, TOY_CHECKPOINT, TOY_PIXELS, read_jsonl
from tests.helpers.forked import run_forked

GENERATION = int(transformers.__version__.partition(".")[0])
GOLDEN = REPO / "tests" / "golden"
PARTS_OF_4 = ("preprocessor_config.json", "video_preprocessor_config.json", "vocab.json", "merges.txt")
PARTS_OF_4 += ("added_tokens.json", "special_tokens_map.json", "processor_config.json")
BOTH = json.loads((TOY_CHECKPOINT / "config.json").read_text())


@pytest.fixture(params=[4, 5], ids=["of 4", "of 5"])
def saved(request, tmp_path):
    """(folder, generation) of the shipped model as that generation of transformers saves it."""
    folder = tmp_path / "saved"
    left_out = shutil.ignore_patterns(*(PARTS_OF_4 if request.param == 5 else ()))
    shutil.copytree(TOY_CHECKPOINT, folder, ignore=left_out)
    shutil.copytree(GOLDEN / f"transformers_{request.param}", folder, dirs_exist_ok=True)
    return folder, request.param


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def responses(checkpoint, data, output):
    run_forked(
        "-m", "inference.inference_vllm", "--engine", "transformers", "--checkpoint", checkpoint, "--data_path", data,
        "--output_path", output, "--limit", "9", "--max_new_tokens", "128", "--temperature", "0", *TOY_PIXELS,
    )  # fmt: skip
    (shard,) = output.glob("shard_*.jsonl")
    return [(row["sample_id"], row["response"], row["image_tokens"]) for row in read_jsonl(shard)]


def test_what_the_other_generation_saved_is_refused_and_named_and_the_named_command_mends_it(saved, tmp_path):
    folder, generation = saved
    if generation != GENERATION:
        with pytest.raises(CheckpointRefused) as refused:
            check_checkpoint(folder)
        assert str(refused.value).startswith(f"{folder}/config.json: transformers {transformers.__version__} reads oth")
        assert f"python -m scripts.convert_checkpoint {folder} --output_dir FOLDER" in str(refused.value)
    done = run_forked("-m", "scripts.convert_checkpoint", folder, "--output_dir", tmp_path / "converted")
    assert done.stdout == f"{tmp_path / 'converted'}: {folder} for transformers 4 and 5\n"
    check_checkpoint(tmp_path / "converted")


@pytest.fixture(scope="module")
def shipped_responses(toy_data, tmp_path_factory):
    return responses(TOY_CHECKPOINT, toy_data, tmp_path_factory.mktemp("shipped"))


def test_a_converted_folder_answers_as_the_shipped_one(saved, shipped_responses, toy_data, tmp_path):
    folder, _ = saved
    convert(folder, tmp_path / "converted")
    assert responses(tmp_path / "converted", toy_data, tmp_path / "run") == shipped_responses


def test_a_converted_folder_says_each_value_in_both_spellings(saved, tmp_path):
    folder, _ = saved
    converted = tmp_path / "converted"
    convert(folder, converted)
    config = json.loads((converted / "config.json").read_text())
    text = config["text_config"]
    assert config["tie_word_embeddings"] is text["tie_word_embeddings"] is True
    assert text["rope_theta"] == text["rope_parameters"]["rope_theta"] == 10000
    assert text["rope_scaling"]["mrope_section"] == text["rope_parameters"]["mrope_section"] == [8, 4, 4]
    assert text["bos_token_id"] is None
    images = json.loads((converted / "preprocessor_config.json").read_text())
    assert (images["image_processor_type"], images["max_pixels"]) == ("Qwen2VLImageProcessorFast", 12544)
    tokens = json.loads((converted / "tokenizer_config.json").read_text())
    assert "<|image_pad|>" in tokens["additional_special_tokens"]
    assert not isinstance(tokens.get("extra_special_tokens"), list)


def test_converting_again_and_converting_what_both_read_changes_nothing(saved, tmp_path):
    folder, _ = saved
    convert(folder, tmp_path / "once")
    convert(tmp_path / "once", tmp_path / "twice")
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")
    convert(TOY_CHECKPOINT, tmp_path / "shipped")
    assert contents(tmp_path / "shipped") == contents(TOY_CHECKPOINT)


def test_a_trainer_s_state_is_left_behind_and_the_checkpoint_as_it_was(saved, tmp_path):
    folder, _ = saved
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin", "trainer_state.json"):
        (folder / name).write_text("{}")
    before = contents(folder)
    convert(folder, tmp_path / "converted")
    assert contents(folder) == before
    assert not [path.name for path in (tmp_path / "converted").iterdir() if path.suffix in (".pt", ".pth", ".bin")]
    assert not (tmp_path / "converted" / "trainer_state.json").exists()


@pytest.mark.parametrize("what", ["weights", "same folder", "nothing"])
def test_what_cannot_be_converted_is_one_line_and_no_folder(saved, tmp_path, what):
    folder, _ = saved
    target = tmp_path / "converted"
    if what == "weights":
        (folder / "model.safetensors").write_bytes(b"{}")
        message = f"converting failed: {target}/model.safetensors: not a whole safetensors file"
    elif what == "same folder":
        target, message = folder, f"converting failed: --output_dir {folder}: expected another folder"
    else:
        folder, message = tmp_path / "none", f"converting failed: {tmp_path / 'none' / 'config.json'}: no such file"
    before = contents(folder) if folder.exists() else None
    done = run_forked("-m", "scripts.convert_checkpoint", folder, "--output_dir", target, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(message)
    assert target == folder or not target.exists()
    assert before is None or contents(folder) == before


@pytest.mark.parametrize(
    ("version", "top", "nested", "expected"),
    [
        ("4.57.0", True, False, False), ("4.57.0", None, True, True), ("4.57.0", True, None, True),
        ("5.9.0", True, False, True), ("5.9.0", None, True, True), ("5.9.0", None, None, None),
    ],
)  # fmt: skip
def test_the_writer_s_own_place_decides_whether_embeddings_are_tied(version, top, nested, expected):
    config = copy.deepcopy({**BOTH, "transformers_version": version})
    for level, value in ((config, top), (config["text_config"], nested)):
        del level["tie_word_embeddings"]
        if value is not None:
            level["tie_word_embeddings"] = value
    spell_config(config)
    assert config.get("tie_word_embeddings") is config["text_config"].get("tie_word_embeddings") is expected


def test_a_flat_configuration_as_published_stays_flat():
    text = {"rope_theta": 1e6, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
    config = {"model_type": "qwen2_5_vl", "transformers_version": "4.41.2", "tie_word_embeddings": False, **text}
    spell_config(config)
    assert config["rope_parameters"] == {
        "type": "mrope", "mrope_section": [16, 24, 24], "rope_type": "default", "rope_theta": 1e6,
    }  # fmt: skip
    assert {name: config[name] for name in text} == text and "text_config" not in config


def test_positions_per_type_of_layer_are_refused(tmp_path):
    parameters = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"rope_parameters": parameters}}))
    with pytest.raises(ValueError, match="which transformers 4 cannot spell"):
        spell_for_both(tmp_path)


def test_a_text_model_has_the_architecture_that_generation_4_looks_for_there():
    """vLLM 0.10 and 0.11 refuse a Qwen2.5-VL without it."""
    config = {"architectures": ["A"], "text_config": {"rope_theta": 1e4}, "transformers_version": "5.9.0"}
    spell_config(config)
    assert config["text_config"]["architectures"] == ["A"]
    assert BOTH["text_config"]["architectures"] == BOTH["architectures"]
