"""Check, describe and run a training. The templates of the three stages call it with the trainer's own command:

    python train/launch.py --stage 1 --n_gpu 8 --fsdp train/fsdp_offload.json -- swift sft --model … --dataset …
    python train/launch.py --stage 3 -- verl.trainer.main_ppo data.train_files=… …

It starts that command by what the machine asks for: accelerate, torch's own launcher on CPU, or the Python that
Ray can start. Settings are read from the command; of an option that is given twice, the last one counts.

Before anything heavy starts, what is missing or wrong is said in one line (exit status 2), and the plan is printed.
``run.json`` in the output folder says what is trained there, as it does for inference: another model, data or
setting is refused, the same one goes on from its last complete checkpoint, and a finished one says so. Ends with
the trainer's exit status.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path[:] = [str(REPO), *(place for place in sys.path if place != str(REPO / "train"))]

# Standard library only: a Python without the frameworks gets a message, not a traceback.
from inference.common.locks import Held, hold  # noqa: E402
from inference.common.options import at_least_one  # noqa: E402
from inference.common.storage import explain  # noqa: E402
from inference.common.terminal import plain_output  # noqa: E402
from inference.engines.checkpoint_config import without_torch  # noqa: E402
from inference.engines.checkpoints import check_checkpoint  # noqa: E402
from inference.runs import folder as runs  # noqa: E402
from inference.runs.identity import checkpoint_identity, data_identity  # noqa: E402
from train.swift_launch import Processes, Swift  # noqa: E402
from train.verl_launch import Verl, step_of  # noqa: E402

# What a training leaves in its folder, and what starting anew deletes.
CHECKPOINTS = ("checkpoint-*", "global_step_*")
OUTPUTS = (*CHECKPOINTS, "latest_checkpointed_iteration.txt", "logging.jsonl", "rollouts")


def framework(kind: type[Swift | Verl], checkout: str) -> Path:
    """The folder of the framework's package, from the checkout if one is named.

    Raises:
        ValueError: when it is not there.
    """
    if checkout:
        if not (Path(checkout) / kind.package / kind.entry).is_file():
            raise ValueError(f"no {kind.package}/{kind.entry} in {kind.package}_path={checkout}")
        absolute = os.path.abspath(checkout)
        sys.path.insert(1, absolute)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (absolute, os.environ.get("PYTHONPATH"))))
    found = importlib.util.find_spec(kind.package)
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            f"{sys.executable} has no {kind.name}. "
            f"Run bash scripts/setup.sh and set python=.venv/bin/python, or set {kind.package}_path."
        )
    return Path(found.submodule_search_locations[0])


def check_inputs(training: Swift | Verl, args: argparse.Namespace) -> None:
    """Model and files are there, and the model can be run as it was saved.

    Raises:
        ValueError, CheckpointRefused: naming what is missing or wrong.
    """
    if not Path(training.model).is_dir() and (isinstance(training, Verl) or training.model.startswith(("/", "."))):
        kind = "the cold-start model's folder" if isinstance(training, Verl) else "a model folder or a hub name"
        raise ValueError(f"no folder at model={training.model}. Set model to {kind}.")
    for name, (path, what) in training.files.items():
        if not path.is_file() or not path.stat().st_size:
            raise ValueError(f"no file at {name}={path}. Set {name} to {what}.")
    local = Path(training.model).is_dir()
    if local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if local or (args.print != "true" and os.environ.get("USE_HF") == "1"):  # its files are fetched, of another hub not
        environment = dict(os.environ)
        without_torch()
        try:
            check_checkpoint(training.model, args.allow_pickle == "true", args.trust_remote_code == "true")
        finally:  # the trainer needs it
            os.environ.clear()
            os.environ.update(environment)


def outputs(folder: Path) -> list[Path]:
    return [path for pattern in OUTPUTS for path in folder.glob(pattern)]


def describe_run(training: Swift | Verl) -> runs.Description:
    """The training's identity, as ``inference.runs.folder`` keeps it."""
    identity, files = checkpoint_identity(training.model, runs.known_checkpoint_files(training.output_dir))
    read = {name: data_identity(path) for name, path in training.read.items()}
    parts = {"checkpoint": identity, "settings": training.settings(), **read}
    place = os.path.abspath(training.model) if Path(training.model).is_dir() else training.model
    where = {"data_path": os.path.abspath(training.dataset), "checkpoint": place, "checkpoint_files": files}
    return runs.Description(parts, where)


