"""Small disks that are full, read-only or gone: one clear line, nothing half, and then the undisturbed result."""

import shutil
import subprocess
import sys
from http.server import ThreadingHTTPServer
from threading import Thread

import pytest

from inference.runs.shards import finished_samples, shard_path
from scripts.build_vec_cot.stages import PUBLISHED_ROWS
from tests.helpers.commands import REPO, TOY_CHECKPOINT, read_jsonl, run, write_jsonl
from tests.helpers.endpoint_runs import command, records
from tests.helpers.endpoint_server import serve
from tests.helpers.full_disk import check_failure, check_fill, files_of, said
from tests.helpers.small_disk import PAGE, small_disk
from tests.helpers.vec_cot import Teacher

N_SAMPLES = 40


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "small disk") as mounted:
        yield mounted


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return records(
        tmp_path_factory.mktemp("data"), [f"Which emotion does picture {i} evoke?" for i in range(N_SAMPLES)]
    )


@pytest.fixture(scope="module")
def endpoint():
    with serve() as server:
        server.healthy = True
        yield server


# --- the worker ----------------------------------------------------------------------------------


def test_a_disk_that_fills_up_under_a_worker_costs_no_finished_line(disk, data, endpoint, tmp_path):
    """Full in the middle, then with room for all lines but not for their sorted copy."""
    run(*command(data, tmp_path / "whole", endpoint))
    whole = shard_path(tmp_path / "whole", 0, 1).read_bytes()
    out = disk.path / "run"
    shard, words = shard_path(out, 0, 1), command(data, out, endpoint)

    disk.leave(5 * PAGE)
    done = run(*words, check=False)
    check_failure(done, f"inference failed: OSError: {shard}: ")
    assert shard.read_bytes().endswith(b"}\n")
    kept = len(finished_samples(out))
    assert 0 < kept < N_SAMPLES and kept == shard.read_bytes().count(b"\n")

    disk.leave(len(whole) + PAGE)
    check_failure(run(*words, check=False))
    assert len(finished_samples(out)) > kept

    disk.make_room()
    run(*words)
    assert shard.read_bytes() == whole
    assert not [path for path in out.iterdir() if path.suffix == ".tmp"]
    assert N_SAMPLES - len(finished_samples(out)) == 0


def test_a_disk_that_is_full_from_the_start_is_named(disk, data, endpoint):
    disk.leave(0)
    check_failure(run(*command(data, disk.path / "run", endpoint), check=False))


@pytest.mark.parametrize("what", ["read-only", "a file", "a file above it"])
def test_a_folder_that_cannot_be_written_ends_a_worker_in_one_line(disk, data, endpoint, what):
    out = disk.path / "run"
    expected = "a file is where a folder is expected"
    if what == "read-only":
        disk.remount("ro")
        expected = "cannot be written, the disk is read-only"
    else:
        out.write_text("a file")
        out = out / "deeper" if what == "a file above it" else out
    done = run(*command(data, out, endpoint), check=False)
    assert done.returncode == 1
    assert said(done).startswith("inference failed: ") and f"{disk.path / 'run'}" in said(done)
    assert expected in said(done)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ["removed", "unmounted"])
def test_a_folder_that_vanishes_in_the_middle_ends_the_worker_at_once(disk, data, how):
    out = disk.path / "run"
    shard = shard_path(out, 0, 1)
    with serve(seconds=0.3) as slow:
        slow.healthy = True
        words = [str(word) for word in command(data, out, slow, "--max_num_seqs", "2")]
        worker = subprocess.Popen([sys.executable, *words], cwd=REPO, stderr=subprocess.PIPE, text=True)
        while not (shard.exists() and shard.stat().st_size):
            assert worker.poll() is None
        if how == "removed":
            shutil.rmtree(out)
        else:
            disk.take_away()
        _, errors = worker.communicate(timeout=60)
        answered = sum(slow.tries.values())
    assert worker.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("inference failed: ") and str(shard) in last and "Traceback" not in errors
    assert answered < N_SAMPLES / 2  # not only after all of the work


# --- the evaluation ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(data, endpoint, tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("run")
    run(*command(data, out, endpoint))
    return out


def evaluation(out, *more):
    return ["-m", "inference.evaluate", "--output_path", out, "--n_resamples", "0", "--quiet", *more]


