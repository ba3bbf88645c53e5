"""The main job: a worker per GPU, one evaluation of what all of them inferred, a report.

``infer_and_eval_example.sh`` starts it and hands the settings on in the environment, where ``infer.sh``, which each
worker is started by, finds them too. Options of this command are passed on to ``inference.inference_vllm``.
What cannot work is refused before anything starts (exit status 2). Workers end with this process, however it ends.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from inference.common.locks import Held, hold
from inference.common.redaction import redact
from inference.common.storage import explain
from inference.common.terminal import plain_output
from inference.engines.base import default_model_name
from inference.engines.devices import device_of, visible_devices
from inference.engines.root_cause import last_words
from inference.runs.progress import watch
from inference.runs.wandb_run import why_not

WORKER = ("bash", str(Path(__file__).resolve().parents[1] / "infer.sh"))


def complete(settings: MutableMapping[str, str]) -> None:
    """Fill in the settings that follow from others.

    Raises:
        ValueError: in one line, for what cannot work.
    """
    engine, data = settings["engine"], Path(settings["data_path"])
    if engine == "openai":
        if not settings["base_url"]:
            raise ValueError("engine=openai: set base_url to the endpoint, for instance http://127.0.0.1:8000/v1")
        if not settings["model_name"]:
            raise ValueError("engine=openai: set model_name to the model that the endpoint is asked for")
        settings["checkpoint"] = ""
    settings["model_name"] = settings["model_name"] or default_model_name(
        settings["checkpoint"], settings.get("adapter", "")
    )
    data_folder, model = Path(os.path.realpath(data)).parent.name, Path(settings["model_name"]).name
    replaced = f"_{settings['replace_images']}" if settings.get("replace_images") else ""
    experiment = settings["experiment_name"] or f"{data_folder}_{data.name.removesuffix('.jsonl')}_{model}{replaced}"
    settings["output_path"] = settings["output_path"] or f"{settings['cur_path']}/infer_results/{experiment}"
    if not data.is_file():
        raise ValueError(f"No file at data_path={data}. Set data_path to a JSON-lines file of VECBench records.")
    if engine == "ray":
        settings["n_gpu"] = "1"  # one process reads and writes; the cluster's actors have the GPUs
    elif not settings["n_gpu"]:
        settings["n_gpu"] = "1" if engine == "openai" else str(max(1, len(visible_devices())))  # 1: the CPU
    if not re.fullmatch("[1-9][0-9]*", settings["n_gpu"]):
        raise ValueError(f"n_gpu={settings['n_gpu']}: expected a number of at least 1.")
    if engine not in ("openai", "ray") and not settings.get("device"):
        device_of(int(settings["n_gpu"]) - 1)  # there is a GPU for each, or none at all
    if settings["project_name"] and (problem := why_not()):
        raise ValueError(f"project_name={settings['project_name']} cannot be logged to: {problem}")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's ``job.lock`` until the end.

    Raises:
        ValueError: when another job works there.
        OSError: when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = hold(folder / "job.lock")
    except Held as pid:
        problem = f"another job is running there (pid {pid}). Wait for it, or take another output_path."
        raise ValueError(f"output_path={folder}: {problem}") from None
    with lock:
        yield


def infer(settings: MutableMapping[str, str], options: list[str]) -> list[str]:
    """Start all workers, show their progress, wait for them; a line for each that failed."""
    folder, workers = Path(settings["output_path"]), []
    logs = [folder / f"worker_{index}.log" for index in range(int(settings["n_gpu"]))]
    environment = {**settings, "parent_pid": str(os.getpid())}
    try:
        # Ctrl-C is this process's alone, which then ends its workers in order: they inherit that it is ignored.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for index, log in enumerate(logs):
            with open(log, "wb") as output:
                words = [*WORKER, str(index), *options]
                workers.append(subprocess.Popen(words, env=environment, stdout=output, stderr=subprocess.STDOUT))
        signal.signal(signal.SIGINT, interrupt)
        limit = int(settings["limit"]) if settings["limit"] else None
        watch(settings["data_path"], folder, limit, lambda: any(worker.poll() is None for worker in workers))
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    failed = []
    for index, (worker, log) in enumerate(zip(workers, logs, strict=True)):
        if status := worker.wait():
            said = last_words(log.read_text(encoding="utf-8", errors="replace")) or "its log is empty"
            status = status if status > 0 else 128 - status
            failed.append(f"Worker {index} failed (status {status}, log {log}): {said}")
    return failed


def run(settings: MutableMapping[str, str], options: list[str]) -> int:
    """Infer, evaluate and report; the exit status."""
    # Once, before the workers: what is there, and may it be added to?
    if status := subprocess.run([*WORKER, "prepare", *options], env=settings, check=False).returncode:
        return status
    if failed := infer(settings, options):
        kept = "What was inferred is kept: start the same command again."
        print(f"{len(failed)} of {settings['n_gpu']} worker(s) failed. {kept}", *failed, sep="\n", file=sys.stderr)
        return 1
    python = [settings.get("python", sys.executable), "-m"]
    run_folder = ["--output_path", settings["output_path"]]
    run_of_data = [*run_folder, "--data_path", settings["data_path"]]
    limit = ["--limit", settings["limit"]] if settings["limit"] else []
    logged = ["--wandb_project", settings["project_name"], *settings["evaluate_args"].split()]
    steps = [[*python, "inference.evaluate", *run_of_data, *limit, *logged]]
    if settings["data_path"] == settings["toy_data"]:
        steps.append([*python, "scripts.toy_world.report", *run_folder])
    for step in steps:
        if status := subprocess.run(step, check=False).returncode:
            return status
    if settings["report"] == "true":
        roots = [f"--image_root={root}" for root in settings["image_root"].split(":") if root]
        step = [*python, "inference.report", *run_of_data, *roots]
        if subprocess.run(step, check=False).returncode:
            warning = "WARNING: there is no report.html; the numbers above are complete without it. To try again:"
            print(f"{warning}\n  {shlex.join(step)}", file=sys.stderr)
    return 0


def main() -> None:
    plain_output()
    settings = os.environ
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        complete(settings)
        asked = settings["checkpoint"] or f"{settings['model_name']} at {redact(settings['base_url'])}"
        how = f"{settings['engine']}, {settings['n_gpu']} worker(s), temperature {settings['temperature']}"
        print(f"Inferring {settings['data_path']} with {asked} ({how})")
        print(f"into {settings['output_path']}; the workers' logs are worker_<index>.log there.", flush=True)
        with alone(Path(settings["output_path"])):
            sys.exit(run(settings, sys.argv[1:]))
    except (ValueError, OSError) as error:
        print(explain(error), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