def start(training: Swift | Verl, args: argparse.Namespace) -> int:
    """Claim the output folder, check the data, print the plan, train; the exit status.

    Raises:
        ValueError, BadData, RunChanged, OSError: what keeps it from starting.
    """
    folder = training.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    description = describe_run(training)
    on_change = runs.RESUME_ANYWAY if args.resume_anyway == "true" else runs.REFUSE
    on_change = runs.OVERWRITE if args.overwrite == "true" else on_change
    trained = any(path for pattern in CHECKPOINTS for path in folder.glob(pattern))
    first = training.rank == 0  # further machines share folder and run
    if first and trained and on_change == runs.REFUSE:
        runs.prepare(folder, description, outputs=outputs)
    resumed = training.newest() if on_change != runs.OVERWRITE else None
    run = runs.read_run(folder) if resumed else None
    last = run["starts"][-1] if run and run["starts"] else {}
    same = run is not None and not runs.compare(run["identity"], description.identity)
    if same and last.get("counts") == {"exit_status": 0, "step": step_of(resumed)}:
        print(f"Stage {args.stage} is finished: {resumed}. Nothing is left to train (overwrite=true starts anew).")
        return 0
    training.prepare_data()
    if first and not (trained and on_change == runs.REFUSE):
        # A start that left no checkpoint binds the folder to nothing.
        runs.prepare(folder, description, on_change if trained else runs.OVERWRITE, outputs=outputs, evaluated=())
    if resumed:
        training.resume(resumed)
    heading, *lines = training.plan(resumed)
    print(f"Stage {args.stage}: {heading}", *lines, sep="\n  ", flush=True)
    if not first:
        return explained(run_trainer(training.command()), folder)
    try:
        lock = hold(folder / "training.lock")
    except Held as pid:
        raise ValueError(f"another training (pid {pid}) writes {folder} now") from None
    with lock:
        record = runs.Run(folder, f"stage {args.stage}")
        record.begin()
        # Ray puts the working directory before everything else in the paths of its workers.
        status = run_trainer(training.command(), folder if isinstance(training, Verl) else None)
        try:
            record.end({"exit_status": status, "step": step_of(training.newest())})
        except OSError:
            if not status:  # else the disk was full before, which is what has to be said
                raise
    return explained(status, folder)


def largest_checkpoint(output_dir: Path) -> int:
    """Bytes of the largest checkpoint there; 0 without one."""
    folders = [path for pattern in CHECKPOINTS for path in output_dir.glob(pattern)]
    return max((sum(path.stat().st_size for path in folder.rglob("*")) for folder in folders), default=0)


def run_trainer(command: list[str], cwd: Path | None = None) -> int:
    """Its exit status, as a shell has it."""
    trainer = subprocess.Popen(command, cwd=cwd)
    # The terminal sends Ctrl-C to the trainer as well; what is sent to this process alone is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: trainer.terminate())
    status = trainer.wait()
    return status if status >= 0 else 128 - status


def explained(status: int, output_dir: Path) -> int:
    """The trainer's exit status; says on stderr where it ended because no further checkpoint fits on the disk.

    A trainer that cannot write its checkpoint ends in a page of traceback that does not always say why.
    """
    free = shutil.disk_usage(output_dir).free
    if status and free <= largest_checkpoint(output_dir):
        print(
            f"The training ended with status {status}, and the disk of {output_dir} is full "
            f"({free / 2**20:.1f} MiB are left). "
            "Complete checkpoints are kept: make room and start the same command again.",
            file=sys.stderr,
        )
    return status


def main() -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True, choices=("1", "2", "3"))
    parser.add_argument("--checkout", default="", help="a checkout of the framework; empty: the installed package")
    parser.add_argument("--more", default="", help="further options of the trainer, separated by blanks")
    switches = {
        "print": "show what would run; start nothing",
        "overwrite": "start anew in a folder that has been trained in",
        "resume_anyway": "go on there although model, data or settings are others",
        "allow_pickle": "load weights that are pickled",
        "trust_remote_code": "run Python code that comes with the model",
    }
    for name, text in switches.items():
        parser.add_argument(f"--{name}", default="false", choices=("true", "false"), help=text)
    processes = {field.name: field for field in fields(Processes)}
    for name, field in processes.items():
        kind = at_least_one if isinstance(field.default, int) and field.default else type(field.default)
        text = f"stages 1 and 2: {field.metadata['help']}"
        parser.add_argument(f"--{name}", type=kind, default=field.default, choices=field.metadata["choices"], help=text)
    parser.add_argument(
        "command", nargs="+", help="after --: swift sft --name value …, or verl.trainer.main_ppo key=value …"
    )
    parser.error = lambda problem: parser.exit(2, f"{problem}\n")  # one line: the templates' users need no usage
    args = parser.parse_args()
    try:
        kind = Verl if args.stage == "3" else Swift
        length = len(kind.COMMAND)
        if args.command[:length] != kind.COMMAND:
            raise ValueError(f"{' '.join(args.command[:length])}: expected {' '.join(kind.COMMAND)}")
        folder = framework(kind, args.checkout)
        words = [*args.command[length:], *args.more.split()]
        if kind is Verl:
            training = Verl(words, folder)
        else:
            training = Swift(words, folder, Processes(**{name: getattr(args, name) for name in processes}))
        os.environ.setdefault("USE_HF", "1")  # the Hugging Face hub; ms-swift's own default is ModelScope
        os.environ["TRUST_REMOTE_CODE"] = args.trust_remote_code  # swift_plugins.py reads it
        if args.use_cpu == "true":
            os.environ["ACCELERATE_USE_CPU"] = "true"
        if args.print != "true" or kind is Swift:
            check_inputs(training, args)
        training.choose()
        if kind is Verl and not training.reward.is_file():
            advice = "Set reward_path, or copy it with bash scripts/install_reward.sh."
            raise ValueError(f"no file at reward_path={training.reward}. {advice}")
        if args.print == "true":
            if kind is Swift:
                resumed = training.newest()
                if resumed and args.overwrite != "true":
                    training.resume(resumed)
            return training.show()
        if kind is Verl:
            training.check_logger()
        return start(training, args)
    except (ValueError, OSError) as error:
        print(f"stage {args.stage}: {explain(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
