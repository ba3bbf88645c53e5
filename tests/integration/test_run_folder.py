"""A run's folder: what its results were made from, and who may add to them."""

import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.inference_vllm import parse_args
from inference.runs.folder import OVERWRITE, RESUME_ANYWAY, Description, RunChanged, compare, open_shard, prepare
from inference.runs.identity import checkpoint_identity, hash_checkpoint
from inference.runs.settings import describe_run
from inference.runs.shards import ShardBusy, shard_path
from tests.helpers.commands import TOY_CHECKPOINT, TOY_PIXELS, read_jsonl

VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
IDENTITIES = st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("xyz"), VALUES))


def described(data, output, *more, checkpoint=TOY_CHECKPOINT):
    arguments = ["--data_path", data, "--output_path", output, "--checkpoint", checkpoint, *TOY_PIXELS, *more]
    _, settings = parse_args([str(word) for word in arguments])
    return describe_run(settings, str(data), str(output))


@pytest.fixture
def half_finished(tmp_path, toy_data):
    """(the data file, a run's folder with one result of it)."""
    data, output = tmp_path / "data.jsonl", tmp_path / "run"
    shutil.copy(toy_data, data)
    with open_shard(output, 0, 1, described(data, output)) as (writer, started):
        started.begin()
        writer.write({"sample_id": "s0", "position": 0, "response": "r"})
        started.end({"samples": 1, "predicted": 1, "failed": 0})
    return data, output


@given(IDENTITIES, IDENTITIES)
def test_two_identities_are_the_same_exactly_when_nothing_is_named_as_different(before, after):
    named = compare(before, after)
    known = [
        {(part, name): value for part, values in identity.items() for name, value in values.items()}
        for identity in (before, after)
    ]
    differing = {key for key in known[0].keys() | known[1].keys() if known[0].get(key) != known[1].get(key)}
    assert {tuple(line.split(" ")[0].split(".")) for line in named} == differing
    assert len(named) == len(differing)


def test_a_hub_revision_that_was_not_known_yet_is_no_difference():
    first, later = ({"checkpoint": {"name": "a/b", "revision": revision}} for revision in (None, "c0ffee"))
    assert compare(first, later) == [] == compare(later, first)
    assert compare(later, {"checkpoint": {"name": "a/b", "revision": "decaf"}}) != []


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--temperature", "0.3", "settings.temperature was 0.7, is 0.3"),
        ("--seed", "1", "settings.seed was 0, is 1"),
        ("--max_new_tokens", "7", "settings.max_new_tokens was 2048, is 7"),
        ("--max_pixels", "784000", "settings.max_pixels was 12544, is 784000"),
        ("--n_responses", "5", "settings.n_responses was 1, is 5"),
        ("--replace_images", "grey", "settings.replace_images was not set, is 'grey'"),
        ("--model_name", "other", "settings.model_name was 'checkpoint', is 'other'"),
        ("--engine", "transformers", "settings.engine was 'vllm', is 'transformers'"),
        ("--dtype", "bfloat16", "settings.dtype was 'auto', is 'bfloat16'"),
        ("--no_logprobs", None, "settings.logprobs was True, is False"),
        ("--candidate_probabilities", None, "settings.candidate_probabilities was not set, is True"),
    ],
)
def test_a_changed_setting_under_a_half_finished_run_is_refused_by_name(half_finished, option, value, named):
    data, output = half_finished
    before = shard_path(output, 0, 1).read_bytes(), (output / "run.json").read_bytes()
    changed = described(data, output, *([option] if value is None else [option, value]))
    with pytest.raises(RunChanged) as refused, open_shard(output, 0, 1, changed):
        pass
    assert named in str(refused.value) and "overwrite" in str(refused.value) and "resume_anyway" in str(refused.value)
    assert (shard_path(output, 0, 1).read_bytes(), (output / "run.json").read_bytes()) == before


def test_a_changed_data_file_is_refused(half_finished):
    data, output = half_finished
    with open(data, "a", encoding="utf-8") as handle:
        handle.write("{}\n")
    with pytest.raises(RunChanged, match=r"data\.bytes was \d+, is \d+; data\.sha256 was"):
        prepare(output, described(data, output))


def test_a_changed_checkpoint_is_refused_and_a_moved_one_is_not(half_finished, tmp_path):
    data, output = half_finished
    moved = tmp_path / "elsewhere" / "checkpoint"
    shutil.copytree(TOY_CHECKPOINT, moved)
    prepare(output, described(data, output, checkpoint=moved))
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    was = checkpoint_identity(str(TOY_CHECKPOINT))[0]["sha256"]
    with pytest.raises(RunChanged, match=rf"checkpoint\.sha256 was '{was[:4]}.*, is '"):
        prepare(output, described(data, output, checkpoint=moved))


