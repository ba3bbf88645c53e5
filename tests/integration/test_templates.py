"""The shell templates: lint, settings from the environment, the main job as a newcomer types it."""

import json
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.commands import REPO, read_jsonl, run, write_jsonl
from tests.helpers.templates import SOURCED, TEMPLATES, environment


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(REPO)))
def test_a_template_is_clean_for_bash_and_shellcheck(template):
    run("bash", "-n", template)
    run(shutil.which("shellcheck") or REPO / ".venv/bin/shellcheck", "-x", template)


@pytest.mark.parametrize("template", sorted(set(TEMPLATES) - SOURCED), ids=lambda path: str(path.relative_to(REPO)))
def test_a_template_stops_at_the_first_error_and_at_unset_variables(template):
    assert "set -euo pipefail" in template.read_text()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clean clone of this checkout in a folder whose name has spaces and quotes of both kinds."""
    folder = tmp_path_factory.mktemp("it's a") / 'clone of "it"'
    run("git", "clone", "--quiet", REPO, folder)
    changed = run(
        "git", "ls-files", "--modified", "--others", "--exclude-standard", "--deduplicate"
    ).stdout.splitlines()
    for name in changed:  # what is not committed yet is tested too
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPO / name).exists():
            shutil.copy2(REPO / name, target)
    return folder


@pytest.fixture(scope="module")
def main_job(clone):
    """The README's first command with no setting, but for the environment that is there already."""
    command = ["bash", "inference/infer_and_eval_example.sh"]
    return run(*command, cwd=clone, env=environment(python=sys.executable))


def test_the_main_job_runs_without_edits_and_prints_both_tables(main_job):
    assert main_job.stdout.count("Published protocol") == 2
    assert "| Task            | Acc      | F1       | #Samples  |" in main_job.stdout
    assert "| Task/Group      | Acc    | F1     | ECE      | Brier      | ROC AUC    | #Samples  |" in main_job.stdout
    assert "read 540 = predicted 540 + failed 0; files in" in main_job.stdout
    assert "540/540" in main_job.stderr  # one progress view over all workers


def test_the_main_job_says_that_it_is_the_toy_world(main_job):
    assert main_job.stdout.count("NOTE: toy world: generated scenes, not VECBench") == 2
    assert main_job.stdout.count("NOTE: toy model") == 2


def test_the_main_job_ends_with_a_report_of_the_run(main_job):
    (path,) = re.findall(r"^report: (.*)$", main_job.stdout, re.MULTILINE)
    page = Path(path).read_text(encoding="utf-8")
    assert "toy world: generated scenes, not VECBench" in page.split("<h1>")[0]
    assert "540 samples" in main_job.stderr
    assert "no such file" not in page  # every image was found
    run_line = json.loads((Path(path).parent / "metrics.json").read_text())["run"]["summary"]
    assert run_line.startswith("run ") and run_line in page and run_line in main_job.stdout


def test_the_toy_model_is_above_chance_in_every_task_and_near_the_best_possible(main_job):
    rows = re.findall(r"^(\S+) +\d+ +([\d.]+) +([\d.]+) +([\d.]+) +[\d.]+ +[\d.]+$", main_job.stdout, re.MULTILINE)
    accuracy = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    assert len(accuracy) == 10
    for name, (chance, reached, _) in accuracy.items():
        # 60 samples per task: a standard error is 6.5 points at most; two-class chance is 50
        assert reached > chance + 18, name
    assert accuracy["all"][1] > accuracy["all"][2] - 8


def test_the_log_of_a_worker_says_nothing_once_per_sample(clone, main_job):
    (log,) = clone.glob("infer_results/toy_world*/worker_0.log")
    lines = re.sub(r"\d+", "", log.read_text()).splitlines()  # without times and counts
    assert max(Counter(lines).values()) < 20, Counter(lines).most_common(3)


