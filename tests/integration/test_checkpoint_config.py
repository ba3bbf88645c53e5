"""What the installed transformers reads of config.json is what it says, or nothing runs."""

import copy
import json
import shutil
import sys

import pytest
import transformers

from inference.engines import checkpoint_config
from inference.engines.checkpoint_config import CheckpointRefused, check_configuration, differences, tie_difference
from tests.helpers.commands import REPO, TOY_CHECKPOINT, run

TOY = json.loads((TOY_CHECKPOINT / "config.json").read_text())
GENERATION = int(transformers.__version__.partition(".")[0])
# The published form: the text model's settings at the top, no text_config.
FLAT = {
    **{key: value for key, value in TOY.items() if key != "text_config"},
    **{key: value for key, value in TOY["text_config"].items() if key not in ("model_type", "layer_types")},
    "rope_scaling": {"type": "mrope", "mrope_section": [8, 4, 4]},
    "sliding_window": 32768,
    "torch_dtype": "bfloat16",
}


def in_the_other_spelling(config):
    """A configuration as the other generation of transformers writes it, at each level that has positions."""
    config = copy.deepcopy(config)
    for level in (config, config.get("text_config", {})):
        if GENERATION >= 5 and "rope_parameters" in level:
            scaling = level.pop("rope_parameters")
            level |= {"rope_theta": scaling.pop("rope_theta"), "rope_scaling": scaling}
        elif GENERATION < 5 and "rope_theta" in level:
            scaling = {name: value for name, value in level.pop("rope_scaling").items() if name != "type"}
            level["rope_parameters"] = {**scaling, "rope_type": "default", "rope_theta": level.pop("rope_theta")}
    return {**config, "transformers_version": "5.0.0"}


@pytest.fixture
def folder(tmp_path):
    """``folder(config)``: a folder with that config.json."""

    def write(config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


@pytest.mark.parametrize("config", [TOY, FLAT], ids=["nested", "flat"])
def test_a_configuration_of_this_generation_is_read_as_it_stands(folder, config):
    check_configuration(folder(config))


@pytest.mark.skipif(GENERATION >= 5, reason="transformers 5 reads both spellings")
@pytest.mark.parametrize(("config", "part"), [(TOY, "text_config."), (FLAT, "")], ids=["nested", "flat"])
def test_positions_in_transformers_5_s_spelling_are_refused_by_4(folder, config, part):
    with pytest.raises(CheckpointRefused) as refused:
        check_configuration(folder(in_the_other_spelling(config)))
    message = str(refused.value)
    assert message.startswith(f"{folder(config) / 'config.json'}: transformers {transformers.__version__} reads other")
    assert f"{part}rope_theta is 10000.0, read as 1000000.0" in message
    assert f"{part}mrope_section is [8, 4, 4], read as null" in message
    assert "written by 5.0.0" in message and "rope_scaling for" not in message and "\n" not in message


@pytest.mark.parametrize("level", ["top", "text_config"])
def test_tied_embeddings_that_are_looked_up_at_the_other_level_are_refused(folder, level):
    """4 looks into text_config, 5 at the top: written at one of them alone, the other generation ties nothing."""
    config = copy.deepcopy(TOY)
    del (config["text_config"] if level == "top" else config)["tie_word_embeddings"]
    if (level == "top") == (GENERATION >= 5):
        check_configuration(folder(config))
    else:
        with pytest.raises(CheckpointRefused, match="tie_word_embeddings is true, read as false"):
            check_configuration(folder(config))


@pytest.mark.parametrize("generation", [4, 5])
def test_each_generation_s_own_level_counts_for_tied_embeddings(monkeypatch, generation):
    """Of the generation that is not installed only this rule can be tried: an object that holds what it would."""
    monkeypatch.setattr(checkpoint_config, "generation", lambda: generation)
    config = transformers.PretrainedConfig()
    config.text_config = transformers.PretrainedConfig()
    config.tie_word_embeddings, config.text_config.tie_word_embeddings = False, True
    nested = {"text_config": {"tie_word_embeddings": True}}
    found = list(tie_difference(nested, config))
    assert found == ([] if generation < 5 else [("tie_word_embeddings", True, False)])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("image_token_id",), 5),
        (("text_config", "hidden_size"), 64),
        (("text_config", "num_key_value_heads"), 1),
        (("text_config", "rope_theta"), 5e5),
        (("text_config", "rope_scaling", "mrope_section"), [4, 6, 6]),
        (("text_config", "rms_norm_eps"), 1e-5 / 3),
        (("text_config", "hidden_act"), "gelu"),
        (("vision_config", "depth"), 3),
        (("vision_config", "fullatt_block_indexes"), [1]),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_every_kind_of_value_is_compared_at_its_place(folder, path, value):
    """Read from one file and compared with another: that field, and no other one, is found."""
    read = transformers.AutoConfig.from_pretrained(folder(TOY))
    other = copy.deepcopy(TOY)
    level = other
    for name in path[:-1]:
        level = level[name]
    level[path[-1]] = value
    ((name, said, used),) = differences(other, read)
    assert name == ".".join(part for part in path if part != "rope_scaling")
    assert said == value != used


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "gemma3", "internvl", "llama"])
def test_what_transformers_saves_of_other_models_it_reads_back(tmp_path, model_type):
    config = transformers.CONFIG_MAPPING[model_type]()
    config.save_pretrained(tmp_path)
    check_configuration(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "config.json: not JSON"),
        ('{"model_type": ', "config.json: not JSON"),
        ("[]", "config.json: expected a JSON object, got list"),
        ('{"model_type": "of-tomorrow"}', "cannot read it: The checkpoint you are trying to load has model type"),
        ("{}", "cannot read it: Unrecognized model"),
        (json.dumps({**TOY, "text_config": {**TOY["text_config"], "num_hidden_layers": "four"}}), "cannot read it: "),
    ],
)
def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointRefused) as refused:
        check_configuration(tmp_path)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.skipif(GENERATION >= 5, reason="transformers 5 takes its general tokenizer then")
