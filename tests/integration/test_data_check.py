"""Checking training and test files: what is wrong with a row is found, counted and named."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from inference.data.records import Record, read_records
from inference.data.vecbench import TASKS
from scripts.data import check
from scripts.data.checks import EXPECTATIONS
from tests.helpers.commands import TOY_CHECKPOINT, read_jsonl, run, write_jsonl
from tests.helpers.training_rows import ANSWER, QUESTION, layouts, row, with_an_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images of several kinds, good and bad."""
    folder = with_an_image(tmp_path_factory.mktemp("vec cot"))
    Image.new("RGB", (10, 400), "orange").save(folder / "thin.png")
    Image.new("L", (8000, 7000)).save(folder / "huge.png")
    (folder / "torn.png").write_bytes((folder / "good.png").read_bytes()[:120])
    return folder


def answered(answer):
    return row(messages=[row()["messages"][0], {"role": "assistant", "content": answer}])


BAD_ROWS = {
    "label outside the candidates": row(ground_truth="zest"),
    "answer is not the label": row(ground_truth="fear"),
    "image missing": row(images=["nowhere.png"]),
    "image unreadable": row(images=["torn.png"]),
    "image too small": row(images=["thin.png"]),
    "image too large": row(images=["huge.png"]),
    "reasoning steps missing": answered(ANSWER.replace("human", "x")),
    "confidence out of range": answered(ANSWER.replace("0.80", "80")),
    "no confidence": answered(ANSWER.split("<confidence>")[0]),
    "no answer": row(messages=row()["messages"][:1]),
    "unreadable": row(images=["good.png", "good.png"]),
    "too long": row(messages=[{"role": "user", "content": "<image>" + QUESTION + " so" * 2000}, row()["messages"][1]]),
    "duplicate id": row(id="twice"),
}  # fmt: skip


@pytest.fixture(scope="module")
def checked(folder):
    """check_data --fix over good rows, every kind of bad row and a line that is no JSON."""
    rows = [row(id="first"), row(id="twice"), *BAD_ROWS.values()]
    source = write_jsonl(folder / "mixed.jsonl", rows)
    with open(source, "a") as handle:
        handle.write('{"messages": [torn\n')
    done = run(
        "-m", "scripts.data.check", source, "--expect", "stage2", "--tokenizer", TOY_CHECKPOINT, "--processes", "1",
        "--fix", "--output_dir", folder / "fixed", check=False,
    )  # fmt: skip
    return folder, source, done


def test_each_kind_of_bad_row_is_found_and_named_with_its_line(checked):
    _, _, done = checked
    assert done.returncode == 1
    for line, kind in enumerate(BAD_ROWS, 3):
        section = done.stdout[done.stdout.index(f" × {kind} (") :]
        assert f"\n    line {line}: " in section, kind
    assert "2 × unreadable" in done.stdout  # the line that is no JSON, too
    assert "expected one JSON object" in done.stdout
    assert "WebEmo-7" in done.stdout and "7806  differs" in done.stdout


def test_rows_are_counted_by_every_task_and_by_the_source_that_they_name(folder):
    unusual = [row(task=task, source="WebEmo", images=["nowhere.png"]) for task in TASKS]
    source = write_jsonl(folder / "sources.jsonl", [*unusual, row(source="WebEmo"), row(source="another")])
    done = run("-m", "scripts.data.check", source, "--processes", "1", check=False)
    lines = done.stdout.splitlines()
    assert lines[lines.index("WebEmo-7               3       2       1") + 1 :][:2] == [
        "  WebEmo               2       1       1",
        "  another              1       1       0",
    ]
    missing = next(line for line in lines if line.startswith("9 × image missing"))
    assert all(f"{task} 1" in missing for task in TASKS)


def test_unusual_candidates_are_a_remark_and_make_no_row_bad(folder):
    usual = row(candidates=list(TASKS["WebEmo-7"].labels))
    certain = {**answered(ANSWER.replace("0.80", "1.0")), "candidates": usual["candidates"]}
    source = write_jsonl(folder / "candidates.jsonl", [usual, row(candidates=["joy", "calm"]), certain])
    done = run("-m", "scripts.data.check", source, "--processes", "1")
    remarks = done.stdout.partition("Remarks; they make no row bad\n")[2]
    assert remarks.startswith(
        "1 × candidates differ from the published ones (WebEmo-7 1)\n    line 2: WebEmo-7 without"
    )
    assert "with calm" in remarks
    assert "1 × confidence of 0 or 1 (WebEmo-7 1)\n    line 3: the reward of stage 3 takes" in remarks