def test_a_second_start_infers_nothing_again_and_its_numbers_stand_without_a_report(clone, main_job):
    (run_folder,) = clone.glob("infer_results/toy_world*")
    report = run_folder / "report.html"
    report.unlink()
    report.mkdir()  # nothing can be moved into its place
    again = run("bash", "inference/infer_and_eval_example.sh", cwd=clone, env=environment(python=sys.executable))
    report.rmdir()
    log = (run_folder / "worker_0.log").read_text()
    assert "540 samples in this share, 0 of them still to infer" in log
    assert "read 540 = predicted 540 + failed 0" in again.stdout
    tables = again.stdout.index("== ")
    assert main_job.stdout.partition("report: ")[0].endswith(again.stdout[tables:])
    warning, command = again.stderr.split("WARNING: ")[1].strip().splitlines()
    assert warning.startswith("there is no report.html; the numbers above are complete without it")
    assert "report: " in run("bash", "-c", command, cwd=clone).stdout  # as it was printed


def test_two_workers_infer_all_of_an_odd_number_and_bad_lines_are_counted(clone, main_job, tmp_path):
    rows = read_jsonl(clone / "input_data" / "toy_world" / "test.jsonl")[:13]
    for row in rows:
        image = row["conversations"][0]["content"][0]
        image["image"] = str(clone / "input_data" / "toy_world" / image["image"])
    data = write_jsonl(tmp_path / "odd.jsonl", rows)
    with open(data, "a", encoding="utf-8") as handle:
        handle.write("{broken\n")
    settings = environment(
        python=sys.executable, data_path=data, output_path=tmp_path / "run", n_gpu=2, engine="transformers",
        min_pixels=3136, max_pixels=12544, max_new_tokens=8, report="false",
    )  # fmt: skip
    done = run("bash", "inference/infer_and_eval_example.sh", cwd=clone, env=settings)
    assert "read 14 = predicted 13 + failed 1" in done.stdout
    shards = {path.name: len(read_jsonl(path)) for path in (tmp_path / "run").glob("shard_*.jsonl")}
    assert shards == {"shard_000_of_002.jsonl": 7, "shard_001_of_002.jsonl": 7}
    assert [row["id"] for row in read_jsonl(tmp_path / "run" / "merged.jsonl")] == [row["id"] for row in rows]


