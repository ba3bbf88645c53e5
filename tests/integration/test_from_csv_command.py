"""The command that makes records of a CSV file and images: what it writes is inferred as it is."""

import re

import pyarrow.parquet as pq
import pytest

from inference.data.records import Record, read_records
from tests.helpers.commands import TOY_CHECKPOINT, TOY_PIXELS, read_jsonl, run
from tests.helpers.forked import run_forked
from tests.helpers.labelled_images import labelled_images


@pytest.fixture
def folder(tmp_path):
    return labelled_images(tmp_path / "my images")


def test_one_command_makes_records_that_the_main_job_infers(folder, tmp_path):
    output = tmp_path / "out"
    budget = ("--min_pixels", 3136, "--max_pixels", 12544)
    done = run("-m", "scripts.data.from_csv", folder / "labels.csv", "--output_dir", output, *budget)
    assert "read 20 = written 20 + failed 0" in done.stdout
    records = list(read_records(output / "records.jsonl"))
    assert all(isinstance(record, Record) for record in records)
    assert {record.ground_truth for record in records} == {"joy", "Fear"}
    assert all(record.candidates == ["Fear", "joy"] for record in records)
    assert "Choose the most likely one from [Fear, joy]" in str(records[0].messages)
    (root,) = re.findall(r"other commands need --image_root (.*)$", done.stdout, re.MULTILINE)  # neither here nor there
    run_forked(
        "-m", "inference.inference_vllm", "--engine", "transformers", "--checkpoint", TOY_CHECKPOINT, "--data_path",
        output / "test.jsonl", "--output_path", tmp_path / "run", "--max_new_tokens", "5", *TOY_PIXELS,
        "--image_root", root,
    )  # fmt: skip
    (shard,) = (tmp_path / "run").glob("shard_*.jsonl")
    assert [("response" in row, row["image_tokens"]) for row in read_jsonl(shard)] == [(True, 9)] * 2
    assert pq.read_metadata(output / "stage3.parquet").num_rows == 18


def test_a_header_without_the_columns_is_one_clear_line(tmp_path):
    (tmp_path / "x.csv").write_text("file;label\na.png;joy\n")
    done = run("-m", "scripts.data.from_csv", tmp_path / "x.csv", "--output_dir", tmp_path / "out", check=False)
    assert done.returncode == 2
    assert "x.csv, line 1: expected columns path and label, got file;label" in done.stderr
    assert "Traceback" not in done.stderr
