"""Asking a teacher for reasoning through an endpoint: retries, kills, workers, counts."""

import signal
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer

import pytest

from inference.data.vecbench import MIKELS_8
from inference.runs.shards import read_results, shard_path
from scripts.build_vec_cot import __main__ as build_command
from tests.helpers.commands import REPO, lines_in, read_jsonl, run, wait_until, write_jsonl
from tests.helpers.vec_cot import SECTIONS, Teacher, labelled, scene


@pytest.fixture(scope="module")
def teacher():
    with ThreadingHTTPServer(("127.0.0.1", 0), Teacher) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def write_command(data, output, url, *more):
    return [
        "-m", "scripts.build_vec_cot.write_reasoning", "--data_path", data, "--output_path", output,
        "--engine", "openai", "--base_url", url, "--model_name", "made-up", "--max_num_seqs", "4",
        "--max_retries", "0", "--min_words", "5", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Thirty good rows (never labelled awe), and two that cannot be used."""
    folder = tmp_path_factory.mktemp("records")
    labels = [label for label in MIKELS_8 if label != "awe"]
    rows = [labelled(folder, f"{i}.png", scene(i), label=labels[i % 7], id=f"r{i}", stage=1) for i in range(30)]
    rows[10:10] = [{**rows[0], "id": "gone", "image": "gone.png"}, {**rows[0], "id": "joy", "ground_truth": "joy"}]
    return write_jsonl(folder / "records.jsonl", rows)


@pytest.fixture(scope="module")
def written(records, teacher, tmp_path_factory):
    output = tmp_path_factory.mktemp("written")
    return output, run(*write_command(records, output, teacher)).stdout


def three_files(output):
    return {name: (output / f"{name}.jsonl").read_bytes() for name in ("reasoning", "rejected", "error")}


def test_what_fails_is_asked_again_then_rejected_with_all_its_reasons_and_counts_add_up(written, records):
    output, printed = written
    good, rejected, error = (read_jsonl(output / f"{name}.jsonl") for name in ("reasoning", "rejected", "error"))
    assert f"read 32 = written {len(good)} + rejected {len(rejected)} + failed 2" in printed
    assert len(good) + len(rejected) == 30 and len(good) > 10 and len(rejected) > 2
    assert {row["id"] for row in error} == {"gone", "joy"}
    assert f"{records}, line 12, field 'ground_truth': expected one of the candidates" in error[1]["error"]
    assert {row["attempt"] for row in good} == {0, 1, 2}
    for row in good:
        assert row["reasoning"].keys() == SECTIONS.keys() and row["ground_truth"] in row["reasoning"]["analysis"]
    for row in rejected:
        found = [problem["code"] for attempt in row["attempts"] for problem in attempt["problems"]]
        assert len(row["attempts"]) == 3 and set(found) <= {"leak", "wrong_answer"} and row["reason"] == found[-1]
        assert len({attempt["response"] for attempt in row["attempts"]}) == 3  # other seeds, other texts
    assert {row["ground_truth"] for row in good} <= set(MIKELS_8)


def test_writing_killed_in_the_middle_and_started_again_equals_an_uninterrupted_run(
    written, records, teacher, tmp_path
):
    Teacher.delay = 0.1
    command = [str(word) for word in (sys.executable, *write_command(records, tmp_path, teacher))]
    worker = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shard = shard_path(tmp_path, 0, 1)
    wait_until(lambda: lines_in(shard) >= 32, worker)  # the second round has begun
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    Teacher.delay = 0.0
    asked = len(list(read_results(shard)))
    assert not (tmp_path / "reasoning.jsonl").exists()
    with open(shard, "ab") as handle:
        handle.write(b'{"sample_id": "r1#2", "respon')
    run(*write_command(records, tmp_path, teacher))
    assert asked < len(list(read_results(shard)))
    assert three_files(tmp_path) == three_files(written[0])
    assert shard.read_bytes() == shard_path(written[0], 0, 1).read_bytes()


def test_two_workers_and_a_collection_give_what_one_worker_gives(written, records, teacher, tmp_path):
    for index in (0, 1):
        run(*write_command(records, tmp_path, teacher, "--index", index, "--n_shards", 2))
        assert not (tmp_path / "reasoning.jsonl").exists()
        early = run(*write_command(records, tmp_path, teacher, "--collect_only"), check=False)
        assert early.returncode == (1 if index == 0 else 0)
        assert index or "15 records are still to be asked; run all workers first" in early.stderr
    assert three_files(tmp_path) == three_files(written[0])


def test_an_endpoint_that_fails_leaves_error_rows_that_the_next_start_asks_again(written, records, teacher, tmp_path):
    done = run(*write_command(records, tmp_path, "http://127.0.0.1:9/v1"), check=False)  # nobody listens there
    assert "read 32 = written 0 + rejected 0 + failed 32" in done.stdout
    assert done.returncode == 1 and "nothing was written" in done.stderr.splitlines()[-1]
    run(*write_command(records, tmp_path, teacher))
    assert three_files(tmp_path) == three_files(written[0])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "1"], "has results of another run: settings.seed was 0, is 1; take another output folder"),
        (["--teacher_prompt", "recognition"], "settings.teacher_prompt was 'People say"),
        (["--teacher_prompt", "nowhere.txt"], "expected label, recognition or a text file, got nowhere.txt"),
        (["--temperature", "0"], "at --temperature 0 every attempt is the same"),
        (["--min_words", "9", "--max_words", "3"], "expected 0 < min_words <= max_words, got 9 and 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(written, records, teacher, more, message):
    done = run(*write_command(records, written[0], teacher, *more), check=False)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]


class FakeProcess:
    def __init__(self, status=0):
        self.status = status

    def wait(self):
        return self.status


def test_each_worker_has_a_gpu_and_a_share_of_its_own_and_one_process_collects(monkeypatch):
    started = []

    def start(module, *options, **environment):
        started.append(([str(option) for option in options], environment))
        return FakeProcess()

    monkeypatch.setattr(build_command, "start", start)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    build_command.sample("step", ["--x"], 3)
    for index, device in enumerate("457"):
        options = ["--x", "--index", str(index), "--n_shards", "3"]
        assert started[index] == (options, {"CUDA_VISIBLE_DEVICES": device})
    assert started[3:] == [(["--x", "--collect_only"], {})]
    with pytest.raises(SystemExit, match="names 3"):
        build_command.sample("step", [], 4)
    monkeypatch.setattr(build_command, "start", lambda *_, **__: FakeProcess(1))
    with pytest.raises(SystemExit, match=r"workers \[0, 1\] failed"):
        build_command.sample("step", [], 2)
