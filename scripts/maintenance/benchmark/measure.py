"""Time and memory of whole processes, and the file that a benchmark's figures are kept in.

    seconds, peak_bytes = run([sys.executable, "-m", "inference.evaluate", ...])
    record("evaluation", "8,032 results", "4.2 × the published procedure", seconds=…)

Ratios are taken from one run on one machine: both sides in turns, the median of the rounds.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from inference.common.paths import REPOSITORY

RESULTS = REPOSITORY / "output" / "benchmark" / "results.jsonl"


def machine() -> str:
    """Processor, cores and memory of this machine, as the table names it."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = psutil.virtual_memory().total / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, no GPU"


def _tree_bytes(process: psutil.Process) -> int:
    """Memory of a process and its children; pages that they share count once (proportional set size)."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def run(command: list[str], log: Path | None = None) -> tuple[float, int]:
    """(seconds, peak bytes of the process tree) of a command that must succeed."""
    peak, stop = 0, threading.Event()

    def watch(pid: int) -> None:
        nonlocal peak
        try:
            process = psutil.Process(pid)
            while not stop.wait(0.25):
                peak = max(peak, _tree_bytes(process))
        except psutil.Error:
            pass

    start = time.perf_counter()
    with open(log or os.devnull, "wb") as output:
        child = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
        watcher = threading.Thread(target=watch, args=(child.pid,))
        watcher.start()
        status = child.wait()
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    if status:
        sys.exit(f"{' '.join(command)} ended with {status}")
    return seconds, peak


def in_turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median figure of each side, measured one after the other, round after round."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def record(part: str, what: str, result: str, command: str) -> None:
    """Print one line of the table and keep it for ``scripts.maintenance.benchmark.table``."""
    print(f"{part}: {what}: {result}", flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    row = {"part": part, "what": what, "result": result, "command": command, "machine": machine()}
    with open(RESULTS, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, ensure_ascii=False) + "\n")
