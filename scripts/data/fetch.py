"""Fetch the benchmark, the training data and the models from the Hugging Face hub, checked file by file.

    python -m scripts.data.fetch                          # what there is, from where; no request
    python -m scripts.data.fetch vecbench --dry_run       # how large it is
    python -m scripts.data.fetch vecbench emocaliber      # or: all

Sizes come first, and nothing starts when the disk is too small. A broken connection is
resumed, every file is checked against the hub's checksum, and archives of images are unpacked
beside themselves. Start it again at any time: only what is missing or broken is fetched.

From the environment: HF_ENDPOINT (a mirror), HF_TOKEN (gated or private repositories),
HF_HUB_DISABLE_XET=0 (files over 50 GB), and VECBENCH_REPO, VEC_COT_REPO, EMOCALIBER_REPO and
BASE_MODEL_REPO (another repository, as --repo). Exit status: 0 when every file is there and
checked, 1 when a file does not match or an archive is not usable, 2 for everything else.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
from pathlib import Path

from inference.common.locks import Held, hold
from inference.common.storage import explain
from inference.common.terminal import plain_output
from inference.data.images import ImageError, data_images

try:
    from scripts.data.hub.job import Resource, check_sizes, fetch, plan, target_folder
    from scripts.data.hub.repository import FetchError, without_secrets
    from scripts.data.samples import Sample, read_samples
except ImportError as error:  # the environment for evaluation alone does not have it
    raise SystemExit(f"{error.name} is missing: bash scripts/setup.sh --cpu (or --gpu), or pip install it") from None

SAMPLE = 1000  # records of a file whose images are looked for

# The repositories that the paper's project page (github.com/wdqqdw/EmoCaliber) links to.
RESOURCES = {
    resource.name: resource
    for resource in (
        Resource("vecbench", "wudq/VECBench", "dataset", "the benchmark: test file and images", without="VEC-CoT/"),
        Resource("vec-cot", "wudq/VECBench", "dataset", "training data of the three stages", only="VEC-CoT/"),
        Resource("emocaliber", "wudq/EmoCaliber", "model", "the released model"),
        Resource("base-model", "Qwen/Qwen2.5-VL-7B-Instruct", "model", "what stage 1 starts from"),
    )
}


def images_line(path: Path, folder: Path) -> str:
    """Whether the images that a file of records names are where they are looked for, or anywhere in its repository."""
    samples = list(itertools.islice(read_samples(path), SAMPLE))
    named = [image for sample in samples if isinstance(sample, Sample) for image in sample.images]
    named = [image for image in named if not image.startswith(("http:", "https:", "data:"))]
    source = data_images(path, named, [folder])
    absent = []
    for image in named:
        try:
            source.open(image)
        except ImageError:
            absent.append(image)
    line = f"{path}: {len(samples)} records looked at, {len(named)} images named, {len(absent)} not found"
    return line + (f", the first is {absent[0]}" if absent else "")


def run(args: argparse.Namespace, repositories: dict[str, str]) -> int:
    """Do what the command line asks for; returns the exit status.

    Raises:
        FetchError: with the one line to end with.
        OSError: when the disk cannot be written.
    """
    jobs = [plan(RESOURCES[name], repositories[name], args.revision, args.output_dir) for name in args.resources]
    check_sizes(jobs, args.output_dir)
    if args.dry_run:
        return 0
    args.output_dir.mkdir(parents=True, exist_ok=True)
    try:
        lock = hold(args.output_dir / ".fetch.lock")
    except Held as pid:
        raise FetchError(f"{args.output_dir}: another fetch (pid {pid}) is writing there: wait for it") from None
    with lock:
        good = [fetch(job, args.workers) for job in jobs]
    for job in jobs:
        for path in [job.folder / file.path for file in job.files if file.path.endswith(".jsonl")]:
            if path.is_file():
                print(images_line(path, job.folder))
    return 0 if all(good) else 1


def interrupted(*_) -> None:
    os.write(2, b"interrupted: start again to go on\n")
    os._exit(130)  # threads that download cannot be stopped otherwise, and what they have is gone on with


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("resources", nargs="*", metavar="RESOURCE", help=f"{', '.join(RESOURCES)}, or all")
    parser.add_argument("--output_dir", type=Path, default=Path("input_data"))
    parser.add_argument("--dry_run", action="store_true", help="sizes only")
    parser.add_argument("--workers", type=int, default=8, help="files at once")
    parser.add_argument("--revision", default="main", help="branch, tag or commit, of every resource named")
    parser.add_argument("--repo", action="append", default=[], metavar="RESOURCE=OWNER/NAME", help="may be repeated")
    args = parser.parse_args()
    repositories = {name: os.environ.get(item.variable) or item.repo_id for name, item in RESOURCES.items()}
    repositories.update(item.partition("=")[::2] for item in args.repo)
    args.resources = list(RESOURCES) if "all" in args.resources else list(dict.fromkeys(args.resources))
    for name in (*args.resources, *repositories):
        if name not in RESOURCES:
            parser.error(f"expected one of {', '.join(RESOURCES)}, got {name!r}")
        if repositories[name].count("/") != 1:
            parser.error(f"{name}: expected a repository of the form OWNER/NAME, got {repositories[name]!r}")
    if args.workers < 1:
        parser.error(f"expected --workers of 1 or more, got {args.workers}")
    if not args.resources:
        for name, item in RESOURCES.items():
            where = f"{repositories[name]}/{item.only}".rstrip("/")
            here = target_folder(item, repositories[name], args.output_dir) / item.only
            print(f"{name:<12} {item.what:<38} {item.kind:<8} {where:<28} {here}")
        return
    signal.signal(signal.SIGINT, interrupted)
    try:
        status = run(args, repositories)
    except (FetchError, OSError) as error:
        parser.exit(2, f"{without_secrets(explain(error))}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
