"""What ``engine_ray`` needs of Ray itself: a cluster to join or start, its nodes, its errors in one line.

connect("10.0.0.1:6379")
"""

from __future__ import annotations

import logging
import os
import socket

from inference.common.paths import REPOSITORY

# Read by a local cluster when it starts; one that is there has settings of its own.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # workers would run at nice 15
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about the driver's GPUs

import ray
from ray.exceptions import RayError, RayTaskError
from ray.job_config import JobConfig

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
