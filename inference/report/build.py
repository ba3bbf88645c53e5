"""One file that shows a run: its tables, its plots, and every sample with image, reasoning and answer.

    python -m inference.report --output_path infer_results/my_run --data_path input_data/test_8k.jsonl
    python -m inference.report --runs infer_results/stage1 infer_results/stage2 infer_results/stage3
        several runs of the same samples on one page: who is better than whom, the models' answers to one image

Reads the folder of an evaluated run (``metrics.json``, ``merged.jsonl``, ``error.jsonl``, ``*.png``)
and writes ``report.html`` there. The file opens from disk and needs no network: images are small
copies inside it, and its policy lets nothing but its own script run. ``--data_path``, by default the
run's data file, is where relative image paths start; an image that is not found is shown as such.
``thumbnails.json`` keeps the small copies, so that a second report decodes no image again.

With ``--runs`` (``inference.report.several_runs``) the file is ``report_of_<n>_runs.html`` in the first
run's folder, or ``--output``. Runs are named by their folders. Samples that not every run answered are
counted, and left out of the paired comparison. Exit status 2: the runs cannot be compared.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from inference.common.storage import atomic_write, explain
from inference.common.terminal import plain_output
from inference.data.images import ImageSource, add_image_root_argument, data_images
from inference.data.records import images_in
from inference.metrics.paired_comparison import ComparisonError
from inference.metrics.results import read_file
from inference.report.html import SampleBrowser, page_html
from inference.report.run import (
    ReportError,
    answered_samples,
    attach_images,
    browser_data,
    facts_line,
    failed_samples,
    read_failures,
    read_metrics,
)
from inference.report.several_runs import make_runs_report, read_runs
from inference.report.tables import plots_in, tables_html
from inference.runs.folder import RunChanged, read_run

RESULTS = (("right", "right"), ("wrong", "wrong"), ("malformed", "malformed"))
RESULTS_WITH_FACTS = (*RESULTS, ("false", "with a false statement"))
FAILED = ("failed", "failed")
ORDERS = (("worst", "worst calibrated"), ("most", "most confident"), ("least", "least confident"))


def make_report(
    folder: Path, source: ImageSource, thumbnail_size: int | None, processes: int, max_samples: int
) -> tuple[Path, int]:
    """Write report.html into a run's folder; returns its path and the number of samples in it.

    Args:
        thumbnail_size: pixels per side; None leaves images out.
        max_samples: of a longer run, the first so many samples are in the browser, and it says so.

    Raises:
        ReportError: when the run was not evaluated.
        OSError: when a file cannot be read or written.
    """
    metrics = read_metrics(folder)
    if not (folder / "merged.jsonl").exists():
        raise ReportError(f"{folder / 'merged.jsonl'}: no such file; evaluate the run first")
    results = read_file(folder / "merged.jsonl")
    failures = results.failed + read_failures(folder / "error.jsonl")
    n_total = len(results.table) + len(failures)
    results.table = results.table.head(max_samples)
    samples = answered_samples(results) + failed_samples(failures[:max_samples])
    samples = sorted(samples, key=lambda sample: sample["position"])[:max_samples]
    small = attach_images(samples, source, thumbnail_size, folder / "thumbnails.json", processes)
    has_facts = any("statements" in sample for sample in samples)
    choices = [*(RESULTS_WITH_FACTS if has_facts else RESULTS), FAILED]
    data = browser_data(samples, n_total, "the run has")
    browser = SampleBrowser("sample.js", data, choices, ORDERS, "Result", "Confidence", small)
    notices = [*metrics.get("notices", []), *metrics.get("doubts", [])]
    facts = facts_line(folder, metrics, results.models)
    page = page_html(folder.resolve().name, facts, notices, tables_html(metrics), plots_in(folder), browser)
    with atomic_write(folder / "report.html") as handle:
        handle.write(page)
    return folder / "report.html", len(samples)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output_path", type=Path, help="the folder of an evaluated run")
    what.add_argument("--runs", type=Path, nargs="+", metavar="RUN", help="two or more, of the same samples")
    add("--output", type=Path, metavar="FILE", help="of --runs; default: report_of_<n>_runs.html in the first one")
    add("--data_path", type=Path, help="the data file: relative image paths start in its folder; default: the run's")
    add_image_root_argument(parser)
    add("--thumbnail_size", type=int, default=128, help="pixels per side of the small copies (16 to 1024)")
    add("--no_thumbnails", action="store_true", help="leave the images out")
    add("--processes", type=int, default=len(os.sched_getaffinity(0)), help="that decode images")
    add("--allow_url", action="store_true", help="fetch images that are http(s) URLs, while the report is made")
    add("--allow_private_url", action="store_true", help="also from this machine and private networks")
    add("--max_samples", type=int, default=20_000, help="so many samples in the browser; tables are of all")
    args = parser.parse_args()
    if not 16 <= args.thumbnail_size <= 1024:
        parser.error(f"expected --thumbnail_size from 16 to 1024, got {args.thumbnail_size}")
    if args.max_samples < 1:
        parser.error(f"expected --max_samples of at least 1, got {args.max_samples}")
    if args.data_path and not args.data_path.is_file():
        parser.error(f"--data_path: no such file: {args.data_path}")
    if args.output and not args.runs:
        parser.error("--output names the file of --runs; that of one run is report.html in its folder")
    return args


def run_images(args: argparse.Namespace) -> ImageSource:
    """The images of the data file that ``--data_path``, else ``run.json``, of the first run names; they start in its
    folder."""
    permissions = {"allow_url": args.allow_url, "allow_private_url": args.allow_private_url}
    run = read_run(args.runs[0] if args.runs else args.output_path) or {}
    data_path = args.data_path or Path(run.get("files", {}).get("data_path", ""))
    if not data_path.is_file():
        print(f"no --data_path: relative image paths start in the working directory, {Path.cwd()}", file=sys.stderr)
        return ImageSource([*args.image_root, Path.cwd()], **permissions)
    return data_images(data_path, images_in(data_path), args.image_root, **permissions)


def main() -> None:
    plain_output()
    args = parse_args()
    start = time.monotonic()
    size = None if args.no_thumbnails else args.thumbnail_size
    how = (size, args.processes, args.max_samples)
    try:
        if args.runs:
            runs, aligned = read_runs(args.runs)  # wrong folders need no word about images
            path = args.output or args.runs[0] / f"report_of_{len(runs)}_runs.html"
            n_samples = make_runs_report(runs, aligned, path, run_images(args), *how)
        else:
            read_metrics(args.output_path)
            path, n_samples = make_report(args.output_path, run_images(args), *how)
    except (ReportError, ComparisonError, RunChanged, OSError) as error:
        print(f"no report: {explain(error)}", file=sys.stderr)
        sys.exit(2 if args.runs and not isinstance(error, OSError) else 1)
    seconds, megabytes = time.monotonic() - start, path.stat().st_size / 1e6
    print(f"report: {path}")
    print(f"{n_samples} samples, {megabytes:.1f} MB, made in {seconds:.1f} s", file=sys.stderr)
