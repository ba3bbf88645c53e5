"""No text of data, models or servers steers the terminal that it is shown on."""

import io
import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.common.json_lines import one_line
from inference.common.terminal import LINES, PROGRESS, PlainFormatter, PlainStream, plain, printable
from inference.predict import to_json, to_text
from inference.predictor import Prediction
from tests.helpers.commands import run, write_jsonl

CLEAR = "\x1b[2J\x1b]0;title\x07\x9b1A\x7f\u202e\rok"  # clears, titles, moves up, deletes, turns the line round


def steers(text, kept=PROGRESS):
    return [char for char in text if not char.isprintable() and char not in kept]


@given(st.text())
def test_plain_text_keeps_every_printable_character_and_no_other(text):
    assert steers(plain(text), LINES) == []
    assert [char for char in plain(text) if char != "\ufffd"] == [
        char for char in text if (char.isprintable() or char in LINES) and char != "\ufffd"
    ]


@given(st.text())
def test_printable_text_is_one_line(text):
    assert printable(text).isprintable()


def test_a_stream_hides_secrets_and_what_steers_but_not_progress(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "abcdefghij")
    stream = PlainStream(io.StringIO(), PROGRESS)
    print("key abcdefghij \x1b[2J", "\rbar", file=stream)
    assert stream.getvalue() == "key *** \ufffd[2J \rbar\n"


def test_a_message_of_several_lines_cannot_feign_a_log_line():
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "%s: no\n2026 INFO all is well\x1b[2J", ("id",), None)
    text = PlainFormatter("%(levelname)s %(message)s").format(record)
    assert text == "ERROR id: no\n    2026 INFO all is well\ufffd[2J"


def test_a_prediction_is_shown_as_plain_text_and_its_json_as_ascii():
    said = Prediction(CLEAR, [CLEAR, "b"], answer=CLEAR, response=CLEAR, answers={CLEAR: 2}, agreement=1.0,
                      reasoning={"human": CLEAR}, model=CLEAR)  # fmt: skip
    assert steers(to_text(said), LINES) == []
    assert to_json(said).isprintable()
    assert json.loads(to_json(said))["answer"] == CLEAR


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
