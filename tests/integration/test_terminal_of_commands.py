"""No command passes on what in its data steers a terminal."""

import re

import pytest
from PIL import Image

from inference.common.json_lines import one_line
from inference.common.terminal import LINES
from tests.helpers.commands import run, write_jsonl
from tests.helpers.control_characters import CLEAR, steers


@pytest.fixture
def hostile(tmp_path):
    """Results and records whose every text clears the screen."""
    Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    rows = [
        {"id": f"{CLEAR}{i}", "image": image, "ground_truth": f"awe{CLEAR}", "candidates": [f"awe{CLEAR}", "fear"],
         "task": task, "notice": CLEAR, "label": CLEAR}
        for i, (image, task) in enumerate([("a.png", f"=T{CLEAR}"), (f"b{CLEAR}.png", "FI-8"), ("a.png", "FI-8")])
    ]  # fmt: skip
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    said = "<think><element>x</element></think><answer>awe</answer><confidence>0.5</confidence>"
    results = [{**row, "sample_id": row["id"], "position": i, "model": CLEAR, "response": said + CLEAR}
               for i, row in enumerate(rows)]  # fmt: skip
    results[1] = {**{k: v for k, v in results[1].items() if k != "response"}, "error": CLEAR}
    return data, write_jsonl(tmp_path / "results.jsonl", results)


def test_checking_data_passes_no_control_characters_on(hostile):
    done = run("-m", "scripts.data.check", hostile[0], "--processes", "1", check=False)
    assert steers(done.stdout, LINES) + steers(done.stderr) == []
    assert one_line(f"=T{CLEAR}", 40) in done.stdout


@pytest.mark.security
def test_no_command_passes_control_characters_of_data_on(hostile, tmp_path):
    data, results = hostile
    table = tmp_path / "labels.csv"
    table.write_text(f'path,label,task\na.png,"x{CLEAR}","t{CLEAR}"\n', encoding="utf-8")
    evaluated = tmp_path / "out"
    commands = [
        ("scripts.data.convert", "verl", data, tmp_path / "a.parquet"),
        ("scripts.data.from_csv", table, "--output_dir", tmp_path / "mine"),
        ("scripts.build_vec_cot.split", "--data_path", data, "--test_path", "--output_dir", tmp_path / "split"),
        ("inference.evaluate", "--input_file", results, "--output_dir", evaluated, "--n_resamples", "0", "--no_plots"),
        ("inference.report", "--output_path", evaluated, "--data_path", data, "--processes", "1"),
        ("inference.recalibration", "--output_path", evaluated, "--method", "platt"),
    ]
    shown = ""
    for module, *arguments in commands:
        done = run("-m", module, *arguments, check=False)
        assert "Traceback" not in done.stderr, module
        assert steers(done.stdout, LINES) + steers(done.stderr) == [], module
        shown += done.stdout + done.stderr
    # Spreadsheet files hold numbers and names of this project alone: no text of data, which could be a formula.
    tables = list(evaluated.glob("*.tsv"))
    assert len(tables) == 2
    cells = {cell for path in tables for line in path.read_text().splitlines() for cell in line.split("\t")}
    assert [
        cell for cell in cells if steers(cell) or (cell[:1] in "=+@-" and not re.fullmatch(r"-?[\d.]+|", cell))
    ] == []
    assert shown.count("\ufffd") > 10  # the texts were shown, and what steers in them was not