def test_fix_parts_good_rows_from_bad_ones_and_loses_none(checked):
    folder, source, _ = checked
    good = read_jsonl(folder / "fixed" / "mixed.good.jsonl")
    bad = read_jsonl(folder / "fixed" / "mixed.bad.jsonl")
    assert [item["id"] for item in good] == ["first", "twice"]
    assert len(good) + len(bad) == len(source.read_text().splitlines())
    assert all(item["reasons"] for item in bad)
    assert [item["line"] for item in bad] == list(range(3, 3 + len(BAD_ROWS) + 1))


def test_good_rows_in_other_numbers_than_the_published_ones_are_told_by_the_exit_status(folder, monkeypatch, capsys):
    source = write_jsonl(folder / "few.jsonl", [row(candidates=["joy", "fear"])] * 2)
    words = ["check_data", str(source), "--processes", "1"]
    for more, numbers, status in (
        ([], {}, 0),
        (["--expect", "test"], {"WebEmo-7": 1000}, 1),
        (["--expect", "test"], {"WebEmo-7": 2, "FI-8": 0}, 0),
        (["--expect", "test"], {"WebEmo-7": 2, "FI-8": 1}, 1),
    ):
        monkeypatch.setitem(EXPECTATIONS, "test", numbers)
        monkeypatch.setattr(sys, "argv", words + more)
        assert check.main() == status
        assert ("differs" in capsys.readouterr().out) == bool(status)


def test_rows_that_inference_refuses_are_bad_in_a_test_file_and_a_remark_in_any_other(folder):
    """check_data asks the reader that will read: a record needs task and candidates of its own."""
    asked = {"messages": [{"role": "user", "content": "<image>" + QUESTION}], "images": ["good.png"]}
    good = {**asked, "ground_truth": "joy", "candidates": ["joy", "fear"], "task": "WebEmo-7"}
    refused = [{**good, "candidates": None}, {**good, "task": None}, {**good, "ground_truth": None}]
    source = write_jsonl(folder / "asked.jsonl", [good, {**good, "ground_truth": None, "label": "joy"}, *refused])
    assert [isinstance(item, Record) for item in read_records(source)] == [True, True, False, False, False]
    checked = ("-m", "scripts.data.check", source, "--processes", "1")
    done = run(*checked, "--expect", "test", check=False)
    assert "3 × no record for inference" in done.stdout
    assert "line 3: field 'candidates': expected a non-empty list of labels, got None" in done.stdout
    assert "\nall                    5       2       3" in done.stdout
    done = run(*checked, check=False)
    problems, remarks = done.stdout.split("Remarks; they make no row bad")
    assert "no record for inference" not in problems and "3 × no record for inference" in remarks


def test_a_test_file_that_inference_cannot_read_is_not_called_good(folder):
    (folder / "test.json").write_text(json.dumps([row(), row()], indent=1))
    done = run("-m", "scripts.data.check", folder / "test.json", "--expect", "test", "--processes", "1", check=False)
    assert done.returncode == 2 and "expected JSON lines, found a JSON array" in done.stderr


def test_good_rows_of_every_layout_pass_and_parquet_stays_parquet(folder):
    source = write_jsonl(folder / "good rows.jsonl", layouts(folder).values())
    content = (folder / "good.png").read_bytes()
    broken = row(images=[{"bytes": content[:99]}])
    pq.write_table(pa.Table.from_pylist([row(images=[{"bytes": content}]), broken]), folder / "embedded.parquet")
    assert run("-m", "scripts.data.check", source, "--processes", "1").returncode == 0
    done = run("-m", "scripts.data.check", folder / "embedded.parquet", "--processes", "1", "--fix", check=False)
    assert done.returncode == 1
    (kept,) = pq.read_table(folder / "embedded.good.parquet").to_pylist()
    assert kept["images"][0]["bytes"] == content


def test_a_file_that_cannot_be_read_is_one_line_and_status_two(tmp_path):
    (tmp_path / "no.parquet").write_bytes(b"PAR0")
    done = run("-m", "scripts.data.check", tmp_path / "no.parquet", tmp_path / "none.jsonl", check=False)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "cannot be checked" in line]
    assert len(lines) == 2 and "Traceback" not in done.stderr
