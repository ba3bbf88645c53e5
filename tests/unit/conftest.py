"""The quick layer's rules: a unit test starts no process and imports no framework."""

import multiprocessing.process
import os
import subprocess
import sys

import matplotlib.font_manager  # noqa: F401  asks fc-list for the fonts once, where it has no cache of them
import pytest

FRAMEWORKS = {"torch", "transformers", "vllm"}
STARTERS = [
    *((os, name) for name in ("fork", "posix_spawn", "posix_spawnp", "system")),
    (subprocess.Popen, "__init__"),
    (multiprocessing.process.BaseProcess, "start"),
]


def newly_imported(before):
    """What is wrong when a framework is in ``sys.modules`` that was not ``before``; empty if nothing is."""
    names = ", ".join(sorted(FRAMEWORKS & sys.modules.keys() - before))
    return names and f"a unit test imported {names}: move it to tests/integration"


@pytest.fixture(autouse=True)
def alone_and_light(monkeypatch):
    """Fails a test that starts a process, or is the first one to import a framework."""

    def refuse(*_, **__):
        pytest.fail("a unit test started a process: move it to tests/integration")

    for owner, name in STARTERS:
        monkeypatch.setattr(owner, name, refuse)
    before = FRAMEWORKS & sys.modules.keys()
    yield
    if wrong := newly_imported(before):
        pytest.fail(wrong)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Fails a test file whose own imports bring a framework."""
    before = FRAMEWORKS & sys.modules.keys()
    report = yield
    if wrong := newly_imported(before):
        report.outcome, report.longrepr = "failed", f"{collector.nodeid}: {wrong}"
    return report
