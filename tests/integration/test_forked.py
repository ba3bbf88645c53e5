"""A program in a fork of the process with the slow imports: to its user, a new interpreter."""

import json
import os
import sys

import pytest

from tests.helpers.commands import TOY_CHECKPOINT, TOY_PIXELS, run
from tests.helpers.forked import run_forked

LOOK_AROUND = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), dict(os.environ), sys.stdin.read(), __name__]))
print("said", file=sys.stderr)
sys.exit(3)
"""


def test_arguments_folder_environment_streams_and_status_are_those_of_a_new_interpreter():
    given = {"env": {**os.environ, "ONLY_HERE": "é"}, "input": "read é\n", "check": False}
    ours = run_forked("-c", LOOK_AROUND, "a word", **given)
    theirs = run(sys.executable, "-c", LOOK_AROUND, "a word", **given)
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr) == (3, "said\n")
    assert json.loads(ours.stdout) == json.loads(theirs.stdout)


@pytest.mark.parametrize("words", [["--help"], ["--data_path", "/nowhere.jsonl", "--output_path", "/tmp/x"]])
def test_a_command_prints_and_ends_as_in_a_new_interpreter(words):
    ours, theirs = (how("-m", "inference.inference_vllm", *words, check=False) for how in (run_forked, run))
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_a_run_notes_the_command_as_a_new_interpreter_has_it(toy_data, tmp_path):
    run_forked(
        "-m", "inference.inference_vllm", "--engine", "transformers", "--checkpoint", TOY_CHECKPOINT, "--data_path",
        toy_data, "--output_path", tmp_path, "--limit", "1", "--max_new_tokens", "2", *TOY_PIXELS,
    )  # fmt: skip
    (start,) = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert start["command"][:3] == [sys.executable, "-m", "inference.inference_vllm"]


def test_nothing_of_the_project_is_imported_before_the_program_runs():
    code = "import sys; print([name for name in sys.modules if name.partition('.')[0] in ('inference', 'train')])"
    assert run_forked("-c", code).stdout == "[]\n"