def test_a_tokenizer_class_of_another_version_is_named_and_no_code_recommended(tmp_path):
    shutil.copytree(TOY_CHECKPOINT, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "TokenizersBackend"}))
    done = run("-m", "inference.engines.checkpoints", path.parent, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{path}: tokenizer_class is TokenizersBackend there, which transformers 4")
    assert "trust_remote_code" not in line


def test_vllm_holds_the_configuration_that_was_compared():
    from vllm.transformers_utils.config import get_config

    held = get_config(str(TOY_CHECKPOINT), trust_remote_code=False).to_dict()
    read = transformers.AutoConfig.from_pretrained(TOY_CHECKPOINT).to_dict()
    assert json.dumps(held, default=str, sort_keys=True) == json.dumps(read, default=str, sort_keys=True)


def test_the_shipped_checkpoint_says_at_both_levels_that_its_embeddings_are_tied():
    assert TOY["tie_word_embeddings"] is TOY["text_config"]["tie_word_embeddings"] is True


def test_the_main_job_stops_before_its_workers(tmp_path):
    model, output = tmp_path / "model", tmp_path / "run"
    shutil.copytree(TOY_CHECKPOINT, model)
    (model / "config.json").write_text(json.dumps(in_the_other_spelling(TOY)))
    (tmp_path / "test.jsonl").write_text("{}\n")
    settings = {"python": sys.executable, "checkpoint": model, "data_path": tmp_path / "test.jsonl"}
    job = ["env", *(f"{name}={value}" for name, value in settings.items()), f"output_path={output}"]
    done = run(*job, "bash", REPO / "inference" / "infer_and_eval_example.sh", check=False)
    if GENERATION < 5:
        assert done.returncode == 2
        assert "rope_theta is 10000.0, read as 1000000.0" in done.stderr.splitlines()[-1]
        assert not list(output.glob("worker_*")) and not (output / "run.json").exists()