def test_what_a_training_leaves_beside_the_weights_is_no_part_of_the_checkpoint(tmp_path):
    before = checkpoint_identity(str(TOY_CHECKPOINT))[0]
    shutil.copytree(TOY_CHECKPOINT, tmp_path / "checkpoint")
    for name in ("optimizer.pt", "trainer_state.json", "training_args.bin", "rng_state.pth", ".cache.json"):
        (tmp_path / "checkpoint" / name).write_text("x")
    assert checkpoint_identity(str(tmp_path / "checkpoint"))[0] == before


def test_a_file_that_has_not_changed_is_not_hashed_again(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    known = hash_checkpoint(tmp_path)
    known["model.safetensors"]["sha256"] = "as told"
    assert hash_checkpoint(tmp_path, known)["model.safetensors"]["sha256"] == "as told"
    (tmp_path / "model.safetensors").write_bytes(b"others!")
    os.utime(tmp_path / "model.safetensors", ns=(0, 0))
    assert hash_checkpoint(tmp_path, known)["model.safetensors"]["sha256"] != "as told"


def test_a_limit_the_number_of_workers_and_ray_may_change_under_way(half_finished):
    data, output = half_finished
    prepare(output, described(data, output, "--limit", "3"))
    prepare(output, described(data, output, "--index", "1", "--n_shards", "4"))
    prepare(output, described(data, output, "--engine", "ray"))


def test_overwrite_starts_anew_and_resume_anyway_keeps_and_notes_the_difference(half_finished):
    data, output = half_finished
    other = described(data, output, "--seed", "5")
    prepare(output, other, RESUME_ANYWAY)
    told = json.loads((output / "run.json").read_text())
    assert [change["differences"] for change in told["changes"]] == [["settings.seed was 0, is 5"]]
    assert told["identity"] == other.identity and len(told["starts"]) == 1
    assert len(read_jsonl(shard_path(output, 0, 1))) == 1
    evaluated = [output / name for name in ("merged.jsonl", "metrics.json")]
    for path in evaluated:
        path.write_text("{}\n")
    prepare(output, other)  # from now on this is the run
    assert all(path.exists() for path in evaluated)
    prepare(output, described(data, output), OVERWRITE)
    assert not any(path.exists() for path in evaluated)  # nothing compares or draws what was evaluated before
    told = json.loads((output / "run.json").read_text())
    assert not shard_path(output, 0, 1).exists() and told["starts"] == told["changes"] == []


def test_results_without_a_description_and_a_torn_description_are_refused(half_finished):
    data, output = half_finished
    for content in (None, b"", b'{"identity": {', b"[]", b'{"identity": {}, "starts": 3}', b"\xff"):
        (output / "run.json").unlink()
        if content is not None:
            (output / "run.json").write_bytes(content)
        with pytest.raises(RunChanged, match=r"run\.json"):
            prepare(output, described(data, output))
        prepare(output, described(data, output), RESUME_ANYWAY)
        prepare(output, described(data, output))


def test_workers_of_one_run_share_a_folder_and_another_number_of_workers_is_refused(tmp_path):
    description = Description({"settings": {"seed": 0}}, {})
    with open_shard(tmp_path, 0, 2, description), open_shard(tmp_path, 1, 2, description):
        holder = f"pid {os.getpid()}"
        for refused in (
            lambda: open_shard(tmp_path, 0, 3, description).__enter__(),
            lambda: open_shard(tmp_path, 0, 2, description, OVERWRITE).__enter__(),
            lambda: prepare(tmp_path, description),
        ):
            with pytest.raises(ShardBusy, match=holder):
                refused()
    prepare(tmp_path, description)  # free again


def test_a_start_that_finds_nothing_to_do_leaves_the_description_as_it_is(half_finished):
    data, output = half_finished
    before = (output / "run.json").read_bytes()
    with open_shard(output, 0, 1, described(data, output)) as (_, started):
        started.end({"samples": 1, "predicted": 1, "failed": 0})
    assert (output / "run.json").read_bytes() == before


def test_a_secret_in_the_endpoints_address_is_not_written_down(tmp_path, toy_data):
    address = "http://someone:a-password@127.0.0.1:9/v1"
    told = described(
        toy_data, tmp_path, "--engine", "openai", "--model_name", "m", "--base_url", address, checkpoint=""
    )
    assert "a-password" not in json.dumps(told.files) and "127.0.0.1:9" in told.files["base_url"]
