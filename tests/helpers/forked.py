"""A Python program in a fork of a process that has the slow imports already: torch, transformers, vLLM.

That process imports installed libraries, nothing of this project, and computes nothing: its fork is what a new
interpreter is seven seconds after its start. Environment, folder and arguments are those of the program.
"""

import importlib
import logging
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.helpers.commands import REPO, checked

LIBRARIES = ("transformers.models.auto.modeling_auto", "vllm.entrypoints.llm", "vllm.lora.request", "sklearn.metrics")

# In Python's place a template starts this: what it was started with, word by word.
RECORDER = """#!/bin/sh
printf '%s\\0' "$@" > "$RECORDED/words"
env -0 > "$RECORDED/environment"
"""


@cache
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


def run_forked(*command, check=True, env=None, input=""):
    """Run ``-m MODULE WORD ...`` or ``-c CODE WORD ...`` as ``tests.helpers.commands.run`` does, but in a fork."""
    words = [str(word) for word in command]
    with tempfile.TemporaryDirectory() as folder:
        done = _run(words, dict(os.environ if env is None else env), Path(folder), input)
    return checked(done, words) if check else done


def run_template(script, *options, environment, check=True):
    """Run a training's template as ``tests.helpers.commands.run`` does; its Python program in a fork."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = Path(folder, "python")
        recorder.write_text(RECORDER)
        recorder.chmod(0o755)
        settings = {**environment, "python": str(recorder), "RECORDED": folder}
        done = subprocess.run(
            ["bash", script, *map(str, options)], cwd=REPO, env=settings, capture_output=True, text=True, check=False
        )
        if Path(folder, "words").exists():
            words, pairs = (Path(folder, name).read_text().split("\0")[:-1] for name in ("words", "environment"))
            seen = dict(pair.split("=", 1) for pair in pairs)
            del seen["RECORDED"]
            done = _run(words, {**seen, "python": sys.executable}, Path(folder))
    return checked(done, [script.name, *map(str, options)]) if check else done


def _run(words, environment, folder, read=""):
    """``python *words`` in the repository: what it printed and its exit status, as ``subprocess.run`` returns them."""
    streams = [folder / name for name in ("stdin", "stdout", "stderr")]
    for path, text in zip(streams, (read, "", ""), strict=True):
        path.write_text(text, encoding="utf-8")
    process = processes().Process(target=_become, args=(words, environment, streams))
    process.start()
    process.join()
    return subprocess.CompletedProcess(words, process.exitcode, *(path.read_text("utf-8") for path in streams[1:]))


def _become(words, environment, streams):
    """Turn this process into that Python: environment, folder, streams, paths, arguments; ends as the program does."""
    for descriptor, path in enumerate(streams):
        os.dup2(os.open(path, os.O_WRONLY if descriptor else os.O_RDONLY), descriptor)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(REPO)
    sys.path[:0] = [str(REPO), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    importlib.invalidate_caches()
    logging.getLogger().handlers.clear()  # a library's: what the program sets up comes before its import elsewhere
    sys.orig_argv = [sys.executable, *words]
    kind, *others = words
    sys.argv = others if kind == "-m" else ["-c", *others[1:]] if kind == "-c" else words
    if kind == "-m":
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        exec(compile(others[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    else:
        runpy.run_path(kind, run_name="__main__")
