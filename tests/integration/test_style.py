"""Python code is clean for the linter and in its format."""

import shutil

from tests.helpers.commands import REPO, run

RUFF = shutil.which("ruff") or REPO / ".venv" / "bin" / "ruff"


def test_the_linter_has_nothing_to_say():
    run(RUFF, "check", ".")


def test_every_file_is_formatted():
    run(RUFF, "format", "--check", ".")
