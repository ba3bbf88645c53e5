"""Who may import whom: the contracts of pyproject.toml, and what takes the standard library only."""

import ast
import sys

import pytest
from importlinter import cli

from tests.helpers.commands import REPO


def test_the_contracts_of_pyproject_are_kept(monkeypatch):
    monkeypatch.chdir(REPO)
    monkeypatch.syspath_prepend(str(REPO))
    monkeypatch.setattr(cli.logging_config, "dictConfig", lambda _: None)  # it would disable every logger there is
    assert cli.lint_imports(no_cache=True) == 0, "what is broken is above, under 'Broken contracts'"


@pytest.mark.parametrize(("name", "own"), [("inference/common", {"inference"}), ("train/cus_reward.py", set())])
def test_what_everything_builds_on_and_the_reward_take_the_standard_library_only(name, own):
    place, allowed = REPO / name, {*sys.stdlib_module_names, *own}
    for path in place.rglob("*.py") if place.is_dir() else [place]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {module.partition(".")[0] for module in modules} <= allowed, path
