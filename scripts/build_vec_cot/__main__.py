"""VEC-CoT from labelled images, all steps: split, reasoning, confidence, training files, report.

    python -m scripts.build_vec_cot --toy 12
        a small toy world on CPU; the toy model is teacher and scaffold
    python -m scripts.build_vec_cot --data_path emoset.jsonl webemo.jsonl fi.jsonl \\
        --test_path input_data/test_8k.jsonl --work input_data/VEC-CoT \\
        --teacher "--engine openai --base_url http://127.0.0.1:8000/v1 --model_name my-teacher"
        real data, a teacher behind an endpoint (options of write_reasoning). Ends before stage 2's
        confidence, which needs the scaffold: train it on stage1.jsonl by train/step1_example.sh, then
        the same again with
        --scaffold "--checkpoint output/scaffold/checkpoint-666 --samples 10" --n_gpu 8
        options of confidence; eight workers, each on a GPU of its own

Start it again after any interruption: only what is missing is done.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from inference.common.paths import REPOSITORY, TOY_CHECKPOINT
from inference.common.terminal import plain_output
from inference.data.images import add_image_root_argument
from inference.engines.checkpoints import CheckpointRefused
from inference.engines.devices import VARIABLE, device_of
from inference.engines.load import check_model
from inference.runs.settings import add_settings, parsed_settings
from scripts.build_vec_cot.records import read_rows, write_rows
from scripts.build_vec_cot.stages import PUBLISHED_ROWS
from scripts.toy_world.world import PIXEL_BUDGET

TOY_MODEL = (
    f"--checkpoint {shlex.quote(str(TOY_CHECKPOINT))} --max_new_tokens 128"
    f" --min_pixels {PIXEL_BUDGET.min_pixels} --max_pixels {PIXEL_BUDGET.max_pixels}"
)
# The toy model cannot follow a teacher's prompt. It is asked its own question, and its answers are
# kept where they equal the label.
TOY_TEACHER = f"{TOY_MODEL} --teacher_prompt recognition --min_words 10"


def start(module: str, *options: object, **environment: str) -> subprocess.Popen:
    """A command of this repository in the working directory of the caller; paths stay the caller's."""
    search = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    # PYTHONSAFEPATH: a module of the same name in the working directory would come first (Python 3.11 and later).
    own = {"PYTHONPATH": search, "PYTHONSAFEPATH": "1"}
    known = {"VLLM_LOGGING_LEVEL": "WARNING", **os.environ, **own, **environment}
    return subprocess.Popen([sys.executable, "-m", module, *map(str, options)], env=known)


def run(module: str, *options: object) -> None:
    """Run a step to its end.

    Raises:
        SystemExit: with the step's own exit status, when it failed; it has said why.
    """
    print(f"\n== {module.rpartition('.')[2]}", flush=True)
    if status := start(module, *options).wait():
        raise SystemExit(status)


def sample(module: str, options: list[str], n_gpu: int) -> None:
    """A step that asks a model: by one process, or by one per GPU and one that collects their shards.

    Raises:
        SystemExit: when a worker failed. What was answered is kept.
    """
    if n_gpu == 1 or "openai" in options:  # an endpoint is asked many questions at once by one process
        run(module, *options)
        return
    try:
        devices = [device_of(index) for index in range(n_gpu)]
    except ValueError as error:
        raise SystemExit(f"--n_gpu {n_gpu}: {error}") from None
    print(f"\n== {module.rpartition('.')[2]}, {n_gpu} workers", flush=True)
    workers = [
        start(module, *options, "--index", index, "--n_shards", n_gpu, **({VARIABLE: device} if device else {}))
        for index, device in enumerate(devices)
    ]
    try:
        failed = [index for index, worker in enumerate(workers) if worker.wait()]
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    if failed:
        raise SystemExit(f"workers {failed} failed; start the same command again to go on")
    run(module, *options, "--collect_only")


