"""No text of data, models or servers steers the terminal that it is shown on."""

import io
import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from inference.common.terminal import LINES, PROGRESS, PlainFormatter, PlainStream, plain, printable
from inference.predict import to_json, to_text
from inference.predictor import Prediction
from tests.helpers.control_characters import CLEAR, steers


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
