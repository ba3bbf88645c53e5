"""A start of a training in a fork of the tests' process: transformers, whose import takes seconds, is there already."""

import importlib
import logging
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.commands import REPO, TOY_CHECKPOINT

# In Python's place a template starts this: what it was started with, word by word.
RECORDER = """#!/bin/sh
printf '%s\\0' "$@" > "$RECORDED/words"
env -0 > "$RECORDED/environment"
"""


@cache
def import_transformers():
    import transformers

    transformers.AutoConfig.from_pretrained(TOY_CHECKPOINT)


def run_template(script, *options, environment, check=True):
    """Run a training's template as ``tests.helpers.commands.run`` does; its Python program in a fork."""
    import_transformers()
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
            done = _forked(words, {**seen, "python": sys.executable}, Path(folder))
    if check and done.returncode:
        pytest.fail(f"{script.name} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return done


def _forked(words, environment, folder):
    """``python *words`` in the repository: what it printed and its exit status, as ``subprocess.run`` returns them."""
    sys.stdout.flush()
    sys.stderr.flush()
    outputs = [folder / "stdout", folder / "stderr"]
    child = os.fork()
    if not child:
        status = 1
        try:
            for descriptor, path in enumerate(outputs, 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
            sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", encoding="utf-8") for descriptor in (1, 2))
            _become(words, environment)
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return subprocess.CompletedProcess(words, status, *(path.read_text(encoding="utf-8") for path in outputs))


def _become(words, environment):
    """Turn this process into that Python: environment, folder, paths, modules; ends as the program does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(REPO)
    # A test before may have imported the installed ones; a start looks for them where its settings say.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("swift", "verl")]:
        del sys.modules[name]
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    importlib.invalidate_caches()
    logging.getLogger().handlers.clear()  # pytest's
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
