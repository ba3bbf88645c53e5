"""The whole job as users start it: two at once, killed, with other settings, and what its tables can be traced to."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from PIL import Image

from inference.runs.shards import finished_samples, shard_path
from tests.helpers.commands import REPO, lines_in, read_jsonl, run, wait_until, write_jsonl
from tests.helpers.endpoint_server import serve


@pytest.fixture(scope="module")
def endpoint():
    """Base URL of a server that answers each request the same way whenever it is asked, after a moment."""
    with serve(seconds=0.05) as server:
        yield server.url


def job(toy_data, url, output, **more):
    """(command, environment) of the main job on the toy records, asked from an endpoint one after another."""
    settings = {
        "engine": "openai", "base_url": url, "model_name": "scripted", "data_path": toy_data, "output_path": output,
        "python": sys.executable, "report": "false", "inference_args": "--max_num_seqs 1",
        "evaluate_args": "--n_resamples 0 --no_plots", **more,
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    return ["bash", str(REPO / "inference" / "infer_and_eval_example.sh")], environment


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, toy_data, endpoint):
    output = tmp_path_factory.mktemp("uninterrupted") / "run"
    command, environment = job(toy_data, endpoint, output)
    run(*command, env=environment)
    return output


def ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_two_jobs_on_one_output_at_once_one_does_it_and_the_other_names_its_process(
    tmp_path, toy_data, endpoint, uninterrupted
):
    command, environment = job(toy_data, endpoint, tmp_path / "run")
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=120)[0] for process in both]
    status = [process.returncode for process in both]
    assert sorted(status) == [0, 2], printed
    won, lost = (0, 1) if status[0] == 0 else (1, 0)
    assert f"another job is running there (pid {both[won].pid})" in printed[lost]
    assert shard_path(tmp_path / "run", 0, 1).read_bytes() == shard_path(uninterrupted, 0, 1).read_bytes()
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["starts"]) == 1
    assert 36 - len(finished_samples(tmp_path / "run")) == 0


def test_a_killed_job_takes_its_workers_along_and_its_next_start_ends_as_if_uninterrupted(
    tmp_path, toy_data, endpoint, uninterrupted
):
    output = tmp_path / "run"
    command, environment = job(toy_data, endpoint, output, n_gpu=2)
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: all(lines_in(shard_path(output, index, 2)) >= 3 for index in (0, 1)), killed)
    workers = [int(shard_path(output, index, 2).with_suffix(".lock").read_text()) for index in (0, 1)]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_until(lambda: all(map(ended, workers)), seconds=30)
    lines = sum(len(shard_path(output, index, 2).read_bytes().splitlines()) for index in (0, 1))
    assert 6 <= lines < 36
    run(*command, env=environment)
    assert (output / "merged.jsonl").read_bytes() == (uninterrupted / "merged.jsonl").read_bytes()
    told = json.loads((output / "run.json").read_text())
    assert ["ended" in start for start in told["starts"]] == [False, False, True, True]
    assert sum(start["counts"]["samples"] for start in told["starts"] if "ended" in start) == 36
    assert 36 - len(finished_samples(output)) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_job_ends_with_130_and_its_workers_with_it(tmp_path, toy_data, endpoint, number):
    output = tmp_path / "run"
    command, environment = job(toy_data, endpoint, output, n_gpu=2)
    stopped = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: all(lines_in(shard_path(output, index, 2)) >= 1 for index in (0, 1)), stopped)
    workers = [int(shard_path(output, index, 2).with_suffix(".lock").read_text()) for index in (0, 1)]
    stopped.send_signal(number)
    assert "Traceback" not in stopped.communicate(timeout=60)[1]
    assert stopped.returncode == 130
    wait_until(lambda: all(map(ended, workers)), seconds=30)
    assert len(finished_samples(output)) < 36


def test_the_job_refuses_other_settings_unless_told_to_overwrite(tmp_path, toy_data, endpoint, uninterrupted):
    output = tmp_path / "run"
    shutil.copytree(uninterrupted, output)
    command, environment = job(toy_data, endpoint, output, temperature=0)
    refused = run(*command, env=environment, check=False)
    assert refused.returncode == 1
    assert "settings.temperature was 0.7, is 0.0" in refused.stderr.strip().splitlines()[-1]
    assert (output / "merged.jsonl").read_bytes() == (uninterrupted / "merged.jsonl").read_bytes()
    run(*command, env={**environment, "overwrite": "true"})
    assert json.loads((output / "metrics.json").read_text())["run"]["settings"]["temperature"] == 0
    assert run("-m", "inference.provenance", output).returncode == 0


def pictures(request):
    """The images of a chat completion's request."""
    items = [item for message in request["messages"] for item in message["content"] if isinstance(item, dict)]
    urls = [item["image_url"]["url"] for item in items if item["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def test_replaced_images_are_what_the_model_gets_and_every_file_of_the_run_says_so(tmp_path, toy_data):
    output = tmp_path / "run"
    small = {"min_pixels": 3136, "max_pixels": 12544, "limit": 4, "report": "true"}
    with serve() as server:
        command, environment = job(toy_data, server.url, output, replace_images="grey", **small)
        run(*command, env=environment)
        images = [image for request in server.requests for image in pictures(request)]
        assert [(image.size, image.getextrema()) for image in images] == [((84, 84), ((128, 128),) * 3)] * 4
        before = (output / "merged.jsonl").read_bytes()
        for other in ("", "noise"):  # never in one folder
            command, environment = job(toy_data, server.url, output, replace_images=other, **small)
            refused = run(*command, env=environment, check=False)
            assert refused.returncode == 1
            now = repr(other) if other else "not set"
            assert f"settings.replace_images was 'grey', is {now}" in refused.stderr
        assert len(server.requests) == 4 and (output / "merged.jsonl").read_bytes() == before
    assert all(result["replace_images"] == "grey" for result in read_jsonl(output / "merged.jsonl"))
    metrics = json.loads((output / "metrics.json").read_text())
    note = "in place of each image the model saw mid-grey of the same size"
    assert metrics["notices"][0].startswith(note)
    assert metrics["run"]["settings"]["replace_images"] == "grey"
    assert metrics["run"]["summary"].endswith("images replaced by grey")
    for name in ("metric.log", "metric_conf.log"):
        assert (output / name).read_text(encoding="utf-8").startswith(f"NOTE: {note}")
    page = (output / "report.html").read_text(encoding="utf-8")
    assert f"<p>{note}" in page and '"shown": "mid-grey of the same size"' in page


def test_a_data_file_of_one_image_has_no_other_one_and_is_refused_before_anything_starts(tmp_path, endpoint):
    row = {"image": "a.png", "task": "FI-2", "ground_truth": "positive", "candidates": ["positive", "negative"]}
    data = write_jsonl(tmp_path / "data.jsonl", [row, row])
    command, environment = job(data, endpoint, tmp_path / "run", replace_images="other")
    done = run(*command, env=environment, check=False)
    assert done.returncode == 2
    assert "replace_images=other: expected records of at least two images, got 1" in done.stderr.splitlines()[-1]
    assert list((tmp_path / "run").glob("shard_*.jsonl")) == []


def test_a_table_is_traced_to_its_run_and_what_has_changed_since_is_named(tmp_path, toy_data, uninterrupted):
    metrics = json.loads((uninterrupted / "metrics.json").read_text())["run"]
    assert f"run {metrics['run_id'][:16]}: data {metrics['data']['sha256'][:16]}" in (
        uninterrupted / "metric.log"
    ).read_text(encoding="utf-8")
    whole = run("-m", "inference.provenance", uninterrupted)
    assert "belong together" in whole.stdout
    output = tmp_path / "run"
    for file, change, named in (
        ("merged.jsonl", lambda text: text.replace("awe", "AWE"), "merged.jsonl is not the file"),
        ("run.json", lambda text: text.replace('"starts"', ' "starts"'), "made from another state of run.json"),
        ("run.json", lambda text: text.replace(str(toy_data), str(toy_data) + "x"), "no such file"),
        ("run.json", lambda text: text.replace(metrics["data"]["sha256"], "0" * 64), "has changed since"),
        ("metrics.json", lambda text: json.dumps({**json.loads(text), "run": None}), "names no run"),
    ):
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(uninterrupted, output)
        before = (output / file).read_text(encoding="utf-8")
        assert change(before) != before
        (output / file).write_text(change(before), encoding="utf-8")
        done = run("-m", "inference.provenance", output, check=False)
        assert done.returncode == 1 and named in done.stdout, (file, done.stdout, done.stderr)


def test_run_json_tells_versions_command_seed_budget_host_times_and_counts(uninterrupted, toy_data):
    told = json.loads((uninterrupted / "run.json").read_text())
    start = told["starts"][0]
    assert start["counts"] == {"samples": 36, "predicted": 36, "failed": 0}
    assert start["command"][1:3] == ["-m", "inference.inference_vllm"] and str(toy_data) in start["command"]
    assert {"python", "openai", "pillow"} <= start["versions"].keys()
    assert start["started"] <= start["ended"] and start["seconds"] > 0 and start["host"]
    settings = told["identity"]["settings"]
    assert (settings["seed"], settings["min_pixels"], settings["max_pixels"]) == (0, 200704, 451584)
