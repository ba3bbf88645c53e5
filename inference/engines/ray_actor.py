"""What runs on each machine of a Ray cluster: one engine, kept busy by a thread.

    actor = ray.remote(EngineActor).remote(settings)
    outputs, problem = ray.get(actor.exchange.remote(requests, seconds=1.0))

The engine takes requests from a queue between two of its steps: those that arrive while a batch is
running join it, and none waits for a batch to end.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator

import ray

from inference.engines.base import EngineSettings, Output, Request
from inference.engines.load import load_engine


class EngineActor:
    """One engine in a process of its own, with a thread that keeps it running.

    Raises:
        Exception: the engine's own, when it cannot be loaded.
    """

    def __init__(self, settings: EngineSettings):
        self.engine = load_engine(settings)
        self.requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.outputs: queue.SimpleQueue[Output | str] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def describe(self) -> tuple[int, str]:
        """(requests that one batch holds, where the actor is)."""
        return self.engine.max_num_seqs, f"{ray.util.get_node_ip_address()}, pid {os.getpid()}"

    def exchange(self, requests: list[Request], seconds: float) -> tuple[list[Output], str | None]:
        """Hand requests in; (outputs since the last call, what the engine died of or None).

        Returns with the first output, or after ``seconds`` without one.
        """
        for request in requests:
            self.requests.put(request)
        found: list[Output | str] = []
        try:
            found.append(self.outputs.get(timeout=seconds))
            while True:
                found.append(self.outputs.get_nowait())
        except queue.Empty:
            pass
        outputs = [output for output in found if isinstance(output, Output)]
        return outputs, next((problem for problem in found if isinstance(problem, str)), None)

    def _incoming(self) -> Iterator[Request | None]:
        while True:
            try:
                yield self.requests.get_nowait()
            except queue.Empty:
                yield None

    def _run(self) -> None:
        try:
            for output in self.engine.run(self._incoming()):
                self.outputs.put(output)
        except BaseException as error:
            self.outputs.put(f"{type(error).__name__}: {error}")
