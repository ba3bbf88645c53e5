"""Trainings that are killed while they write a checkpoint, or whose disk fills up: they go on where they were."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.commands import REPO, TOY_CHECKPOINT, descendants, read_jsonl, run, wait_until
from tests.helpers.full_disk import check_fill
from tests.helpers.small_disk import PAGE, small_disk

TEMPLATE = ["bash", REPO / "train" / "step1_example.sh"]


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory):
    """(model with random weights, 64 rows of stage 1) of the toy world."""
    folder = tmp_path_factory.mktemp("training")
    size = ("--stage1", "64", "--stage2", "64")
    run("-m", "scripts.toy_world.generate", "--output_dir", folder / "data", *size, "--seed", "3", "--processes", "1")
    data = folder / "data"
    corpus = (data / "stage1.jsonl", data / "stage2.jsonl")
    run("-m", "scripts.toy_world.build_model", "--corpus", *corpus, "--output_dir", folder / "base", "--seed", "3")
    return folder / "base", data / "stage1.jsonl"


def settings(ingredients, output):
    model, dataset = ingredients
    named = {
        "python": sys.executable, "model": model, "dataset": dataset, "output_dir": output, "learning_rate": "2e-3",
        "use_cpu": "true", "batch_size": 16, "accumulation": 1, "freeze_vit": "false", "freeze_aligner": "false",
        "workers": 0, "split_dataset_ratio": 0, "save_steps": 2, "logging_steps": 1, "swift_args": "--seed 3",
        "MIN_PIXELS": 3136, "MAX_PIXELS": 12544,
    }  # fmt: skip
    return {**os.environ, **{name: str(value) for name, value in named.items()}}


@pytest.fixture(scope="module")
def whole(ingredients, tmp_path_factory):
    """The weights after an undisturbed training of four steps."""
    output = tmp_path_factory.mktemp("whole") / "scaffold"
    run(*TEMPLATE, env=settings(ingredients, output))
    return weights(output / "checkpoint-4")


def weights(checkpoint):
    from safetensors.torch import load_file

    return load_file(checkpoint / "model.safetensors")


def check_finished(done, output, whole):
    assert f"resuming from {output}/checkpoint-2" in done.stdout
    found = weights(output / "checkpoint-4")
    assert set(found) == set(whole) and all(found[name].equal(whole[name]) for name in whole)
    assert read_jsonl(output / "logging.jsonl")


@pytest.mark.faults
def test_a_stage_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(ingredients, whole, tmp_path):
    """kill -9 when the folder of checkpoint-4 is there and the trainer's state, which comes last, is not."""
    output = tmp_path / "scaffold"
    words, environment = list(map(str, TEMPLATE)), settings(ingredients, output)
    with open(tmp_path / "log", "wb") as log:
        training = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
        wait_until((output / "checkpoint-4").exists, training, tmp_path / "log", seconds=1200, pause=0.0005)
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()
    assert not (output / "checkpoint-4" / "trainer_state.json").exists(), "killed too late"
    assert (output / "checkpoint-2" / "trainer_state.json").exists()
    done = run(*TEMPLATE, env=environment)
    assert f"passing over {output}/checkpoint-4: it is not complete" in done.stderr
    check_finished(done, output, whole)


