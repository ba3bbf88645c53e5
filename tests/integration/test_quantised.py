"""Quantised checkpoints go to the engines as they are; what this machine cannot run is one line."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from inference.data.response import read_response
from inference.runs.shards import read_results, shard_path
from tests.helpers.commands import TOY_CHECKPOINT, TOY_PIXELS
from tests.helpers.forked import run_forked
from tests.helpers.quantised import quantised, quantised_by_gptq


def command(checkpoint, data, output, engine):
    return (
        "-m", "inference.inference_vllm", "--engine", engine, "--checkpoint", checkpoint, "--data_path", data,
        "--output_path", output, "--temperature", "0", "--max_new_tokens", "160", "--limit", "12", *TOY_PIXELS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        ("int", "vllm"),
        pytest.param("float", "vllm", marks=pytest.mark.long),
        pytest.param("float", "transformers", marks=pytest.mark.long),
    ],
    ids=["int8 by vllm", "fp8 by vllm", "fp8 by transformers"],
)
def test_eight_bits_answer_nearly_as_sixteen_do(toy_data, tmp_path, kind, engine):
    assert_answers_nearly_as_the_toy_checkpoint(quantised(tmp_path / "model", kind), engine, toy_data, tmp_path)


@pytest.mark.long
def test_four_bits_by_gptq_answer_nearly_as_sixteen_do(toy_data, tmp_path):
    assert_answers_nearly_as_the_toy_checkpoint(quantised_by_gptq(tmp_path / "model"), "vllm", toy_data, tmp_path)


def assert_answers_nearly_as_the_toy_checkpoint(model, engine, toy_data, tmp_path):
    labels = []
    for checkpoint, by in ((model, engine), (TOY_CHECKPOINT, "transformers")):
        output = tmp_path / checkpoint.name
        run_forked(*command(checkpoint, toy_data, output, by))
        results = list(read_results(shard_path(output, 0, 1)))
        labels.append({r["sample_id"]: read_response(r["response"], r["candidates"]).label for r in results})
    assert len(labels[0]) == 12 and "unknown" not in labels[0].values()
    assert sum(labels[0][name] == labels[1][name] for name in labels[0]) >= 9


@pytest.mark.parametrize("engine", [pytest.param("vllm", marks=pytest.mark.long), "transformers"])
def test_a_method_that_the_machine_cannot_run_is_one_line(toy_data, tmp_path, engine):
    folder = shutil.copytree(TOY_CHECKPOINT, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    awq = {"quant_method": "awq", "bits": 3, "group_size": 64, "zero_point": True, "version": "gemm"}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": awq}))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file({**weights, name.replace("weight", "qweight"): weights[name].clone()}, folder / "model.safetensors")
    done = run_forked(*command(folder, toy_data, tmp_path / "out", engine), check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr and "Traceback" not in done.stdout
    assert ("AWQ" in last or "awq" in last.lower()) and len(last) < 500
