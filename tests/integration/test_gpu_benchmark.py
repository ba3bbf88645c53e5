"""The GPU benchmark as a command, with the toy shape on CPU; the checkpoints it builds, under transformers."""

import json
import os

import pytest

from inference.engines.base import EngineSettings
from scripts.maintenance.benchmark import random_checkpoint
from scripts.maintenance.benchmark.engine_group import EngineGroup
from scripts.maintenance.benchmark.matrix_rate import matrix_rate
from scripts.maintenance.benchmark.random_checkpoint import build, merge_of
from scripts.maintenance.benchmark.shapes import SHAPES, SPECIAL_TOKENS
from scripts.maintenance.benchmark.variants import Place, Variant, turns_of
from tests.helpers.commands import run

COMMAND = ["-m", "scripts.maintenance.benchmark.gpu"]


def test_without_a_gpu_it_ends_at_once_in_one_line(tmp_path):
    done = run(*COMMAND, "--output", tmp_path / "r.json", check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert done.stderr == "no GPU (nvidia-smi, CUDA_VISIBLE_DEVICES): --cpu tries the command with the toy shape\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_on_cpu_the_whole_command_measures_all_sides_of_two_variants(tmp_path):
    record, checkpoint = tmp_path / "record.json", tmp_path / "checkpoint"
    words = ["--output", record, "--cpu", "--checkpoint_dir", checkpoint, "--samples", "6", "--warm_up", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = run(*COMMAND, *words, "--variants", "default", "questions=3+queue_ahead=64", env=environment)
    content = json.loads(record.read_text())
    assert content["what"] == "toy shape, random weights, CPU: says nothing about GPUs" and content["failures"] == []
    assert content["what"] in done.stdout and content["versions"]["vllm"] in done.stdout
    (engine,) = content["engines"]
    sides = [(turn["variant"], turn["side"], turn["requests"]) for turn in engine["turns"]]
    more = "questions=3+queue_ahead=64"
    assert sides == [
        ("default", "warm-up", 2), ("default", "ours", 6), ("default", "bare", 6), (more, "ours", 6), (more, "bare", 6),
        ("default", "single", 2),
    ]  # fmt: skip
    for turn in engine["turns"]:
        assert turn["output_tokens"] == 16 * turn["requests"] and turn["of_other_length"] == 0
        assert turn["operations"] > 0 and turn["image_tokens"] > 8 * turn["requests"]
    assert [row["variant"] for row in content["summary"]] == ["default", more]
    assert sum(line.startswith(("| default | ", f"| {more} | ")) for line in done.stdout.splitlines()) == 2
    assert not list(tmp_path.glob("gpu_benchmark_*"))  # the photographs


def test_an_engine_whose_process_is_killed_is_said_with_the_signal(tmp_path):
    turns = turns_of([Variant()], samples=1, rounds=1, warm_up=1, single=0)
    settings = EngineSettings(str(tmp_path / "never read"))
    with (
        pytest.raises(RuntimeError, match="an engine's process ended with signal 9"),
        EngineGroup(settings, SHAPES["toy"], turns, Place(tmp_path, None), tmp_path / "log") as group,
    ):
        group.processes[0].kill()
        group.next()


def test_the_matrix_rate_is_operations_per_second():
    assert 1e6 < matrix_rate("cpu", 64) < 1e15


@pytest.mark.parametrize("name", SHAPES)
def test_a_shapes_tensors_are_those_of_transformers_model(name, tmp_path):
    """Same names and sizes, under the released checkpoints' spelling, which transformers translates."""
    import torch
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    shape = SHAPES[name]
    tokens = {key: min(token, shape.vocabulary - 1) for key, token in SPECIAL_TOKENS.items()}
    (tmp_path / "config.json").write_text(json.dumps(shape.config(tokens)))
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(AutoConfig.from_pretrained(tmp_path))
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters
    state = {
        key.replace("model.language_model.", "model.").replace("model.visual.", "visual."): tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not (shape.tied and key == "lm_head.weight")
    }
    assert state == shape.tensors()


def test_a_checkpoint_is_kept_when_it_is_the_same_and_another_is_not_touched(tmp_path, monkeypatch):
    from transformers import Qwen2_5_VLForConditionalGeneration

    monkeypatch.setattr(random_checkpoint, "SHARD_PARAMETERS", 500_000)
    assert build("toy", tmp_path / "toy")
    weights = tmp_path / "toy" / "model-00001-of-00004.safetensors"
    written = weights.stat().st_mtime_ns
    assert not build("toy", tmp_path / "toy")
    assert weights.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="holds another checkpoint"):
        build("3b", tmp_path / "toy")
    _, loading = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "toy", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]


def test_the_last_pair_joined_follows_the_ranks():
    ranks = {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4, b"abc": 5}
    assert merge_of(b"abc", ranks) == (b"a", b"bc")
    assert merge_of(b"ab", ranks) == (b"a", b"b")