def test_a_disk_that_fills_up_under_the_figures_ends_an_evaluation_in_one_line(disk, evaluated):
    out = disk.path / "run"
    shutil.copytree(evaluated, out)
    tables = len(shard_path(out, 0, 1).read_bytes()) * 2 + 40 * PAGE
    disk.leave(tables)
    done = run(*evaluation(out), check=False)
    check_failure(done, ".png: ")
    assert said(done).startswith("cannot evaluate: ")
    assert not [path.name for path in out.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.faults
def test_an_evaluation_after_a_full_disk_equals_an_undisturbed_one(disk, evaluated):
    out = disk.path / "run"
    shutil.copytree(evaluated, out)
    full = check_fill(disk, evaluation(out), out, [pages * PAGE for pages in (0, 1, 9, 12, 30, 45, 80, 120, 200)])
    assert full >= 6


@pytest.mark.faults
def test_a_report_after_a_full_disk_equals_an_undisturbed_one(disk, evaluated, data):
    out = disk.path / "run"
    shutil.copytree(evaluated, out)
    run(*evaluation(out))
    words = ["-m", "inference.report", "--output_path", out, "--data_path", data, "--processes", "1"]
    full = check_fill(disk, words, out, [pages * PAGE for pages in (0, 1, 10, 100)])
    assert full >= 3


@pytest.mark.faults
def test_a_read_only_folder_ends_an_evaluation_in_one_line(disk, evaluated):
    out = disk.path / "run"
    shutil.copytree(evaluated, out)
    disk.remount("ro")
    done = run(*evaluation(out, "--no_plots"), check=False)
    assert done.returncode == 1
    assert said(done).startswith(f"cannot evaluate: {out}/") and "the disk is read-only" in said(done)
    assert "Traceback" not in done.stderr


# --- data ------------------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize("form", ["swift", "verl", "verl --embed"])
def test_a_conversion_after_a_full_disk_equals_an_undisturbed_one(disk, tmp_path, toy_data, form):
    rows = read_jsonl(toy_data)
    for row in rows:
        row["conversations"].append({"role": "assistant", "content": f"<answer>{row['ground_truth']}</answer>"})
    source = write_jsonl(tmp_path / "source.jsonl", rows)
    form, *more = form.split()
    target = disk.path / "out" / ("target.jsonl" if form == "swift" else "target.parquet")
    target.parent.mkdir()
    words = ["-m", "scripts.data.convert", form, source, target, "--image_root", toy_data.parent, *more]
    full = check_fill(disk, words, target.parent, [0, PAGE, 3 * PAGE])
    assert full >= 2


@pytest.mark.faults
def test_other_commands_end_in_one_line_on_a_full_disk(disk, toy_data, evaluated, tmp_path):
    """Those that make data and figures; nothing is left under their files' names."""
    images = sorted((toy_data.parent / "images").rglob("*.png"))[:4]
    table = tmp_path / "labels.csv"
    table.write_text(
        "path,label\n" + "".join(f"{path},{'awe' if i % 2 else 'fear'}\n" for i, path in enumerate(images))
    )
    out, run_folder = disk.path / "out", disk.path / "run"
    shutil.copytree(evaluated, run_folder)
    commands = [
        ["-m", "scripts.data.from_csv", table, "--output_dir", out, "--image_root", toy_data.parent],
        ["-m", "scripts.data.photographs", "--output_dir", out],
        ["-m", "scripts.toy_world.generate", "--output_dir", out, "--test", "1", "--processes", "1"],
        ["-m", "scripts.data.check", toy_data, "--fix", "--output_dir", out, "--processes", "1"],
        ["-m", "inference.recalibration", "--output_path", run_folder, "--n_splits", "2"],
        ["-m", "inference.plots", "--output_path", run_folder],
    ]
    before = files_of(run_folder)
    for words in commands:
        disk.leave(0)
        done = run(*words, check=False)
        check_failure(done)
        assert not [path for path in files_of(out).values() if path], words
        assert files_of(run_folder) == before, words
        shutil.rmtree(out, ignore_errors=True)


@pytest.mark.faults
def test_building_vec_cot_after_a_full_disk_equals_an_undisturbed_build(disk, tmp_path, toy_data):
    """All steps in one command, but for stage 2's confidence; started again and again with a few pages more."""
    rows = [row for row in read_jsonl(toy_data) if row["task"] in PUBLISHED_ROWS]
    for row in rows:
        row["image"] = str(toy_data.parent / row.pop("conversations")[0]["content"][0]["image"])
    source = write_jsonl(tmp_path / "source.jsonl", rows)
    work = disk.path / "work"
    with ThreadingHTTPServer(("127.0.0.1", 0), Teacher) as teacher:
        Thread(target=teacher.serve_forever, daemon=True).start()
        asked = (
            f"--engine openai --base_url http://127.0.0.1:{teacher.server_port}/v1 --model_name made-up --min_words 5"
        )
        words = ["-m", "scripts.build_vec_cot", "--data_path", source, "--test_path", "--work", work]
        words += ["--image_root", toy_data.parent]
        words += ["--teacher", asked]
        run(*words)
        whole = files_of(work)
        shutil.rmtree(work)
        failed_in, full = set(), 0
        for pages in (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 50):
            disk.leave(pages * PAGE)
            done = run(*words, check=False)
            if done.returncode:
                check_failure(done)
                full += 1
                failed_in.add(said(done).partition(" failed")[0])
        assert {"split", "writing the reasoning"} < failed_in, failed_in
        disk.make_room()
        run(*words)
        assert files_of(work) == whole
        teacher.shutdown()


# --- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.faults
def test_an_export_after_a_full_disk_equals_an_undisturbed_one(disk):
    out = disk.path / "model"
    words = ["-m", "scripts.toy_world.export_checkpoint", "--model", TOY_CHECKPOINT, "--output_dir", out]
    disk.remount("size=16m")
    out.mkdir()
    assert check_fill(disk, words, out, [0, 2 * PAGE, 500 * PAGE]) == 3
