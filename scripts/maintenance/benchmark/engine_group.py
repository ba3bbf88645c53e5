"""The processes of the engines that are measured on a card at the same time; one, as a rule.

Each engine has a process of its own, started afresh: what one asks CUDA stays there, and another variant finds no
trace of it.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

from inference.engines.base import EngineSettings
from inference.runs.worker import end_with
from scripts.maintenance.benchmark.shapes import Shape
from scripts.maintenance.benchmark.variants import Place, Turn

SPAWN = get_context("spawn")


def run_engine(settings, shape, turns, place, start_alone, barrier, channel, environment, log, parent_pid) -> None:
    """The target of an engine's process: its output goes to the log, its results into the channel."""
    end_with(parent_pid)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # orderly: vLLM's own process ends, too
    with open(log, "ab") as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    os.environ.update(environment)
    try:
        from scripts.maintenance.benchmark.one_engine import measure

        measure(settings, shape, turns, place, start_alone, barrier.wait, lambda *said: channel.send(said))
    except Exception as error:
        channel.send(("failed", {"error": f"{type(error).__name__}: {error}"}))
        raise


class EngineGroup:
    """Processes that import vLLM at once and start their engines from ``begin`` on, one after another.

    Leaving the context waits for their end, or brings it about after an error.
    """

    def __init__(self, settings: EngineSettings, shape: Shape, turns: list[Turn], place: Place, log: Path):
        self.turns = turns
        count, environment = turns[0].variant.engines, turns[0].variant.environment
        self.lock, self.barrier = SPAWN.Lock(), SPAWN.Barrier(count)
        self.lock.acquire()
        self.processes, self.channels = [], []
        for index in range(count):
            ours, theirs = SPAWN.Pipe(duplex=False)
            work = (settings, shape, turns, replace(place, index=index, count=count))
            arguments = (*work, self.lock, self.barrier, theirs, environment, log, os.getpid())
            process = SPAWN.Process(target=run_engine, args=arguments)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.channels.append(ours)

    def __enter__(self) -> EngineGroup:
        return self

    def __exit__(self, kind, *_) -> None:
        for process in self.processes:
            if kind is not None:
                process.terminate()
            process.join(60)
            if process.is_alive():
                process.kill()

    def begin(self) -> None:
        self.lock.release()

    def next(self) -> list[dict[str, Any]]:
        """The next report of every engine.

        Raises:
            RuntimeError: when one of them failed or ended.
        """
        waiting, found = list(self.channels), []
        while waiting:
            ready = connection.wait([*waiting, *(process.sentinel for process in self.processes)])
            channels = [channel for channel in ready if channel in waiting]
            for channel in channels:
                waiting.remove(channel)
                try:
                    kind, content = channel.recv()
                except EOFError:
                    channels = []
                    break
                if kind == "failed":
                    raise RuntimeError(content["error"])
                found.append(content)
            if not channels:
                raise RuntimeError(f"an engine's process ended with {self._exit_status()}")
        return found

    def _exit_status(self) -> str:
        """Of a process that is ending: it has closed its channel, or its sentinel."""
        connection.wait([process.sentinel for process in self.processes], timeout=60)
        for process in self.processes:
            process.join(1)  # its status may come a moment after
        code = next((process.exitcode for process in self.processes if process.exitcode is not None), None)
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
