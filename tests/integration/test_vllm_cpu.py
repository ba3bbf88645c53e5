"""vLLM's environment on CPU, by version; that the values work is what every test of the engine shows."""

import os

import pytest
from packaging.version import Version

from inference.engines.vllm_cpu import cpu_variables, installed_version, unbound_threads
from tests.helpers.commands import run


@pytest.mark.parametrize(
    ("version", "value"),
    [
        ("0.10.0", "all"),
        ("0.11.0.post2", "all"),
        ("0.11.1", "nobind"),
        ("0.19.1", "nobind"),
        ("0.21.0", "nobind"),
        ("0.24.0+cpu", "nobind"),
        ("1.0", "nobind"),
    ],
)
def test_threads_are_left_unbound_in_the_words_of_the_version(version, value):
    assert unbound_threads(Version(version)) == value


def test_where_nothing_leaves_them_unbound_they_get_all_cores_of_this_process():
    cores = unbound_threads(Version("0.20.2"))
    assert {int(core) for core in cores.split(",")} == os.sched_getaffinity(0)


def test_a_shell_gets_the_installed_versions_values_and_those_of_its_environment(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    lines = dict(line.split("=", 1) for line in run("-m", "inference.engines.vllm_cpu").stdout.splitlines())
    assert lines == cpu_variables()
    assert lines["VLLM_CPU_KVCACHE_SPACE"] == "7"
    assert lines["VLLM_CPU_OMP_THREADS_BIND"] == unbound_threads(installed_version())