def test_relative_paths_are_the_callers_and_a_limit_holds_for_inference_and_evaluation(clone, main_job, tmp_path):
    data = clone / "input_data" / "toy_world"
    settings = environment(
        python=sys.executable, data_path="test.jsonl",
        checkpoint=os.path.relpath(clone / "scripts/toy_world/checkpoint", data),
        output_path=os.path.relpath(tmp_path / "run", data), engine="transformers", limit=3, max_new_tokens=8,
        min_pixels=3136, max_pixels=12544, report="false",
    )  # fmt: skip
    done = run("bash", clone / "inference/infer_and_eval_example.sh", cwd=data, env=settings)
    assert "read 3 = predicted 3 + failed 0" in done.stdout
    assert (tmp_path / "run" / "metric.log").exists()
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_failed_worker_makes_the_job_fail_and_its_last_line_names_the_cause_and_the_log(
    clone, main_job, tmp_path, of_five_layers
):
    data = clone / "input_data" / "toy_world" / "test.jsonl"
    settings = environment(
        python=sys.executable, data_path=data, output_path=tmp_path / "run", engine="transformers",
        checkpoint=of_five_layers,
    )  # fmt: skip
    done = run("bash", "inference/infer_and_eval_example.sh", cwd=clone, env=settings, check=False)
    assert done.returncode == 1
    count, cause = done.stderr.strip().splitlines()[-2:]
    assert count.startswith("1 of 1 worker(s) failed. What was inferred is kept")
    log = tmp_path / "run" / "worker_0.log"
    said = cause.removeprefix(f"Worker 0 failed (status 2, log {log}): ")
    assert said == log.read_text().strip().splitlines()[-1]
    assert said.startswith(f"{of_five_layers}: its weights lack 12 tensors")
    assert not (tmp_path / "run" / "metric.log").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_path": "/nowhere.jsonl"}, "Set data_path to a JSON-lines file"),
        ({"checkpoint": "/nowhere"}, "nowhere: no such folder: expected a model folder, or OWNER/MODEL of the hub"),
        ({"checkpoint": "../nowhere"}, "nowhere: no such folder: expected a model folder, or OWNER/MODEL of the hub"),
        ({"n_gpu": "many"}, "n_gpu=many: expected a number"),
        ({"engine": "openai", "model_name": "m"}, "set base_url to the endpoint"),
        ({"engine": "openai", "base_url": "http://127.0.0.1:1/v1"}, "set model_name to the model"),
    ],
)
def test_a_missing_input_is_named_before_anything_starts(clone, main_job, settings, message):
    done = run(
        "bash", "inference/infer_and_eval_example.sh", cwd=clone,
        env=environment(python=sys.executable, **settings), check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr


def test_the_worker_script_says_what_to_set(clone):
    done = run("bash", "inference/infer.sh", "0", cwd=clone, env=environment(), check=False)
    assert done.returncode != 0
    assert "set data_path" in done.stderr


@pytest.fixture
def machine(tmp_path):
    """A PATH whose nvidia-smi lists eight GPUs, and a Python that only says which one it was given."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nfor i in 0 1 2 3 4 5 6 7; do echo GPU $i: made up; done\n")
    (tmp_path / "python").write_text(
        f'#!/bin/sh\ncase "$2" in *.engines.devices | *.runs.job) exec "{sys.executable}" "$@" ;; esac\n'
        'echo "device=$CUDA_VISIBLE_DEVICES $*"\n'
    )
    for name in ("nvidia-smi", "python"):
        (tmp_path / name).chmod(0o755)
    settings = environment(python=tmp_path / "python", data_path="d.jsonl", output_path="o", checkpoint="c", n_gpu=8)
    settings.pop("CUDA_VISIBLE_DEVICES", None)
    return {**settings, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("visible", "index", "given"),
    [
        (None, 3, "device=3"),
        ("4,5", 1, "device=5"),
        ("4, 5 ,", 1, "device=5"),
        ("GPU-a,GPU-b", 0, "device=GPU-a"),
        ("", 1, "device="),
        ("-1", 0, "device=-1"),
    ],
)
def test_worker_i_gets_the_ith_gpu_that_its_user_may_see(machine, visible, index, given):
    settings = machine if visible is None else {**machine, "CUDA_VISIBLE_DEVICES": visible}
    done = run("bash", REPO / "inference" / "infer.sh", index, env=settings)
    assert done.stdout.startswith(f"{given} -m inference.inference_vllm")
    assert f"--index {index} --n_shards 8" in done.stdout


def test_the_number_of_responses_reaches_the_worker(machine):
    done = run("bash", REPO / "inference" / "infer.sh", 0, env={**machine, "n_responses": "3"})
    assert "--n_responses 3" in done.stdout


def test_a_worker_without_a_gpu_takes_nobody_elses(machine):
    done = run("bash", REPO / "inference" / "infer.sh", 2, env={**machine, "CUDA_VISIBLE_DEVICES": "4,5"}, check=False)
    assert done.returncode == 2
    assert "CUDA_VISIBLE_DEVICES=4,5 names 2" in done.stderr
    assert done.stdout == ""


def test_no_visible_gpu_is_one_worker_on_the_processors(machine, tmp_path):
    """``CUDA_VISIBLE_DEVICES=`` hides the machine's eight GPUs."""
    data = write_jsonl(tmp_path / "d.jsonl", [])
    settings = {**machine, "n_gpu": "", "CUDA_VISIBLE_DEVICES": "", "data_path": str(data), "checkpoint": str(tmp_path)}
    done = run(
        "bash", REPO / "inference" / "infer_and_eval_example.sh", env={**settings, "output_path": str(tmp_path / "o")}
    )
    assert "(vllm, 1 worker(s)," in done.stdout
    assert (tmp_path / "o" / "worker_0.log").read_text().startswith("device= -m inference.inference_vllm")


def test_setup_finds_the_finished_environment_at_once(clone):
    """The running Python has all that is needed, so no environment is made."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    done = run("bash", "scripts/setup.sh", "--print-python", "vllm", cwd=clone, env={**environment(), "PATH": path})
    assert os.path.realpath(done.stdout.strip()) == os.path.realpath(sys.executable)
    assert not (clone / ".venv").exists()


def test_settings_of_the_main_job_s_template_are_the_published_ones():
    """The names that users of the published script know, each overridable from the environment."""
    text = (REPO / "inference" / "infer_and_eval_example.sh").read_text()
    for name in (
        "cur_path", "experiment_name", "model_name", "data_path", "output_path",
        "checkpoint", "project_name", "temperature", "n_gpu",
    ):  # fmt: skip
        assert re.search(rf'^{name}="\$\{{{name}:-', text, re.MULTILINE), name
