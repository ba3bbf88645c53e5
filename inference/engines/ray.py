"""Many machines: the very same engines as actors on a Ray cluster, one driver that reads and writes.

    ray start --head --port 6379                      # on the first machine
    ray start --address FIRST:6379                    # on each of the others
    python -m inference.inference_vllm --engine ray --ray_address auto --checkpoint … --data_path … --output_path …

The driver reads the records, decodes images, and writes the shard, with the same resume as without
Ray; an actor holds one engine (a GPU, or a node's processors), gets requests and gives outputs back.
It is always full: its engine runs in a thread that finds new requests between two steps, and the
driver sends as many as a batch holds and a few more. Whoever has room is sent the next ones, so
the queue beyond the running batches is a few requests at most, and no actor is idle while another has
many waiting.

An actor that dies (its process, its machine) loses nothing: others get its requests, and a new
actor starts when the cluster has room. ``inference.engines.ray_dispatch`` says what becomes of a request that
kills its actors. Responses are those of the engine without Ray: the seed is the sample's.

The repository, its Python environment and the checkpoint must be found on every machine under the
same path (a shared folder), or set PYTHONPATH before ``ray start``; a hub name needs no folder.
Plain actors rather than ``ray.data.llm``: that asks for a GPU even on CPU, and gives no result of a
batch before all of it is there.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Read by a local cluster when it starts; one that is there has settings of its own.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # workers would run at nice 15
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about the driver's GPUs

import ray
from ray.exceptions import RayError, RayTaskError
from ray.job_config import JobConfig

from inference.common.paths import REPOSITORY
from inference.engines.base import EngineSettings, Output, Request
from inference.engines.load import load_engine
from inference.engines.ray_dispatch import MAX_DEATHS, Dispatch

log = logging.getLogger("inference")

QUEUE_AHEAD = 8  # requests beyond an actor's full batch: they cover the way there and back
AT_ONCE = 16  # requests in one message: their images lie in Ray's object store meanwhile
POLL_SECONDS, WAIT_SECONDS = 0.05, 1.0  # for an output, while the actor has room for requests and while it has not
FAILED_STARTS = 3  # in a row, when engines have run before
PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "HF_ENDPOINT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
OBJECT_STORE = 512 << 20  # bytes, of a local cluster


def actor_environment() -> dict[str, str]:
    """Variables of an actor's process: where this repository is, and what the driver was given."""
    known = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**known, "PYTHONPATH": f"{REPOSITORY}:${{PYTHONPATH}}"}


def cpu_nodes() -> list[int]:
    """Processors of each living node that has any to give."""
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return [number for number in cpus if number]


def without_traceback(problem: BaseException | str) -> str:
    """What happened, without the traceback that Ray puts around it."""
    if isinstance(problem, RayTaskError):
        problem = f"{type(problem.cause).__name__}: {problem.cause}"
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1] if lines else type(problem).__name__


def connect(address: str) -> None:
    """Join the cluster at ``address`` (``auto``: the one that this machine is in); empty starts one on this machine.

    Raises:
        ConnectionError: naming the address, when nothing answers there or Ray does not want us.
    """
    if ray.is_initialized():
        return
    # As a client's job: otherwise Ray puts the working directory before everything else in the paths of its workers.
    job = JobConfig(_client_job=True)
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING, "job_config": job}
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # otherwise Ray may write a token into the home folder
        # "local": without it Ray would join whatever cluster it finds on this machine.
        options = {"_node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        ray.init(address="local", **options, **quiet)
        return
    hint = "start one with `ray start --head`, or leave the address empty for a cluster on this machine alone"
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError) as error:
            problem = f"expected auto or the host:port of a running one ({error})"
            raise ConnectionError(f"no Ray cluster at {address!r}: {problem}; {hint}") from None
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ConnectionError(f"no Ray cluster at {address!r}: {without_traceback(error)}; {hint}") from None


