"""Is run B better than run A? Paired differences with intervals and p-values, sample by sample.

    python -m inference.compare infer_results/cold_start infer_results/emocaliber
    python -m inference.compare infer_results/emocaliber --published
        one run beside the published tables: is each published number within its interval?
    python -m inference.compare infer_results/emocaliber --replaced infer_results/emocaliber_grey [more runs]
        beside runs of the same with replace_images: how much of accuracy and confidence comes from the image?
    python -m inference.compare RUN_A RUN_B --confidence verbalized "self-consistency"
        by another confidence than the stated one, over the samples that have both; RUN_A and RUN_B may be the same

Reads the runs' merged.jsonl (evaluate first). Both runs must have answered the same samples;
those that only one has are counted and left out. Both are judged in the same resamples of the
images (``inference.metrics.bootstrap``), so that what is hard for both cancels. Writes comparison.tsv
and the plot ``comparison`` (``--formats png pdf svg``) into ``--output_dir`` (default:
RUN_B/compared_with_<RUN_A>, with ``--confidence`` followed by the two confidences). With
``--replaced`` it writes image_reliance.tsv into RUN_A.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from inference.common.storage import atomic_write
from inference.common.terminal import plain_output
from inference.data.replacement import SHOWN
from inference.metrics import emobserver
from inference.metrics.bootstrap import N_PAIRED_RESAMPLES
from inference.metrics.corrected_tables import apart_note
from inference.metrics.image_reliance import image_reliance, reliance_text, reliance_tsv
from inference.metrics.paired_comparison import (
    COMPARED,
    OF_STATED,
    PAIRWISE,
    ComparisonError,
    Difference,
    aligned_runs,
    apart_rows,
    candidate_doubts,
    comparison_text,
    confidence_note,
    differences,
    judged_by,
    paired_table,
    read_evaluated,
    with_both_confidences,
)
from inference.metrics.prediction_table import SOURCES, VERBALIZED
from inference.metrics.published_comparison import PUBLISHED_FOLDER, published_comparison
from inference.metrics.results import Results
from inference.metrics.rows import METRICS, short_name
from inference.plots import FORMATS
from inference.runs.folder import compare as differing
from inference.runs.folder import read_run


def check_replaced(own: Path, others: Sequence[Path], runs: Sequence[Results]) -> list[str]:
    """How each run's images were replaced, in the order of ``others``.

    Raises:
        ComparisonError: when it is not so in one of the others, or is in the first run.
    """
    kinds = [set(run.table["replaced"]) for run in runs]
    if kinds[0] - {None}:
        raise ComparisonError(f"{own}: expected a run that saw its own images")
    for folder, kind in zip(others, kinds[1:], strict=True):
        if len(kind) != 1 or kind == {None}:
            raise ComparisonError(f"{folder}: expected a run of one replace_images ({', '.join(SHOWN)}) alone")
    return [next(iter(kind)) for kind in kinds[1:]]


def other_differences(a: Path, b: Path) -> list[str]:
    """What differs between two runs by their run.json, but for their images."""
    known = [read_run(folder) for folder in (a, b)]
    if None in known:
        return []
    lines = differing(*(run["identity"] for run in known))
    return [line for line in lines if not line.startswith("settings.replace_images ")]


def compare_replaced(own: Path, others: Sequence[Path], n_resamples: int, seed: int) -> tuple[str, str]:
    """(text, tsv) of what ``image_reliance`` finds.

    Raises:
        ComparisonError, OSError: what keeps the runs from being compared.
    """
    folders = [own, *others]
    runs = [read_evaluated(folder) for folder in folders]
    lines = [f"own: {own}"]
    named = {"own": runs[0]}
    for folder, run, how in zip(others, runs[1:], check_replaced(own, others, runs), strict=True):
        name = how if how not in named else f"{how} ({folder.name})"
        if name in named:
            raise ComparisonError(f"{folder}: expected each run once")
        named[name] = run
        lines.append(f"{name}: {folder}, {SHOWN[how]}")
        lines += [f"CHECK: {name}: {line}, beside own" for line in other_differences(own, folder)]
    aligned = aligned_runs(named)
    n = len(aligned["own"].table)
    left_out = ", ".join(f"{len(run.table) - n} of {name}" for name, run in named.items())
    lines.append(f"{n} samples that every run answered; left out: {left_out}")
    found = image_reliance({name: run.table for name, run in aligned.items()}, n_resamples, seed)
    notes = [*runs[0].notices, *apart_note(apart_rows(aligned["own"].table))]
    head = [f"NOTE: {note}" for note in notes]
    return "\n".join([*head, *lines, "", reliance_text(found, n_resamples)]), reliance_tsv(found)


def stated_alone(confidences: Sequence[str]) -> bool:
    """Whether both runs are judged by what they state, as without ``--confidence``."""
    return set(confidences) == {VERBALIZED}


def folder_name(run_a: Path, confidences: Sequence[str]) -> str:
    """Where a comparison with the run goes by default; those by other confidences than the stated ones are apart."""
    name = f"compared_with_{run_a.resolve().name}"
    return name if stated_alone(confidences) else f"{name}_{'_and_'.join(confidences).replace(' ', '_')}"


def write_tsv(found: list[Difference], path: Path, confidences: Sequence[str]) -> None:
    """Every difference, one per line, in fractions, with the confidences that A and B are judged by."""
    header = ["row", "kind", "figure", "a", "b", "difference", "low", "high", "p", "p_holm", "verdict"]
    header += ["confidence_a", "confidence_b"]
    with atomic_write(path) as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        for item in found:
            values = [*astuple(item), item.verdict, *confidences]
            writer.writerow([f"{x:.6f}" if isinstance(x, float) else x for x in values])


def draw_comparison(found: list[Difference], path: Path, notes: list[str], formats: Sequence[str]) -> None:
    """The differences of the main metrics with their intervals, one file per format."""
    from inference.plots.intervals import run_comparison  # matplotlib: not for the library's users

    rows = []
    for metric in PAIRWISE:
        factor = METRICS[metric].factor
        for item in (item for item in found if item.metric == metric):
            numbers = (factor * x for x in (item.difference, item.low, item.high))
            rows.append((item.row, short_name(metric), *numbers))
    better = {short_name(metric): "higher" if METRICS[metric].higher_is_better else "lower" for metric in PAIRWISE}
    run_comparison(rows, path, "B − A (points)", formats, "\n".join(notes), better)


def compare_pair(
    folders: Sequence[Path], runs: Sequence[Results], confidences: Sequence[str], args: argparse.Namespace
) -> None:
    """Print and write B beside A, each judged by one of ``SOURCES``.

    Raises:
        ComparisonError, OSError: what keeps the runs from being compared.
    """
    stated = stated_alone(confidences)
    judged = [judged_by(*of) for of in zip(runs, confidences, map(str, folders), strict=True)]
    table = paired_table(*(run.table for run in judged))
    only = [len(run.table) - len(table) for run in runs]
    print(f"{len(table)} samples in both runs; left out: {only[0]} only in A, {only[1]} only in B")
    for doubt in candidate_doubts(dict(zip("AB", runs, strict=True))):
        print(f"CHECK: {doubt}")
    for note in apart_note(apart_rows(table)):
        print(f"NOTE: {note}")
    if stated and (absent := emobserver.absent_tasks(table)):
        print(f"NOTE: no sample of {', '.join(absent)}: EmObserver's means are over the tasks that are there")
    counts = confidence_note(table, alike=not stated)
    for note in counts:
        print(f"NOTE: {note}")
    if stated:
        found = differences(table, args.n_resamples, args.seed)
    else:
        metrics = [metric for metric in COMPARED if metric not in OF_STATED]
        found = differences(with_both_confidences(table), args.n_resamples, args.seed, metrics)
    output_dir = args.output_dir or folders[1] / folder_name(folders[0], confidences)
    output_dir.mkdir(parents=True, exist_ok=True)
    titles, named = [str(folder) for folder in folders], []
    if not stated:
        titles = [f"{folder}, {source}" for folder, source in zip(folders, confidences, strict=True)]
        named = ["A: {}, B: {}".format(*confidences)]
    print(comparison_text(found, *titles, args.n_resamples))
    write_tsv(found, output_dir / "comparison.tsv", confidences)
    notes = [*named, *counts, *sorted({*runs[0].notices, *runs[1].notices})]
    draw_comparison(found, output_dir / "comparison", notes, args.formats)
    print(f"files in {output_dir}")


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_a", type=Path, help="an evaluated run's folder")
    parser.add_argument("run_b", type=Path, nargs="?", help="another one of the same data")
    parser.add_argument(
        "--published", type=Path, nargs="?", const=PUBLISHED_FOLDER, help="hold RUN_A's (or B's) metrics against these"
    )
    parser.add_argument(
        "--replaced", type=Path, nargs="+", metavar="RUN", help="runs like RUN_A but for replace_images"
    )
    parser.add_argument(
        "--confidence", nargs=2, choices=SOURCES, metavar=("OF_A", "OF_B"), default=[VERBALIZED] * 2,
        help=f"which confidence, with its answer, each run is judged by: {', '.join(SOURCES)}",
    )  # fmt: skip
    parser.add_argument("--n_resamples", type=int, default=N_PAIRED_RESAMPLES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["png"], help="of the plot, one or more")
    args = parser.parse_args()
    if args.run_b is None and args.published is None and args.replaced is None:
        parser.error("expected a second run, --published or --replaced")
    if args.run_b is None and not stated_alone(args.confidence):
        parser.error("--confidence needs a second run, which may be the first one again")
    for i, folder in enumerate(args.replaced or []):
        if folder.resolve() in [other.resolve() for other in args.replaced[:i]]:
            parser.exit(2, f"cannot compare: {folder}: expected each run of --replaced once\n")
    if args.n_resamples < 100:
        parser.error(f"--n_resamples: expected at least 100, got {args.n_resamples}")
    try:
        if args.replaced is not None:
            text, tsv = compare_replaced(args.run_a, args.replaced, args.n_resamples, args.seed)
            output_dir = args.output_dir or args.run_a
            output_dir.mkdir(parents=True, exist_ok=True)
            with atomic_write(output_dir / "image_reliance.tsv") as handle:
                handle.write(tsv)
            print(text)
            print(f"file: {output_dir / 'image_reliance.tsv'}")
            if args.run_b is None and args.published is None:
                return
        runs = [read_evaluated(run) for run in (args.run_a, args.run_b) if run is not None]
        for note in sorted({note for run in runs for note in run.notices}):
            names = [name for name, run in zip("AB", runs, strict=False) if note in run.notices]
            print("NOTE: " + (f"run {names[0]}: " if len(names) < len(runs) else "") + note)
        for name, run in zip("AB", runs, strict=False):
            for doubt in run.all_doubts():
                print(f"CHECK: run {name}: {doubt}")
        if args.run_b is not None:
            compare_pair((args.run_a, args.run_b), runs, args.confidence, args)
        if args.published is not None:
            print(published_comparison(runs[-1].table, args.published, args.n_resamples, args.seed))
    except (ComparisonError, OSError, ValueError) as error:
        sys.exit(f"cannot compare: {error}")


if __name__ == "__main__":
    main()
