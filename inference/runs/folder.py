"""A run's folder: what its results were made from, who works in it, and when new ones may join them.

``run.json`` in the folder names data (SHA-256), checkpoint (SHA-256 or hub revision) and every setting
that decides about responses, and lists each start with its command, host, versions, times and counts.
A start with another data file, checkpoint or setting is refused: results of two runs in one folder
would be one table of neither.

    with open_shard("infer_results/my_run", 0, 1, description) as (shard, run):
        run.begin(); shard.write(result); run.end(counts)

Locks are held by processes, not by files: whatever is killed, the next start finds the folder free.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.common.json_lines import describe
from inference.common.locks import Held, check_free
from inference.common.redaction import redact
from inference.common.storage import atomic_write
from inference.runs.identity import RUN_FILE, json_sha256, now, surroundings
from inference.runs.shards import SHARD_PATTERN, ShardBusy, ShardWriter, shard_path, shard_paths

log = logging.getLogger("inference")

# What comparison, recalibration, plots and reports read first: deleted with the results that it was made of.
EVALUATED = ("merged.jsonl", "metrics.json")

REFUSE, OVERWRITE, RESUME_ANYWAY = "refuse", "overwrite", "resume_anyway"
CHOICES = (
    "take another output folder, or start anew (overwrite=true, --overwrite), "
    "or mix them knowingly (resume_anyway=true, --resume_anyway)"
)


class RunChanged(ValueError):
    """The folder's results were made from something else; the message names each difference."""


@dataclass(frozen=True)
class Description:
    """What a start is about to do.

    Attributes:
        identity: JSON value of two levels; results belong together only when it is the same.
        files: where data and checkpoint lie and other facts that may differ between starts.
    """

    identity: dict[str, dict[str, Any]]
    files: dict[str, Any]


def read_run(folder: str | Path) -> dict[str, Any] | None:
    """The folder's ``run.json``, None without one.

    Raises:
        RunChanged: when it cannot be read, so that the origin of the results is unknown.
    """
    path = Path(folder) / RUN_FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(run["identity"], dict) or not isinstance(run["starts"], list):
            raise TypeError("identity or starts are of another type")
        return run
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise RunChanged(f"{path}: expected a run's description ({problem}); {CHOICES}") from None


def known_checkpoint_files(folder: str | Path) -> dict[str, Any]:
    """The hashes of the checkpoint's files that ``run.json`` knows, empty when there is none."""
    try:
        run = read_run(folder)
        return run["files"]["checkpoint_files"] if run else {}
    except (RunChanged, KeyError, TypeError):
        return {}


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two identities, one line each; an unknown revision of a hub model matches any."""
    found = []
    for part in sorted(before.keys() | after.keys()):
        old, new = before.get(part, {}), after.get(part, {})
        for name in sorted(old.keys() | new.keys()):
            a, b = old.get(name), new.get(name)
            if a != b and not (name == "revision" and None in (a, b)):
                was, now = (describe(of[name]) if name in of else "not set" for of in (old, new))
                found.append(f"{part}.{name} was {was}, is {now}")
    return found


class Run:
    """The folder's ``run.json`` as one start writes it; every change is a whole new file under a lock."""

    def __init__(self, folder: Path, worker: str):
        self.folder, self.worker = folder, worker
        self._start: dict[str, Any] | None = None
        self._clock = 0.0

    def begin(self) -> None:
        """List this start. Not called by one that finds nothing to do: it leaves the file as it is."""
        self._clock = time.monotonic()
        command = [redact(word) for word in sys.orig_argv]
        self._start = {"worker": self.worker, "command": command, "started": now(), **surroundings()}
        with locked(self.folder):
            run = read_run(self.folder)
            run["starts"].append(self._start)
            _write(self.folder, run)

    def end(self, counts: dict[str, int]) -> None:
        """Add the end's time, the seconds between and the share's counts; nothing when it was not listed."""
        if self._start is None:
            return
        with locked(self.folder):
            run = read_run(self.folder)
            place = run["starts"].index(self._start)
            seconds = round(time.monotonic() - self._clock, 1)
            run["starts"][place] = {**self._start, "ended": now(), "seconds": seconds, "counts": counts}
            _write(self.folder, run)


