"""Running the project's commands, and what they read and write."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TOY_CHECKPOINT = REPO / "scripts" / "toy_world" / "checkpoint"
TOY_PIXELS = ["--min_pixels", "3136", "--max_pixels", "12544"]


def read_jsonl(path):
    # Not splitlines(): a JSON string may hold U+2028, which is no line break here.
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def write_jsonl(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Path(path)


def run(*command, check=True, **options):
    """Run a command of the project from the repository; its output is in the failure message."""
    words = [str(word) for word in command]
    if words[0] == "-m":
        words.insert(0, sys.executable)
    done = subprocess.run(words, cwd=options.pop("cwd", REPO), capture_output=True, text=True, check=False, **options)
    return checked(done, words) if check else done


def checked(done, words):
    """A finished process; fails the test, with the ends of what it printed, where its exit status is not 0."""
    if done.returncode:
        pytest.fail(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return done


def free_port():
    """A port of this machine without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def lines_in(shard):
    """How many whole lines a file has that may not exist yet."""
    return shard.read_bytes().count(b"\n") if shard.exists() else 0


def wait_until(condition, process=None, log=None, seconds=120, pause=0.01):
    """Until ``condition()`` holds; fails after ``seconds``, or when ``process`` ends first, with the end of ``log``."""
    deadline = time.monotonic() + seconds
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            text = log.read_text(errors="replace")[-4000:] if log else ""
            pytest.fail(f"{'the process ended' if ended else f'{seconds} s went by'} before it was so\n{text}")
        time.sleep(pause)


def answers(url):
    """Whether a server of ours replies."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return True
    except OSError:
        return False


@contextmanager
def serving(command, url, log, seconds, environment=()):
    """A server's process, from its first answer at ``url`` on; what it prints is in the file ``log``."""
    words, environment = [str(word) for word in command], {**os.environ, **dict(environment)}
    with open(log, "wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, cwd=REPO, env=environment)
    try:
        wait_until(lambda: answers(url), process, log, seconds, pause=0.3)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def train_shortly(work, **more):
    """train_all.sh in the folder ``work``, with a few steps per stage: what it printed."""
    settings = {
        "python": sys.executable, "work": work, "threads": 1, "seed": 3,
        "stage1_samples": 64, "stage2_samples": 64, "sft_batch_size": 16, "logging_steps": 1, "save_steps": 2,
        "stage3_samples": 8, "validation_samples": 4, "batch_size": 4, "rollouts": 4, "mini_batch_size": 4,
        "micro_batch_size": 16, "save_freq": 1, "stage3_start": TOY_CHECKPOINT, "test_samples": 1,
        "engine": "transformers", "report": "false", "evaluated": "emocaliber", **more,
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    done = run("bash", REPO / "scripts" / "toy_world" / "train_all.sh", env=environment)
    return done.stdout + done.stderr


def many_samples(toy_data, count):
    """A data file of ``count`` samples over the toy scenes, beside their images: a run that can be interrupted."""
    rows = read_jsonl(toy_data)
    copies = range(count // len(rows))
    return write_jsonl(
        toy_data.with_name("many.jsonl"), [{**row, "id": f"{row['id']}-{copy}"} for copy in copies for row in rows]
    )


def descendants(pid):
    """pid → command line of every process below ``pid``."""
    children = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
            children.setdefault(parent, {})[int(folder.name)] = words
    descendants, new = {}, children.get(pid, {})
    while new:
        descendants |= new
        new = {child: words for known in new for child, words in children.get(known, {}).items()}
    return descendants