class EngineActor:
    """One engine in a process of its own on one of the machines, with a thread that keeps it running.

    The engine takes requests from a queue between two of its steps: those that arrive while a batch is
    running join it, and none waits for a batch to end.

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


@dataclass(eq=False)
class Slot:
    """An actor as the driver sees it; ``capacity`` is 0 until its engine is loaded."""

    name: str
    handle: Any
    call: ray.ObjectRef  # the one that is under way: describe first, then exchange
    capacity: int = 0
    where: str = "not placed yet"


class RayEngine:
    """Engines on a Ray cluster, behind the same ``run`` as each of them.

    Raises:
        ConnectionError: when there is no cluster at ``settings.ray_address``.
    """

    actor_class = EngineActor

    def __init__(self, settings: EngineSettings):
        folders = {"checkpoint": settings.checkpoint, "adapter": settings.adapter}
        known = {name: str(Path(path).resolve()) for name, path in folders.items() if path and Path(path).is_dir()}
        settings = replace(settings, **known)  # actors work in another folder
        self.settings = settings
        self.slots: list[Slot] = []
        self.started = self.failed_starts = 0
        self.ever_ready = False
        self.last_problem = "none has started yet"
        self.next_start = 0.0
        connect(settings.ray_address)
        self.node = ray.get_runtime_context().get_node_id()
        self.on_gpu = ray.cluster_resources().get("GPU", 0) >= 1

    def run(self, requests: Iterable[Request | None]) -> Iterator[Output]:
        """Outputs as they arrive from any actor; a request that its engine refuses yields an error.

        Raises:
            ConnectionError: when no engine could be loaded, none has been there for
                ``settings.actor_timeout`` seconds, or this machine has left the cluster; what was
                yielded remains valid.
        """
        dispatch = Dispatch(requests)
        alive_at = time.monotonic()
        try:
            while not dispatch.done:
                self._start_missing()
                if self._any_ready():
                    alive_at = time.monotonic()
                elif time.monotonic() - alive_at > self.settings.actor_timeout:
                    raise self._gone(f"no engine has run there for {self.settings.actor_timeout:g} s")
                calls = {slot.call: slot for slot in self.slots}
                if not calls:
                    time.sleep(WAIT_SECONDS)
                    continue
                done, _ = ray.wait(list(calls), timeout=WAIT_SECONDS)
                for call in done:
                    yield from self._answer(calls[call], dispatch)
        finally:
            for slot in [slot for slot in self.slots if dispatch.under_way(slot)]:
                self._drop(slot)  # the run was left in the middle: what is under way has no reader any more

    def _answer(self, slot: Slot, dispatch: Dispatch) -> Iterator[Output]:
        """Take in what the slot's call came to, and make its next one."""
        try:
            answer = ray.get(slot.call)
        except RayError as error:
            yield from self._lost(slot, dispatch, error)
            return
        if not slot.capacity:
            batch, slot.where = answer
            slot.capacity = max(1, batch // self.settings.n_responses) + min(QUEUE_AHEAD, batch)
            self.ever_ready, self.failed_starts = True, 0
            log.info("%s is ready (%s), %d requests in a batch", slot.name, slot.where, batch)
            problem = None
        else:
            outputs, problem = answer
            yield from (output for output in outputs if dispatch.finish(slot, output.sample_id))
        if problem:
            yield from self._lost(slot, dispatch, problem)
            return
        taken = dispatch.take(slot, slot.capacity, AT_ONCE)
        has_room = dispatch.under_way(slot) < slot.capacity
        slot.call = slot.handle.exchange.remote(taken, POLL_SECONDS if has_room else WAIT_SECONDS)

    def _lost(self, slot: Slot, dispatch: Dispatch, problem: RayError | str) -> Iterator[Output]:
        self.last_problem = f"{slot.name} ({slot.where}): {without_traceback(problem)}"
        log.warning(
            "lost %s; its %d requests go to others, a new one starts when the cluster has room",
            self.last_problem, dispatch.under_way(slot),
        )  # fmt: skip
        was_ready = slot.capacity > 0
        self._drop(slot)
        for request in dispatch.lose(slot):
            yield Output(
                request.sample_id,
                error=f"{MAX_DEATHS} actors ended with this request, the last one had no other: {self.last_problem}",
            )
        if not was_ready:
            self.failed_starts += 1
            self.next_start = time.monotonic() + min(30.0, 2.0**self.failed_starts)
            most = max(FAILED_STARTS, self._wanted()) if self.ever_ready else self._wanted()
            if self.failed_starts >= most and not self._any_ready():
                raise self._gone("no engine could be loaded there")

    def _any_ready(self) -> bool:
        return any(slot.capacity for slot in self.slots)

    def _gone(self, what: str) -> ConnectionError:
        address = self.settings.ray_address or "a local Ray cluster"
        return ConnectionError(f"{address}: {what}; last: {self.last_problem}. Start again: what was inferred is kept")

    def _drop(self, slot: Slot) -> None:
        self.slots.remove(slot)
        ray.kill(slot.handle)

    def _wanted(self) -> int:
        """How many actors there should be now: nodes come and go."""
        if self.settings.n_actors:
            return self.settings.n_actors
        return max(1, int(ray.cluster_resources().get("GPU", 0)) if self.on_gpu else len(cpu_nodes()))

    def _start_missing(self) -> None:
        if time.monotonic() < self.next_start:
            return
        self.next_start = time.monotonic() + WAIT_SECONDS
        if self.node not in (node["NodeID"] for node in ray.nodes() if node["Alive"]):
            raise self._gone("this machine's own node has left the cluster, and its actors with it")
        for _ in range(self._wanted() - len(self.slots)):
            self.started += 1
            options = {"num_cpus": 1, "num_gpus": 1} if self.on_gpu else {"num_cpus": self._cpus_of_an_actor()}
            actor = ray.remote(self.actor_class).options(
                **options,
                scheduling_strategy="SPREAD",
                max_restarts=0,  # started again here, where its requests are known
                runtime_env={"env_vars": actor_environment()},
            )
            handle = actor.remote(replace(self.settings, engine=self.settings.actor_engine))
            self.slots.append(Slot(f"actor {self.started}", handle, handle.describe.remote()))

    def _cpus_of_an_actor(self) -> int:
        """So many that the actors spread evenly over nodes: on CPU an engine uses all cores of its node."""
        cpus = cpu_nodes() or [1]
        an_actor_s = -(-self._wanted() // len(cpus))
        return max(1, min(cpus) // an_actor_s)