@pytest.mark.faults
def test_a_stage_on_a_full_disk_keeps_its_last_checkpoint_and_goes_on_from_it(ingredients, whole, tmp_path):
    """Room for one checkpoint and a half."""
    with small_disk(tmp_path / "small disk", 128) as disk:
        output, environment = disk.path / "scaffold", settings(ingredients, disk.path / "scaffold")
        stopped = {**environment, "max_steps": "2"}
        run(*TEMPLATE, env=stopped)
        size = sum(path.stat().st_size for path in (output / "checkpoint-2").iterdir())
        shutil.rmtree(output)
        disk.leave(size * 3 // 2)
        done = run(*TEMPLATE, env=environment, check=False)
        assert done.returncode > 0
        last = done.stderr.strip().splitlines()[-1]
        assert f"the disk of {output} is full (" in last and last.startswith("The training ended with status")
        assert "Complete checkpoints are kept: make room and start the same command again." in last
        assert (output / "checkpoint-2" / "trainer_state.json").exists()
        assert not (output / "checkpoint-4" / "trainer_state.json").exists()
        disk.make_room()
        check_finished(run(*TEMPLATE, env=environment), output, whole)


def checkpoint(folder, name, state='{"global_step": 2}', optimizer="optimizer.pt"):
    path = folder / name
    path.mkdir(parents=True)
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    if optimizer:
        (path / optimizer).write_bytes(b"x" * PAGE)
    return path


@pytest.mark.parametrize("torn", ["nothing", "no state", "no optimizer", "half a state", "an empty state"])
def test_a_template_resumes_from_the_newest_checkpoint_that_is_whole(tmp_path, torn):
    """Told by the command that it would start; the real kill is in the slow tests."""
    output = tmp_path / "out put"
    whole = checkpoint(output, "checkpoint-900")
    options = {
        "nothing": {"state": None, "optimizer": None}, "no state": {"state": None}, "no optimizer": {"optimizer": None},
        "half a state": {"state": '{"global_step": 10'}, "an empty state": {"state": ""},
    }  # fmt: skip
    half = checkpoint(output, "checkpoint-1000", **options[torn])
    dataset = tmp_path / "data.jsonl"
    dataset.write_text(json.dumps({"messages": []}) + "\n")
    environment = {
        **os.environ, "python": sys.executable, "dataset": str(dataset), "output_dir": str(output),
        "model": str(TOY_CHECKPOINT), "print_command": "true",
    }  # fmt: skip
    done = run(*TEMPLATE, env=environment)
    words = done.stdout.splitlines()
    assert words[words.index("--resume_from_checkpoint") + 1] == str(whole)
    assert words[words.index("--model") + 1] == str(whole)
    assert f"passing over {half}" in done.stderr


RUN = """
import sys
from pathlib import Path
from train.launch import explained, run_trainer
sys.exit(explained(run_trainer(sys.argv[2:]), Path(sys.argv[1])))
"""


def launch(output, *command):
    words = [sys.executable, "-c", RUN, output, *command]
    return subprocess.Popen(list(map(str, words)), cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_template_that_is_told_to_end_ends_its_trainer(tmp_path):
    started = launch(tmp_path, "sh", "-c", "echo started; exec sleep 300")
    assert started.stdout.readline() == "started\n"
    (trainer,) = descendants(started.pid)
    started.terminate()
    assert started.wait(30) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{trainer}").exists()
    started.communicate()


def test_a_failure_is_called_a_full_disk_only_when_no_further_checkpoint_fits(tmp_path):
    with small_disk(tmp_path / "small disk", 1) as disk:
        checkpoint(disk.path, "checkpoint-2")
        for free, full in ((0, True), (100 * PAGE, False)):
            disk.leave(free)
            done = launch(disk.path, "sh", "-c", "exit 3")
            _, said = done.communicate()
            assert done.returncode == 3
            assert (f"ended with status 3, and the disk of {disk.path} is full (0.0 MiB are left)" in said) == full


# --- stage 3 -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Stage 3 of two steps, killed while it writes the second checkpoint, and started again: (folder, what it said).

    The file that names the newest step is emptied in between, as a kill in just that moment leaves it.
    """
    folder = tmp_path_factory.mktemp("stage 3")
    run("-m", "scripts.toy_world.generate", "--output_dir", folder, "--stage3", "8", "--seed", "3", "--processes", "1")
    parquet = folder / "stage3.parquet"
    run(
        "-m",
        "scripts.data.convert",
        "verl",
        folder / "stage3.jsonl",
        parquet,
        "--min_pixels",
        3136,
        "--max_pixels",
        12544,
    )
    output = folder / "emocaliber"
    named = {
        "python": sys.executable, "model": TOY_CHECKPOINT, "dataset": parquet, "validation": parquet,
        "output_dir": output, "threads": 1, "seed": 3, "batch_size": 4, "rollouts": 4, "mini_batch_size": 4,
        "micro_batch_size": 16, "save_freq": 1, "test_freq": 10,
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in named.items()}}
    words = ["bash", str(REPO / "scripts" / "toy_world" / "stage3_cpu.sh")]
    log = folder / "log"
    with open(log, "wb") as handle:
        training = subprocess.Popen(words, env=environment, stdout=handle, stderr=handle, start_new_session=True)
        deadline = time.monotonic() + 2400
        processes = []  # Ray's own are not all in the group
        while not (output / "global_step_2").exists():
            assert training.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline
            if not processes and (output / "latest_checkpointed_iteration.txt").exists():
                processes = [training.pid, *descendants(training.pid)]
            time.sleep(0.001)
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        training.wait()
    assert not (output / "global_step_2" / "data.pt").exists(), "killed too late"
    latest = output / "latest_checkpointed_iteration.txt"
    assert latest.read_text() == "1"
    latest.write_text("")
    done = run(*words, env=environment)
    return output, done.stdout + done.stderr


@pytest.mark.faults
def test_stage_3_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(resumed):
    output, said = resumed
    assert "  resuming from step 1\n" in said
    assert f"Resuming from {output}/global_step_1" in said
    assert (output / "latest_checkpointed_iteration.txt").read_text() == "2"
    assert (output / "global_step_2" / "data.pt").exists()


@pytest.mark.faults
def test_merging_a_checkpoint_after_a_full_disk_equals_an_undisturbed_merge(resumed, tmp_path):
    with small_disk(tmp_path / "small disk", 64) as disk:
        out = disk.path / "models"
        out.mkdir()
        words = ["-m", "scripts.merge_checkpoint", resumed[0], "--output_dir", out / "merged"]
        assert check_fill(disk, words, out, [0, 2 * PAGE, 500 * PAGE]) == 3
