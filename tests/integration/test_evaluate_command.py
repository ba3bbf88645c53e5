"""The command that evaluates: its files, what it prints, what it needs."""

import json
import subprocess
import sys

import pytest

from inference.data.vecbench import TASK_ALIASES
from inference.runs.shards import ShardWriter
from tests.helpers.commands import REPO, read_jsonl, run, write_jsonl
from tests.helpers.forked import run_forked
from tests.helpers.results import a_result

GOLDEN = REPO / "tests" / "golden"


@pytest.fixture(scope="module")
def golden_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    run("-m", "inference.evaluate", "--input_file", GOLDEN / "records.jsonl", "--output_dir", folder)
    return folder


def test_every_file_of_an_evaluation_is_there_and_no_temporary_one(golden_run):
    tasks = {json.loads(line)["task"] for line in (GOLDEN / "records.jsonl").read_text().splitlines()}
    assert {path.name for path in golden_run.iterdir()} == {
        *(f"confusion_{TASK_ALIASES.get(task, task)}.png" for task in tasks),
        "reliability.png",
        "risk_coverage.png",
        "confidence_histograms.png",
        "merged.jsonl",
        "error.jsonl",
        "merged_conf.jsonl",
        "metric.log",
        "metric_conf.log",
        "metric_emobserver.log",
        "metrics.json",
        "metrics.tsv",
        "thresholds.tsv",
        "confidence_thresholds.png",
        "calibration_curves.png",
    }


@pytest.mark.parametrize(
    ("table", "log"), [("metric_table.txt", "metric.log"), ("metric_conf_table.txt", "metric_conf.log")]
)
def test_the_command_writes_the_published_tables_byte_for_byte(golden_run, table, log):
    assert (GOLDEN / table).read_bytes() in (golden_run / log).read_bytes()


def test_lines_that_cannot_be_evaluated_go_to_error_jsonl_and_counts_add_up(tmp_path):
    lines = [
        json.dumps(a_result()),
        "{torn",
        json.dumps({**a_result(), "response": None}),
        json.dumps({**a_result(), "candidates": "awe"}),
        json.dumps({"error": "image a.jpg: no such file", "sample_id": "s"}),
        "[]",
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(lines))
    done = run_forked(
        "-m", "inference.evaluate", "--input_file", source, "--output_dir", tmp_path / "out", "--no_plots"
    )
    assert "read 6 = predicted 1 + failed 5" in done.stdout
    errors = [row["error"] for row in read_jsonl(tmp_path / "out" / "error.jsonl")]
    assert f"{source}, line 3, field 'response': expected the model's text" in errors[1]
    assert "field 'candidates'" in errors[2]
    assert errors[3] == "image a.jpg: no such file"


def test_samples_that_no_worker_wrote_are_reported_as_failed(tmp_path):
    data = write_jsonl(tmp_path / "d.jsonl", [{**a_result(), "id": i, "image": "a.jpg"} for i in range(3)])
    with ShardWriter(tmp_path / "run", 0, 1) as writer:
        writer.write({**a_result(), "id": 1, "sample_id": "1", "position": 1})
    done = run_forked("-m", "inference.evaluate", "--output_path", tmp_path / "run", "--data_path", data, "--no_plots")
    assert "read 3 = predicted 1 + failed 2" in done.stdout
    assert [row["sample_id"] for row in read_jsonl(tmp_path / "run" / "error.jsonl")] == ["0", "2"]


def test_evaluation_imports_neither_torch_nor_vllm():
    code = (
        "import sys, inference.evaluate, inference.plots\n"
        "heavy = {'torch', 'vllm', 'transformers', 'swift', 'verl'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    run(sys.executable, "-c", code)


def test_a_folder_without_results_is_one_clear_line(tmp_path):
    done = run_forked("-m", "inference.evaluate", "--output_path", tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"cannot evaluate: {tmp_path}: expected result shards")


def test_wandb_is_off_unless_a_project_is_named_and_then_asked_for_by_name(tmp_path):
    done = run(
        "-m", "inference.evaluate", "--input_file", GOLDEN / "records.jsonl", "--output_dir", tmp_path,
        "--no_plots", "--quiet", "--wandb_project", "p", check=False,
        env={"PATH": "/usr/bin", "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    installed = subprocess.run([sys.executable, "-c", "import wandb"], capture_output=True).returncode == 0
    if installed:
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("wandb/offline-run-*"))
    else:
        assert "pip install wandb" in done.stderr
