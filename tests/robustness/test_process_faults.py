"""Processes that are killed and clocks that run backwards: the next start ends with the undisturbed result."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

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
from tests.helpers.endpoint_runs import command, records
from tests.helpers.endpoint_server import serve

KILLS = 10  # at each of the two temperatures
N_SAMPLES = 108


@pytest.fixture(scope="module")
def many(toy_data):
    return many_samples(toy_data, N_SAMPLES)


def vllm(data, output, temperature):
    return [
        "-m", "inference.inference_vllm", "--data_path", data, "--output_path", output, "--checkpoint", TOY_CHECKPOINT,
        "--max_new_tokens", "160", "--max_num_seqs", "8", "--temperature", temperature, "--seed", "3", *TOY_PIXELS,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory):
    """temperature → the shard of an undisturbed run, by real vLLM."""
    found = {}
    for temperature in ("0", "0.7"):
        output = tmp_path_factory.mktemp("whole")
        run(*vllm(many, output, temperature))
        found[temperature] = shard_path(output, 0, 1).read_bytes()
        assert len(finished_samples(output)) == found[temperature].count(b"\n") == N_SAMPLES
    return found


def start(words, **environment):
    """The command in a process group of its own; its stderr is a pipe."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)], cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True, env={**os.environ, **environment}, text=True,
    )  # fmt: skip


def wait_for_lines(shard, wanted, process):
    wait_until(lambda: lines_in(shard) >= wanted, process, seconds=600, pause=0.002)


@pytest.mark.faults
@pytest.mark.parametrize("temperature", ["0", "0.7"])
def test_vllm_killed_at_random_moments_ends_with_the_file_of_an_undisturbed_run(many, whole, tmp_path, temperature):
    chance = random.Random(f"kills at {temperature}")
    shard = shard_path(tmp_path, 0, 1)
    words = vllm(many, tmp_path, temperature)
    moments = []
    for kill in range(KILLS):
        known = lines_in(shard)
        worker = start(words)
        if kill % 5 == 4:  # while it starts
            time.sleep(chance.uniform(0, 8))
        else:
            wait_for_lines(shard, known + chance.randrange(1, 10), worker)
            time.sleep(chance.uniform(0, 0.1))
        os.killpg(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
        worker.stderr.close()
        moments.append(lines_in(shard))
    assert len(moments) == KILLS and len(set(moments)) >= KILLS // 2 and moments[-1] < N_SAMPLES, moments
    kept = len(finished_samples(tmp_path))
    done = run(*words)
    assert f"read {N_SAMPLES} = predicted {N_SAMPLES} ({kept} of them before) + failed 0" in done.stderr
    assert shard.read_bytes() == whole[temperature]
    assert N_SAMPLES - len(finished_samples(tmp_path)) == 0


@pytest.mark.faults
def test_vllms_engine_process_killed_in_the_middle_ends_the_worker_with_one_line(many, whole, tmp_path):
    shard = shard_path(tmp_path, 0, 1)
    words = vllm(many, tmp_path, "0.7")
    worker = start(words, VLLM_ENABLE_V1_MULTIPROCESSING="1")
    wait_for_lines(shard, 20, worker)
    engines = [pid for pid, name in descendants(worker.pid).items() if "EngineCore" in name]
    assert len(engines) == 1, descendants(worker.pid)
    os.kill(engines[0], signal.SIGKILL)
    _, errors = worker.communicate(timeout=300)
    assert worker.returncode == 1
    said = [line for line in errors.splitlines() if line.startswith("inference failed: ")]
    assert len(said) == 1, errors[-3000:]
    assert said[0].startswith("inference failed: vLLM's engine died: ")
    assert said[0].endswith("What was finished is kept: start the same command again.")
    kept = finished_samples(tmp_path)
    assert 20 <= len(kept) == lines_in(shard) < N_SAMPLES
    done = run(*words)
    assert f"({len(kept)} of them before) + failed 0" in done.stderr
    assert shard.read_bytes() == whole["0.7"]
    assert N_SAMPLES - len(finished_samples(tmp_path)) == 0


# On CPU vLLM would put its worker into a third process; here it is in the engine's, as on a GPU.
AS_ON_A_GPU = """
import sys, time
from vllm.v1.executor.abstract import UniProcExecutor
from inference.engines.base import EngineSettings
from inference.engines.vllm import VllmEngine

class Engine(VllmEngine):
    def options(self, on_cpu):
        return {**super().options(on_cpu), "distributed_executor_backend": UniProcExecutor}

engine = Engine(EngineSettings(sys.argv[1], max_model_len=512, min_pixels=3136, max_pixels=12544))
print("engine", *(process.pid for process in engine.llm.llm_engine.engine_core.resources.engine_manager.processes))
sys.stdout.flush()
time.sleep(600)
"""


@pytest.mark.faults
def test_vllms_engine_process_ends_with_a_worker_that_was_killed(tmp_path):
    """It would keep the GPU's memory, and the next start would have none."""
    words = [sys.executable, "-c", AS_ON_A_GPU, TOY_CHECKPOINT]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with open(tmp_path / "log", "w") as log:
        worker = subprocess.Popen(words, cwd=REPO, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    said = next(line for line in worker.stdout if line.startswith("engine "))
    engine = int(said.split()[1])
    worker.kill()
    try:
        worker.communicate(timeout=20)  # until the engine, too, has closed what both write to
    finally:
        with suppress(ProcessLookupError):
            os.kill(engine, signal.SIGKILL)


# --- a clock that goes backwards ---------------------------------------------------------------------

# Ten seconds back for each that passes, and an hour back at once after the first fifty looks at it.
BACKWARDS = """
import itertools, time
first, start, looks = time.time(), time.monotonic(), itertools.count()
def backwards():
    return first - 10 * (time.monotonic() - start) - 3600 * (next(looks) > 50)
time.time = backwards
time.time_ns = lambda: int(backwards() * 1e9)
"""


@pytest.fixture
def backwards(tmp_path):
    """The environment of a process whose clock goes backwards."""
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BACKWARDS)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPO}"}
    told = subprocess.run(
        [sys.executable, "-c", "import time; a = time.time(); time.sleep(0.1); print(time.time() - a)"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(told.stdout) < -0.9
    return environment


def test_a_worker_and_an_evaluation_with_a_clock_that_goes_backwards_give_the_same_files(tmp_path, backwards):
    data = records(tmp_path, [f"Which emotion does picture {number} evoke?" for number in range(30)])
    found = {}
    with serve() as server:
        server.healthy = True
        for name, environment in (("forwards", None), ("backwards", backwards)):
            output = tmp_path / name / "run"
            options = {"env": environment} if environment else {}
            run(*command(data, output, server), **options)
            words = ["-m", "inference.evaluate", "--output_path", output, "--data_path", data, "--no_plots"]
            run(*words, "--n_resamples", "0", **options)
            found[name] = {
                path.name: path.read_bytes() for path in output.iterdir() if path.suffix in (".jsonl", ".log")
            }
    assert found["backwards"] == found["forwards"]
    assert len(found["forwards"]) >= 6
    assert 30 - len(finished_samples(tmp_path / "backwards" / "run")) == 0


@pytest.mark.faults
def test_vllm_with_a_clock_that_goes_backwards_gives_the_same_file(many, whole, tmp_path, backwards):
    run(*vllm(many, tmp_path / "run", "0.7"), env=backwards)
    assert shard_path(tmp_path / "run", 0, 1).read_bytes() == whole["0.7"]
    assert N_SAMPLES - len(finished_samples(tmp_path / "run")) == 0
