"""Engines on a real Ray cluster of two nodes on this machine: same results, killed nodes, killed drivers, poison."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from inference.runs.shards import read_results, shard_path
from tests.helpers.commands import REPO, TOY_CHECKPOINT, TOY_PIXELS, read_jsonl, run, wait_until, write_jsonl
from tests.helpers.results import same_but_for_log_probabilities

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # Ray would replace 127.0.0.1 by the machine's own address


def infer_command(data, output, *more):
    return [
        "-m", "inference.inference_vllm", "--data_path", data, "--output_path", output, "--checkpoint", TOY_CHECKPOINT,
        "--max_new_tokens", "160", *TOY_PIXELS, *more,
    ]  # fmt: skip


def shard(output):
    path = shard_path(output, 0, 1)
    return path.read_bytes() if path.exists() else b""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one processor each: (address, add_node, kill_node). Nobody else's Ray can see or join it."""
    folder = tempfile.mkdtemp(prefix="ray_", dir="/tmp")  # short: sockets lie in it
    settings = {
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_health_check_initial_delay_ms": "0",  # a killed node is noticed within seconds
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "3000",
        "RAY_health_check_failure_threshold": "3",
        "OMP_NUM_THREADS": "1",
        **LOOPBACK,
    }
    node_settings = {"num_cpus": 1, "object_store_memory": 200 << 20}
    addresses = (f"127.0.0.{number}" for number in itertools.count(1))  # one a node: the driver belongs to the first
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        head = {**node_settings, "node_ip_address": next(addresses), "include_dashboard": False}
        running = Cluster(initialize_head=True, head_node_args=head)

        def add_node():
            node = running.add_node(**node_settings, node_ip_address=next(addresses))
            # Nodes of one machine share the file that tells a driver which of them is its own: the first.
            path = Path(running.head_node.get_session_dir_path()) / "node_ip_address.json"
            path.write_text('{"node_ip_address": "127.0.0.1"}')
            return node

        def kill_node(node):
            """kill -9 of the node's raylet and of all its workers."""
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            for process in [raylet, *raylet.children(recursive=True)]:
                process.kill()

        nodes = [add_node()]
        yield SimpleNamespace(address=running.address, nodes=nodes, add_node=add_node, kill_node=kill_node)
        running.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def alone(toy_data, tmp_path_factory):
    """The shard of the same job by vLLM without Ray."""
    output = tmp_path_factory.mktemp("alone")
    run(*infer_command(toy_data, output))
    assert len(shard(output).splitlines()) == 36
    return shard(output)


def assert_same_up_to_the_last_digits_of_log_probabilities(output, expected):
    """All else is equal; batches of other sizes add float32 numbers in another order."""
    parts = ([json.loads(line) for line in part.splitlines()] for part in (shard(output), expected))
    same_but_for_log_probabilities(*parts)


def ray_options(cluster, *more):
    return ["--engine", "ray", "--ray_address", cluster.address, *more]


def start(command, log):
    """The driver in the background, its log in a file."""
    with open(log, "w") as handle:
        return subprocess.Popen([sys.executable, *map(str, command)], cwd=REPO, stdout=handle, stderr=handle)


# Neither engine takes work before both are loaded: the first could be done before the second is ready.
TOGETHER = """
import os, time
from pathlib import Path
from inference import inference_vllm
from inference.engines import ray

LOADED = Path({folder!r})

class Together(ray.EngineActor):
    def describe(self):
        (LOADED / str(os.getpid())).touch()
        deadline = time.monotonic() + 120
        while len(list(LOADED.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        return super().describe()

ray.RayEngine.actor_class = Together
inference_vllm.main()
"""


def together(command, folder):
    """The inference command, with engines that wait for one another."""
    folder.mkdir()
    return ["-c", TOGETHER.format(folder=str(folder)), *command[2:]]


def test_two_actors_on_two_nodes_write_the_results_of_one_engine_without_ray(cluster, alone, toy_data, tmp_path):
    """Started in a folder with another module called inference, which neither driver nor actors take."""
    (tmp_path / "inference.py").write_text("raise RuntimeError('a stranger')")
    command = infer_command(toy_data, tmp_path / "run", *ray_options(cluster, "--max_num_seqs", 4))
    own = {**os.environ, "PYTHONPATH": str(REPO), "PYTHONSAFEPATH": "1"}
    done = run(sys.executable, *together(command, tmp_path / "loaded"), cwd=tmp_path, env=own)
    assert "read 36 = predicted 36 (0 of them before) + failed 0" in done.stderr
    assert len(set(re.findall(r"is ready \((127\.0\.0\.\d+)", done.stderr))) == 2
    assert_same_up_to_the_last_digits_of_log_probabilities(tmp_path / "run", alone)


@pytest.mark.faults
def test_a_killed_node_loses_nothing_and_one_that_joins_is_used(cluster, alone, toy_data, tmp_path):
    command = infer_command(toy_data, tmp_path, *ray_options(cluster, "--n_actors", "2"), "--max_num_seqs", "2")
    log = tmp_path / "driver.log"
    driver = start(together(command, tmp_path / "loaded"), log)
    wait_until(lambda: shard(tmp_path).count(b"\n") >= 4 and log.read_text().count("is ready") == 2, driver, log)
    cluster.kill_node(cluster.nodes.pop())
    assert shard(tmp_path).count(b"\n") < 30
    cluster.nodes.append(cluster.add_node())
    try:
        assert driver.wait(timeout=120) == 0, log.read_text()
    except subprocess.TimeoutExpired:
        driver.kill()
        pytest.fail(log.read_text())
    assert "WARNING lost actor" in log.read_text()
    assert "read 36 = predicted 36 (0 of them before) + failed 0" in log.read_text()
    assert_same_up_to_the_last_digits_of_log_probabilities(tmp_path, alone)


