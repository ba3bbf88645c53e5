"""What only a GPU shows: memory that is short, an engine process that is killed, how GPUs are named.

    python -m pytest -m gpu tests/gpu

Real vLLM with the toy checkpoint in bfloat16. Skipped, with the reason, where there is no GPU or no vLLM for one.
"""

import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from inference.engines.devices import listed_devices
from inference.runs.shards import finished_samples, shard_path
from tests.helpers.commands import (
    REPO,
    TOY_CHECKPOINT,
    TOY_PIXELS,
    descendants,
    lines_in,
    many_samples,
    run,
    wait_until,
)

N_SAMPLES = 720
SHARE = 0.05  # of the card's memory: enough for the toy model, and several tests can be run at once
KEPT = "What was finished is kept: start the same command again."


def why_not():
    """Why nothing here can be run, or None."""
    if not listed_devices():
        return "no GPU: nvidia-smi lists none"
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return "vLLM for GPUs is not installed"
    return None


REASON = why_not()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(scope="module")
def many(toy_data):
    return many_samples(toy_data, N_SAMPLES)


def worker(data, output, *more):
    return [
        sys.executable, "-m", "inference.inference_vllm", "--data_path", data, "--output_path", output, "--checkpoint",
        TOY_CHECKPOINT, "--max_new_tokens", "192", "--max_num_seqs", "32", *TOY_PIXELS,
        "--gpu_memory_utilization", str(SHARE), *more,
    ]  # fmt: skip


class Started:
    """A worker whose output goes into a file, as the main job has it."""

    def __init__(self, words, folder, **environment):
        self.log = folder / "worker.log"
        known = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                list(map(str, words)), cwd=REPO, stdout=log, stderr=log, env={**known, **environment}
            )

    def end(self, seconds=300):
        """(exit status, its last words: the one line that says why)."""
        status = self.process.wait(seconds)
        text = self.log.read_text(errors="replace")
        said = [line for line in text.splitlines() if line.startswith("inference failed: ")]
        assert status == 0 or len(said) == 1, text[-6000:]
        return status, said[0] if said else ""


def use_memory(left):
    """A process that leaves this share of the GPU's memory at most, from when the call returns until it is killed."""
    code = f"""
import time, torch
free, total = torch.cuda.mem_get_info()
held = torch.empty(max(0, int(free - {left} * total)), dtype=torch.uint8, device="cuda")
print("held", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_memory_that_another_process_holds_is_said_with_the_setting_to_lower(many, tmp_path):
    holder = use_memory(0.4)
    try:
        status, said = Started(worker(many, tmp_path / "run", "--gpu_memory_utilization", "0.9"), tmp_path).end()
    finally:
        holder.kill()
        holder.wait()
    assert status == 1
    assert "less than desired GPU memory utilization" in said
    assert f"Too little memory: lower --gpu_memory_utilization, or end what else uses the GPU. {KEPT}" in said


def test_a_share_of_memory_that_holds_no_cache_is_said_with_the_setting_to_raise(many, tmp_path):
    # Less than the model's weights on any card: a share in which some cache is left would be said otherwise, or run.
    status, said = Started(worker(many, tmp_path / "run", "--gpu_memory_utilization", "0.00001"), tmp_path).end()
    assert status == 1
    assert "Too little memory: raise --gpu_memory_utilization or lower --max_num_seqs" in said


# In vLLM's own process a step asks for a petabyte once eight samples are written: torch's real error.
OUT_OF_MEMORY = """
import importlib.abc, importlib.util, os, sys

def grow(module):
    step = module.GPUModelRunner.execute_model
    def execute_model(self, *args, **kwargs):
        shard = os.environ["GROW_WHEN"]
        if os.path.exists(shard) and open(shard, "rb").read().count(b"\\n") >= 8:
            import torch
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
        return step(self, *args, **kwargs)
    module.GPUModelRunner.execute_model = execute_model

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "vllm.v1.worker.gpu_model_runner":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            grow(module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


def test_memory_that_runs_out_in_the_middle_keeps_what_was_finished(many, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(OUT_OF_MEMORY)
    shard = shard_path(tmp_path / "run", 0, 1)
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), str(REPO), os.environ.get("PYTHONPATH")]))
    started = Started(worker(many, tmp_path / "run"), tmp_path, PYTHONPATH=path, GROW_WHEN=str(shard))
    status, said = started.end()
    assert status == 1
    assert said.startswith("inference failed: vLLM's engine died: torch.OutOfMemoryError: CUDA out of memory.")
    assert "Too little memory: lower --gpu_memory_utilization" in said and said.endswith(KEPT)
    assert 8 <= len(finished_samples(tmp_path / "run")) == lines_in(shard) < N_SAMPLES


def test_a_killed_engine_process_ends_the_worker_with_one_line_and_the_next_start_completes(many, tmp_path):
    """The first start names the GPU by its UUID, the second by its index."""
    index, uuid = next(iter(listed_devices().items()))
    shard = shard_path(tmp_path / "run", 0, 1)
    words = worker(many, tmp_path / "run")
    first = Started(words, tmp_path, CUDA_VISIBLE_DEVICES=uuid or index)
    wait_until(lambda: lines_in(shard) >= 20, first.process, first.log, seconds=300)
    engines = [pid for pid, name in descendants(first.process.pid).items() if "EngineCore" in name]
    assert len(engines) == 1, descendants(first.process.pid)
    os.kill(engines[0], signal.SIGKILL)
    killed = time.monotonic()
    status, said = first.end()
    assert status == 1 and time.monotonic() - killed < 60
    assert said.startswith("inference failed: vLLM's engine died: ") and said.endswith(KEPT)
    kept = len(finished_samples(tmp_path / "run"))
    assert 20 <= kept == lines_in(shard) < N_SAMPLES
    second = Started(words, tmp_path, CUDA_VISIBLE_DEVICES=index)
    assert second.end() == (0, "")
    counts = f"read {N_SAMPLES} = predicted {N_SAMPLES} ({kept} of them before) + failed 0"
    assert counts in second.log.read_text(errors="replace")
    assert len(finished_samples(tmp_path / "run")) == N_SAMPLES


def test_the_engine_process_ends_with_a_killed_worker_and_leaves_its_memory(many, tmp_path):
    shard = shard_path(tmp_path / "run", 0, 1)
    started = Started(worker(many, tmp_path / "run"), tmp_path)
    wait_until(lambda: lines_in(shard) >= 20, started.process, started.log, seconds=300)
    (engine,) = [pid for pid, name in descendants(started.process.pid).items() if "EngineCore" in name]
    started.process.kill()
    started.process.wait()
    wait_until(lambda: not command_line(engine), seconds=20)


def command_line(pid):
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("named", ["", "GPU-00000000-0000-0000-0000-000000000000", "77"])
def test_a_gpu_that_is_not_there_ends_the_worker_with_one_line(many, tmp_path, named):
    status, said = Started(worker(many, tmp_path / "run"), tmp_path, CUDA_VISIBLE_DEVICES=named).end()
    assert status == 1 and said
    assert not finished_samples(tmp_path / "run")


def test_more_workers_than_gpus_are_refused_in_one_line(toy_data, tmp_path):
    count = len(listed_devices()) + 1
    known = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    settings = {"python": sys.executable, "data_path": str(toy_data), "output_path": str(tmp_path / "run")}
    job = ["bash", REPO / "inference" / "infer_and_eval_example.sh"]
    done = run(*job, env={**known, **settings, "n_gpu": str(count)}, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"nvidia-smi lists {count - 1} GPU(s), worker {count - 1} has none" in done.stderr
    assert not (tmp_path / "run").exists()
