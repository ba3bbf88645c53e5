"""Evaluate a run: result shards in, tables, plots and metrics.json out. Needs no torch, no vLLM.

    python -m inference.evaluate --output_path infer_results/my_run [--data_path input_data/test_8k.jsonl]
    python -m inference.evaluate --input_file results.jsonl --output_dir somewhere [--data_path …]

The file may be of another harness: samples that lmms-eval logged, predictions of VLMEvalKit.

Writes into the run's folder: ``merged.jsonl`` (every response), ``error.jsonl`` (every sample
without one, and why), ``merged_conf.jsonl`` (with prediction, confidence, correctness),
``metric.log``, ``metric_conf.log``, ``metric_emobserver.log``, ``thresholds.tsv``, ``metrics.json``,
``metrics.tsv`` (every metric with its interval) and the plots of ``inference.plots``. Lines that begin
with ``CHECK:`` name what can be read and is doubtful all the same. A file that holds no result ends with status 2.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from inference.common.json_lines import one_line, to_line
from inference.common.storage import atomic_write, explain
from inference.common.terminal import plain_output
from inference.data.doubts import Doubts, most_frequent_error
from inference.data.records import Record, read_records
from inference.data.response import normal_label
from inference.metrics import corrected, corrected_tables, emobserver, published, reasoning
from inference.metrics.bootstrap import N_RESAMPLES
from inference.metrics.calibration import N_BINS
from inference.metrics.merged_files import write_merged, write_merged_with_confidence
from inference.metrics.other_harnesses import unknown_harness
from inference.metrics.result_lines import NotResults
from inference.metrics.results import Results, read_file, read_shards
from inference.plots import remove_plots
from inference.runs import wandb_run
from inference.runs.identity import file_sha256, trace
from inference.runs.shards import error_of

DRAWING_PROCESSES = 2  # half of the time goes into the confusion matrices

NOT_INFERRED = "not inferred: no worker has written a result; start the same command again"
RELABELLED = "another task or label in the data file than in the results, which count as they are"
NOT_IN_DATA = "no sample of the data file, or beyond --limit; each counts"


def checked_against_data(results: Results, data_path: Path, limit: int | None = None) -> tuple[list[dict], list[str]]:
    """An error record for each sample of the data file that has no result, and what is doubtful about the results."""
    table, missing, doubts = results.table, [], Doubts()
    known = dict(zip(table["sample_id"], zip(table["task"], table["truth"], strict=True), strict=True))
    for item in read_records(data_path, limit, max_images=sys.maxsize):
        answered = known.pop(item.sample_id, None)
        if item.sample_id not in results.known:
            place = {"sample_id": item.sample_id, "position": item.position}
            missing.append({**item.raw, **place, "error": NOT_INFERRED})
        elif answered and isinstance(item, Record) and answered != (item.task, normal_label(item.ground_truth)):
            doubts.add(RELABELLED, f"{data_path.name}, line {item.line_number}")
    for sample_id in known:
        doubts.add(NOT_IN_DATA, f"sample {one_line(sample_id, 60)}")
    return missing, doubts.lines()


def check_any_result(path: Path, results: Results) -> None:
    """Raises NotResults when no line of a file can be evaluated, with what is supported or its most frequent error."""
    if not len(results.table):
        errors = [result["error"] for result in results.failed]
        why = (unknown_harness(path) or most_frequent_error(errors)) if errors else "it is empty"
        raise NotResults(f"{path}: {why}")


def counts_text(results: Results, doubts: list[str], run: dict[str, Any] | None) -> str:
    """The head of the logs: what must accompany the numbers, the counts, the run, and what is doubtful."""
    n_read = len(results.table) + len(results.failed)
    lines = [f"NOTE: {note}" for note in results.notices]
    lines.append(f"{n_read} samples read = {len(results.table)} predicted + {len(results.failed)} failed")
    lines[-1] += " (error.jsonl; not in the tables)" if results.failed else ""
    lines += [run["summary"]] if run is not None else []
    return "\n".join([*lines, *(f"CHECK: {doubt}" for doubt in doubts)])


def metric_log(head: str, published_table: str, tsv: str, corrected_table: str, n_bins: int) -> str:
    """The text of metric.log and metric_conf.log: published protocol first, corrected below."""
    return (
        f"{head}\n\nPublished protocol\n{published_table}\nTab-separated, for a spreadsheet\n{tsv}\n"
        f"Corrected protocol\n{corrected_table}\n{corrected_tables.notes(n_bins)}\n"
    )


def evaluate(
    results: Results,
    output_dir: Path,
    draw: Callable[..., None] | None = None,
    n_resamples: int = 0,
    n_bins: int = N_BINS,
    run: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write every file of an evaluation into ``output_dir``; returns what metrics.json holds.

    ``run`` is ``identity.trace`` of the run, when the results are one's.
    ``n_resamples`` of the bootstrap give the corrected metrics 95 % intervals. ``draw`` is called
    with the name of a function of ``inference.plots.curves`` and its arguments, as soon as they are known;
    without it nothing is drawn. Plots of an earlier evaluation are deleted.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    remove_plots(output_dir)
    table, n_failed = results.table, len(results.failed)
    of_plots = [] if n_bins == N_BINS else [f"{N_BINS} bins; {n_bins} in the tables"]
    note = "\n".join([*results.notices, *of_plots])
    if draw is not None:
        published_columns = [name for name in table if name.startswith("published_")]
        distributions = ["votes", "response_distribution", "candidate_distribution"]
        drawn = table[["task", "group", "truth", "label", "confidence", *distributions, *published_columns]]
        labels = table[["task", "truth", "label"]]
        draw("confusion_matrices", labels, output_dir / "confusion", ("png",), note, results.candidates)
        draw("draw_confidence", drawn, output_dir, note)
    with ThreadPoolExecutor(1) as beside:  # a million results are gigabytes, for which one waits on the disk
        merged = [beside.submit(write, results, output_dir) for write in (write_merged, write_merged_with_confidence)]
        as_published, doubts = published.evaluate(table), results.all_doubts()
        as_corrected = corrected.evaluate(table, n_resamples, n_bins)
        as_emobserver = emobserver.evaluate(table, n_resamples)
        as_facts = reasoning.evaluate(table, n_resamples)
    if draw is not None and len(as_corrected.sources) > 1:
        draw("draw_sources", corrected_tables.source_points(as_corrected.sources), output_dir, note)
    for written in merged:
        written.result()
    run_now = run and {**run, "results_sha256": file_sha256(output_dir / "merged.jsonl")}
    summary = {
        "notices": results.notices,
        "doubts": doubts,
        "run": run_now,
        "counts": {"read": len(table) + n_failed, "predicted": len(table), "failed": n_failed},
        "published": as_published.json,
        "corrected": as_corrected.json,
        "emobserver": as_emobserver.json,
        "confidence": {name: [row.to_json() for row in rows] for name, rows in as_corrected.sources.items()},
        **({} if as_facts is None else {"reasoning": as_facts.json}),
    }
    head = counts_text(results, doubts, run)
    metric = metric_log(head, as_published.metric_table, as_published.metric_tsv, as_corrected.table, n_bins)
    confidence = metric_log(
        head, as_published.confidence_table, as_published.confidence_tsv, as_corrected.table, n_bins
    )
    more = [text for text in (as_corrected.full_table, as_corrected.sources_table) if text]
    more += [] if as_facts is None else [as_facts.text]
    files = {
        "metric.log": metric,
        "metric_conf.log": "\n".join([confidence, *more]),
        "metric_emobserver.log": f"{head}\n\n{as_emobserver.table}\n{emobserver.NOTES}\n",
        "metrics.tsv": as_corrected.metrics_tsv,
        "thresholds.tsv": as_published.thresholds_tsv,
        "error.jsonl": "".join(to_line(result) + "\n" for result in results.failed),
        "metrics.json": json.dumps(summary, indent=1, allow_nan=False) + "\n",
    }
    for name, text in files.items():
        with atomic_write(output_dir / name) as handle:
            handle.write(text)
    return summary


def _draw(function: str, *data) -> None:
    getattr(importlib.import_module("inference.plots.curves"), function)(*data)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--output_path", type=Path, help="a run's folder: reads its shards, writes beside them")
    source.add_argument(
        "--input_file", type=Path, help="one file instead of shards: results, or what lmms-eval or VLMEvalKit wrote"
    )
    parser.add_argument("--output_dir", type=Path, help="where to write (default: --output_path)")
    parser.add_argument(
        "--data_path",
        type=Path,
        help="the data file: samples that were never inferred then count as failed; the rows of another harness are "
        "matched with its records",
    )
    parser.add_argument("--limit", type=int, help="as given to inference: only so many records of --data_path count")
    parser.add_argument("--n_resamples", type=int, default=N_RESAMPLES, help="of the bootstrap intervals; 0: none")
    parser.add_argument(
        "--n_bins",
        type=int,
        default=N_BINS,
        help=f"of the corrected ECE, MCE and Brier's parts in the tables; plots and other commands have {N_BINS}",
    )
    parser.add_argument("--no_plots", action="store_true", help="tables only; earlier plots are deleted")
    parser.add_argument("--quiet", action="store_true", help="do not print the tables")
    parser.add_argument("--wandb_project", default="", help="log to this Weights & Biases project (off when empty)")
    args = parser.parse_args()
    output_dir = args.output_dir or args.output_path
    if args.n_bins < 1:
        parser.error(f"--n_bins: expected 1 or more, got {args.n_bins}")
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit: expected 1 or more, got {args.limit}")
    if args.wandb_project and (problem := wandb_run.why_not()):
        parser.error(f"--wandb_project {args.wandb_project}: {problem}")
    if output_dir is None:
        parser.error("--input_file needs --output_dir")
    # Other processes import matplotlib and draw while this one reads and writes.
    pool = None if args.no_plots else ProcessPoolExecutor(DRAWING_PROCESSES)
    drawn: list[Future] = []
    for _ in range(DRAWING_PROCESSES if pool else 0):
        pool.submit(importlib.import_module, "inference.plots.curves")

    def draw(function: str, *data) -> None:
        drawn.append(pool.submit(_draw, function, *data))

    try:
        results = read_file(args.input_file, args.data_path) if args.input_file else read_shards(args.output_path)
        if args.input_file:
            check_any_result(args.input_file, results)
        run = trace(args.output_path) if args.output_path else None
        if args.data_path:
            missing, doubts = checked_against_data(results, args.data_path, args.limit)
            results.failed += missing
            results.doubts += doubts
        summary = evaluate(results, output_dir, draw if pool else None, args.n_resamples, args.n_bins, run)
        for plots in drawn:
            plots.result()
    except (OSError, ValueError, BrokenProcessPool) as error:
        if pool:
            pool.shutdown(cancel_futures=True)
        print(f"cannot evaluate: {explain(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, NotResults) else 1)
    if pool:
        pool.shutdown()  # left to the end of the interpreter, it may meet pipes that are closed already
    if not args.quiet:
        for name in ("metric.log", "metric_conf.log"):
            print(f"\n== {output_dir / name}\n{(output_dir / name).read_text(encoding='utf-8')}", end="")
    for doubt in summary["doubts"]:
        print(f"CHECK: {doubt}")
    counts = summary["counts"]
    print(f"read {counts['read']} = predicted {counts['predicted']} + failed {counts['failed']}; files in {output_dir}")
    errors = [str(error_of(result)) for result in results.failed]
    if errors and counts["predicted"]:
        print(f"The most frequent error: {most_frequent_error(errors)}")
    if args.wandb_project:
        try:
            wandb_run.log_rows(args.wandb_project, output_dir.name, summary)
        except Exception as error:  # wandb's own, of a refused key or no connection: the files above are complete
            print(f"WARNING: not logged to wandb: {type(error).__name__}: {one_line(str(error))}", file=sys.stderr)
    if not counts["predicted"]:
        why = f"the most frequent error: {most_frequent_error(errors)}" if errors else "there are no results"
        sys.exit(f"nothing was predicted: {why}")


if __name__ == "__main__":
    main()
