"""No command asks CUDA anything before vLLM starts its engine: the fork of a process that has could not use it."""

import sys

import pytest

from tests.helpers.commands import TOY_CHECKPOINT, run
from tests.helpers.cuda_recorder import CudaRecorder

COMMANDS = {
    "the main job's worker": ["inference.inference_vllm", "--data_path", "DATA", "--output_path", "OUT"],
    "an actor of Ray": ["inference.inference_vllm", "--data_path", "DATA", "--output_path", "OUT", "--engine", "ray"],
    "single images": ["inference.predict", "IMAGE", "--engine", "vllm"],
    "the page": ["inference.demo", "--engine", "vllm"],
    "a teacher's reasoning": ["scripts.build_vec_cot.write_reasoning", "--data_path", "DATA", "--output_path", "OUT"],
    "a scaffold's confidence": ["scripts.build_vec_cot.confidence", "--data_path", "DATA", "--output_path", "OUT"],
    "the benchmark": ["scripts.maintenance.benchmark", "--samples", "9"],
}


DEFAULT = ("the main job's worker", "single images")  # the others reach the engine by the same function


@pytest.mark.parametrize(
    "name", [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.long) for name in COMMANDS]
)
def test_a_command_comes_to_vllm_without_a_question_to_cuda(name, toy_data, tmp_path):
    recorder = CudaRecorder(tmp_path / "recorder", until="vllm")
    image = next((toy_data.parent / "images").rglob("*.png"))
    words = [{"DATA": toy_data, "OUT": tmp_path / "out", "IMAGE": image}.get(word, word) for word in COMMANDS[name]]
    if "benchmark" not in words[0]:
        words += ["--checkpoint", TOY_CHECKPOINT]
    done = run("-m", *words, env=recorder.environment, check=False)
    assert done.returncode != 0 and "the test ends here" in done.stderr, done.stderr[-3000:]
    assert recorder.before("reached vllm") == []


def test_an_engine_of_the_gpu_benchmark_comes_to_vllm_without_a_question_to_cuda(tmp_path):
    recorder = CudaRecorder(tmp_path, until="vllm")
    words = [sys.executable, "-c", "import scripts.maintenance.benchmark.one_engine"]
    assert run(*words, env=recorder.environment, check=False).returncode != 0
    assert recorder.before("reached vllm") == []


def test_the_recorder_notes_a_question(tmp_path):
    recorder = CudaRecorder(tmp_path)
    run(sys.executable, "-c", "import torch; torch.cuda.is_available()", env=recorder.environment)
    assert recorder.notes.read_text().startswith("asked _cuda_getDeviceCount: ")