def toy_world(args: argparse.Namespace) -> None:
    """Draw labelled toy scenes and other ones as the test set; fill in what the real data would say."""
    for part, seed in (("labelled", 1), ("test", 0)):
        folder = args.work / "toy_world" / part
        if not (folder / "test.jsonl").exists():
            options = ("--output_dir", folder, "--test", args.toy, "--seed", seed, "--processes", 1)
            run("scripts.toy_world.generate", *options)
    labelled = args.work / "toy_world" / "labelled" / "labelled.jsonl"
    rows = read_rows(labelled.with_name("test.jsonl"))
    write_rows(labelled, [row for row in rows if row["task"] in PUBLISHED_ROWS])  # the tasks that training may see
    args.data_path = [labelled]
    args.test_path = [args.work / "toy_world" / "test" / "test.jsonl"]
    args.teacher = f"{TOY_TEACHER} {args.teacher}"
    args.scaffold = f"{TOY_MODEL} {args.scaffold}"


def check_models(*options: str) -> None:
    """Teacher and scaffold are looked at before the first step: the second may be needed hours later.

    Raises:
        CheckpointRefused: naming the file and what to do.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_settings(parser, without=["replace_images", "max_images"])
    for words in map(shlex.split, options):
        args, _ = parser.parse_known_args(words)
        if args.checkpoint:
            check_model(parsed_settings(parser, args))


def build(args: argparse.Namespace) -> None:
    """All steps, each in its folder of --work."""
    package, work = "scripts.build_vec_cot", args.work
    split, reasoning, confidence = work / "split", work / "reasoning", work / "confidence"
    # Later steps read files of their own folders, which name the images of these files.
    folders = [*args.image_root, *(path.resolve().parent for path in (*args.data_path, *args.test_path))]
    roots = [word for folder in dict.fromkeys(folders) for word in ("--image_root", folder)]
    options = ["--data_path", *args.data_path, "--test_path", *args.test_path, "--output_dir", split, *roots]
    run(f"{package}.split", *options, "--seed", args.seed, *shlex.split(args.split))

    records = [split / f"stage{stage}_records.jsonl" for stage in (1, 2)]
    options = ["--data_path", *records, "--output_path", reasoning, "--seed", args.seed, *roots]
    sample(f"{package}.write_reasoning", [*options, *shlex.split(args.teacher)], args.n_gpu)

    written = reasoning / "reasoning.jsonl"
    files = ["--split", split, "--reasoning", written, "--output_dir", work]
    if args.scaffold:
        options = ["--data_path", written, "--stage", 2, "--output_path", confidence, "--seed", args.seed]
        options += roots
        sample(f"{package}.confidence", [*options, *shlex.split(args.scaffold)], args.n_gpu)
        files += ["--confidence", confidence / "confidence.jsonl"]
    run(f"{package}.assemble", *files)
    run(f"{package}.report", "--work", work)
    if not args.scaffold:
        print(
            f"\nStage 2 waits for the scaffold: train it by train/step1_example.sh on {work / 'stage1.jsonl'},"
            ' then start the same command again with --scaffold "--checkpoint FOLDER".'
        )


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data_path", nargs="+", type=Path, help="labelled images: VECBench records, one JSON object per line")
    add("--test_path", nargs="*", type=Path, help="test records whose images are kept out; nothing: there are none")
    add_image_root_argument(parser)
    add("--work", type=Path, help="the folder of all steps and of the training files")
    add("--split", default="", metavar="OPTIONS", help="more options of split, as one string")
    add("--teacher", default="", metavar="OPTIONS", help="options of write_reasoning, as one string")
    add("--scaffold", default="", metavar="OPTIONS", help="options of confidence, as one string")
    add("--n_gpu", type=int, default=1, help="workers of a model that runs here, one per GPU")
    add("--seed", type=int, default=0, help="of the split and of sampling")
    add("--toy", type=int, metavar="N", help="build from N generated scenes per task, to see how it works")
    args = parser.parse_args()
    if args.toy:
        args.work = args.work or Path("output") / "toy_vec_cot"
        toy_world(args)
    elif not args.data_path or args.test_path is None or not args.work or not args.teacher:
        parser.error("expected --data_path, --test_path, --work and --teacher, or --toy N")
    try:
        check_models(args.teacher, args.scaffold)
    except CheckpointRefused as error:
        parser.exit(2, f"{error}\n")
    build(args)


if __name__ == "__main__":
    main()
