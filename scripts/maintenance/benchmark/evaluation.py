"""Evaluation against the published procedure's three programs: whole processes, start-up included.

    python -m scripts.maintenance.benchmark.evaluation --rows 8032 80000 800000
    python -m scripts.maintenance.benchmark.evaluation --rows 1000000 --alone       # only ours, everything it does

Made-up results (``made_up``). Compared twice: tables alone (ours ``--n_resamples 0 --no_plots``,
though it also computes every corrected figure), and with figures (two of the published procedure;
ours with all of them and 1,000 resamples). Both sides must print the same published tables, which is
checked.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from inference.common.terminal import plain_output
from scripts.maintenance.benchmark.made_up import write_results
from scripts.maintenance.benchmark.measure import in_turns, record, run

COMMAND = "python -m scripts.maintenance.benchmark.evaluation"


def check_same_tables(theirs: Path, ours: Path) -> None:
    """Stop when the two sides do not print the same published tables."""
    for name, log in (("metric.txt", "metric.log"), ("metric_conf.txt", "metric_conf.log")):
        if (theirs / name).read_bytes() not in (ours / log).read_bytes():
            sys.exit(f"the published procedure's {name} does not stand in {log}")
    if (theirs / "thresholds.tsv").read_bytes() != (ours / "thresholds.tsv").read_bytes():
        sys.exit("the two sides' thresholds.tsv differ")


def measure_rows(rows: int, rounds: int, folder: Path) -> None:
    """Time both sides on so many results and record the ratios."""
    source, theirs, ours = folder / "results.jsonl", folder / "theirs", folder / "ours"
    write_results(source, rows)
    module = [sys.executable, "-m", "scripts.maintenance.benchmark.published_evaluation"]
    first = [[*module, "merge", str(source), str(theirs)], [*module, "confidence", str(theirs)]]
    last = [*module, "calibration", str(theirs)]
    evaluate = [sys.executable, "-m", "inference.evaluate", "--input_file", str(source), "--output_dir", str(ours)]
    sides = {
        "published, tables": [*first, [*last, "--no_figures"]],
        "ours, tables": [[*evaluate, "--quiet", "--n_resamples", "0", "--no_plots"]],
        "published, figures": [*first, last],
        "ours, figures": [[*evaluate, "--quiet"]],
    }
    peaks = dict.fromkeys(sides, 0)

    def timed(name: str):
        def once() -> float:
            measured = [run(command) for command in sides[name]]
            peaks[name] = max(peaks[name], *(peak for _, peak in measured))
            return sum(seconds for seconds, _ in measured)

        return once

    times = in_turns({name: timed(name) for name in sides}, rounds)
    check_same_tables(theirs, ours)
    for name, what in (("tables", "tables alone"), ("figures", "with figures, ours with all and 1,000 resamples")):
        published, own = f"published, {name}", f"ours, {name}"
        record(
            "evaluation",
            f"{rows:,} results, {what}",
            f"{times[published] / times[own]:.1f} × the published procedure ({times[own]:.1f} s, "
            f"{peaks[own] / 2**20:,.0f} MiB; published {times[published]:.1f} s, "
            f"{peaks[published] / 2**20:,.0f} MiB)",
            f"{COMMAND} --rows {rows}",
        )


def measure_alone(rows: int, folder: Path) -> None:
    """Time ours with everything it does, and record it."""
    source = folder / "results.jsonl"
    write_results(source, rows)
    read = ("--input_file", str(source), "--output_dir", str(folder / "ours"))
    seconds, peak = run([sys.executable, "-m", "inference.evaluate", *read, "--quiet"])
    what = f"{rows:,} results, with 1,000 resamples and all figures"
    record("evaluation", what, f"{seconds:.1f} s, {peak / 2**20:,.0f} MiB", f"{COMMAND} --rows {rows} --alone")


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[8032, 80_000, 800_000])
    parser.add_argument("--rounds", type=int, default=3, help="at 8,032 rows; one round beyond 100,000")
    parser.add_argument("--alone", action="store_true", help="ours only, without the published procedure")
    args = parser.parse_args()
    for rows in args.rows:
        folder = Path(tempfile.mkdtemp(prefix="evaluation_benchmark_"))
        try:
            if args.alone:
                measure_alone(rows, folder)
            else:
                measure_rows(rows, args.rounds if rows <= 100_000 else 1, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
