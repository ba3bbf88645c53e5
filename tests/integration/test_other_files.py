"""A file that is no JSON lines is refused by the commands in one line."""

import json

from tests.corpora.bad_records import a_record
from tests.helpers.commands import run


def test_the_commands_say_so_and_end_with_a_status(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps([a_record(), a_record()], indent=1))
    for command in (
        ["-m", "inference.evaluate", "--input_file", path, "--output_dir", tmp_path / "out", "--no_plots"],
        ["-m", "scripts.data.check", path, "--processes", "1"],
    ):
        done = run(*command, check=False)
        assert done.returncode in (1, 2)
        assert "expected JSON lines, found" in done.stderr and "Traceback" not in done.stderr