@pytest.mark.faults  # engines start twice, one after the other
def test_a_killed_driver_goes_on_where_it_was(cluster, alone, toy_data, tmp_path):
    command = infer_command(toy_data, tmp_path, *ray_options(cluster, "--n_actors", "1"), "--max_num_seqs", "2")
    log = tmp_path / "driver.log"
    driver = start(command, log)
    wait_until(lambda: shard(tmp_path).count(b"\n") >= 4, driver, log)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = len(list(read_results(shard_path(tmp_path, 0, 1))))
    assert 4 <= before < 36
    done = run(*command)  # the dead driver's actors make room by themselves
    assert f"read 36 = predicted 36 ({before} of them before) + failed 0" in done.stderr
    assert_same_up_to_the_last_digits_of_log_probabilities(tmp_path, alone)


POISONED = """
import os, signal
from inference import inference_vllm
from inference.engines import ray

class Poisoned(ray.EngineActor):
    def exchange(self, requests, seconds):
        if any(request.sample_id == "poison" for request in requests):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().exchange(requests, seconds)

ray.RayEngine.actor_class = Poisoned
inference_vllm.main()
"""


@pytest.mark.faults
def test_a_request_that_kills_its_actors_becomes_an_error_and_the_others_are_answered(cluster, toy_data, tmp_path):
    rows = read_jsonl(toy_data)[:12]
    for row in rows:
        image = row["conversations"][0]["content"][0]
        image["image"] = str(toy_data.parent / image["image"])
    rows[3]["id"] = "poison"
    rows[11]["conversations"][0]["content"].insert(0, rows[0]["conversations"][0]["content"][0])  # a second image
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    options = ray_options(cluster, "--actor_engine", "transformers", "--n_actors", "2", "--max_images", "2")
    command = infer_command(data, tmp_path, *options, "--temperature", "0", "--image_root", toy_data.parent)
    done = run(sys.executable, "-c", POISONED, *command[2:])
    assert "read 12 = predicted 11 (0 of them before) + failed 1" in done.stderr
    assert done.stderr.count("WARNING lost actor") == 3
    results = {result["sample_id"]: result for result in read_results(shard_path(tmp_path, 0, 1))}
    assert results["poison"]["error"].startswith("line 4: 3 actors ended with this request, the last one had no other")
    assert sum("response" in result for result in results.values()) == 11
    assert [results[rows[i]["id"]]["image_tokens"] for i in (0, 10, 11)] == [9, 9, 18]


@pytest.mark.faults
def test_without_any_actor_for_too_long_the_run_ends_and_says_so(cluster, toy_data, tmp_path):
    """The time is shorter than an engine's start."""
    command = infer_command(toy_data, tmp_path, *ray_options(cluster), "--actor_timeout", "1")
    done = run(*command, check=False)
    assert done.returncode == 1
    assert "no engine has run there for 1 s" in done.stderr.splitlines()[-1]
    assert "what was inferred is kept" in done.stderr.splitlines()[-1]


@pytest.mark.faults
def test_a_checkpoint_that_no_node_can_load_ends_the_run_with_the_reason(cluster, toy_data, tmp_path, of_five_layers):
    options = ray_options(cluster, "--actor_engine", "transformers", "--n_actors", "1")
    command = infer_command(toy_data, tmp_path, *options, "--checkpoint", of_five_layers)
    done = run(*command, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"{cluster.address}: no engine could be loaded there; last: actor 1" in last
    assert f"{of_five_layers}: its weights lack 12 tensors of the model that config.json names" in last


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_an_address_without_a_cluster_is_one_clear_line(toy_data, tmp_path, address):
    done = run(*infer_command(toy_data, tmp_path, "--engine", "ray", "--ray_address", address), check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"inference failed: ConnectionError: no Ray cluster at '{address}'")
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_the_template_runs_over_a_local_cluster_from_a_python_in_a_folder_with_a_space(toy_data, tmp_path):
    """Greedy, by transformers: the same as without Ray."""
    (tmp_path / "my environment").symlink_to(sys.prefix)
    with tempfile.TemporaryDirectory(prefix="ray_", dir="/tmp") as folder:
        settings = {
            "python": tmp_path / "my environment" / "bin" / "python", "data_path": toy_data,
            "output_path": tmp_path / "run", "checkpoint": TOY_CHECKPOINT, "engine": "ray", "n_actors": 2,
            "inference_args": "--actor_engine transformers", "limit": 5, "temperature": 0, "max_new_tokens": 160,
            "min_pixels": 3136, "max_pixels": 12544, "RAY_TMPDIR": folder,
        }  # fmt: skip
        environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
        done = run("bash", REPO / "inference" / "infer_and_eval_example.sh", env=environment)
    assert "read 5 = predicted 5 + failed 0" in done.stdout
    log = (tmp_path / "run" / "worker_0.log").read_text()
    assert re.search(r" is ready \(\d+\.\d+\.\d+\.\d+, pid", log), log
    one = infer_command(toy_data, tmp_path / "one", "--engine", "transformers", "--temperature", "0", "--limit", "5")
    run(*one)
    assert_same_up_to_the_last_digits_of_log_probabilities(tmp_path / "run", shard(tmp_path / "one"))