def _write(folder: Path, run: dict[str, Any]) -> None:
    with atomic_write(folder / RUN_FILE) as handle:
        json.dump(run, handle, indent=1)
        handle.write("\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time: short steps only, others wait."""
    with open(folder / "run.lock", "a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_free(folder: Path, n_shards: int | None) -> None:
    """Refuse a folder in which another run works: workers of the same number of shards are the same run."""
    own = {shard_path(folder, index, n_shards).stem for index in range(n_shards or 0)}
    for path in sorted(folder.glob(SHARD_PATTERN.replace(".jsonl", ".lock"))):
        if path.stem in own:
            continue
        try:
            check_free(path)
        except Held as pid:
            raise ShardBusy(f"{folder} is being written by another run (pid {pid}, {path.stem})") from None


Outputs = Callable[[Path], Iterable[Path]]  # what a run has left in a folder


def _adopt(
    folder: Path,
    description: Description,
    on_change: str,
    outputs: Outputs = shard_paths,
    evaluated: Sequence[str] = EVALUATED,
) -> None:
    """Make ``run.json`` and ``description`` agree, or refuse."""
    if on_change == OVERWRITE:
        for path in (*outputs(folder), *(folder / name for name in (RUN_FILE, *evaluated))):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    run, changed = None, []
    made = any(path.stat().st_size for path in outputs(folder))
    try:
        run = read_run(folder)
        if run is not None:
            changed = compare(run["identity"], description.identity)
        elif made:
            changed = [f"the results there have no {RUN_FILE}: what they were made from is not known"]
    except RunChanged as error:
        if on_change != RESUME_ANYWAY:
            raise
        changed = [str(error)]
    if changed and not made:
        run, changed = None, []  # a start that was refused, or failed, before the first result
    if changed and on_change == REFUSE:
        raise RunChanged(f"{folder} has results of another run: {'; '.join(changed)}; {CHOICES}")
    if run and not changed:
        return
    changes = [*(run["changes"] if run else []), *([{"time": now(), "differences": changed}] if changed else [])]
    for difference in changed:
        log.warning("results of different runs are mixed: %s", difference)
    content = {
        "run_id": json_sha256(description.identity),
        "identity": description.identity,
        "files": description.files,
        "changes": changes,
        "starts": run["starts"] if run else [],
    }
    _write(folder, content)


def prepare(
    folder: str | Path,
    description: Description,
    on_change: str = REFUSE,
    alone: bool = True,
    outputs: Outputs = shard_paths,
    evaluated: Sequence[str] = EVALUATED,
) -> None:
    """Before the workers of a run start: no other job works there, and ``run.json`` says what they will do.

    ``alone=False`` does not mind who works there: for who only reads the results. ``outputs`` gives what the
    run leaves there, and ``evaluated`` names what its evaluation does: ``overwrite`` deletes both.

    Raises:
        ShardBusy: when anybody writes there.
        RunChanged: when the results there are of another run and ``on_change`` is ``refuse``.
        OSError: when the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if alone:
            _check_free(folder, None)
        _adopt(folder, description, on_change, outputs, evaluated)


@contextmanager
def open_shard(
    folder: str | Path, index: int, n_shards: int, description: Description, on_change: str = REFUSE
) -> Iterator[tuple[ShardWriter, Run]]:
    """One worker's shard, open for writing, and the run that it belongs to.

    Raises: as ``prepare``; workers of the same run, hence of the same ``n_shards``, may work side by side.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with locked(folder):
            _check_free(folder, None if on_change == OVERWRITE else n_shards)
            _adopt(folder, description, on_change)
            shard = stack.enter_context(ShardWriter(folder, index, n_shards))
        yield shard, Run(folder, f"{index} of {n_shards}")
