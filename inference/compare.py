"""Is run B better than run A? Paired differences with intervals and p-values, sample by sample.

    python -m inference.compare infer_results/cold_start infer_results/emocaliber
    python -m inference.compare infer_results/emocaliber --published
        one run beside the published tables: is each published number within its interval?
    python -m inference.compare infer_results/emocaliber --replaced infer_results/emocaliber_grey [more runs]
        beside runs of the same with replace_images: how much of accuracy and confidence comes from the image?

Reads the runs' merged.jsonl (evaluate first). Both runs must have answered the same samples;
those that only one has are counted and left out. Both are judged in the same resamples of the
images (``inference.metrics.bootstrap``), so that what is hard for both cancels. Writes comparison.tsv
and the plot ``comparison`` (``--formats png pdf svg``) into ``--output_dir`` (default:
RUN_B/compared_with_<RUN_A>). With ``--replaced`` it writes image_reliance.tsv into RUN_A.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from inference.common.terminal import plain_output
from inference.data.replacement import SHOWN
from inference.metrics.bootstrap import ALPHA, LEVEL, Cells, drawn_together, holm, interval, resampled, two_sided_p
from inference.metrics.calibration import ERRORS
from inference.metrics.comparison import PUBLISHED_FOLDER, published_comparison
from inference.metrics.corrected import apart_note, estimate_rows, slices
from inference.metrics.image_reliance import image_reliance, reliance_text, reliance_tsv
from inference.metrics.results import Results, read_file
from inference.metrics.rows import METRICS, short_name
from inference.runs.folder import compare as differing
from inference.runs.folder import read_run
from inference.runs.shards import atomic_write

# Metrics that are compared, most asked for first; True where more is better, None where neither is.
COMPARED = {
    "accuracy": True,
    "macro_accuracy": True,
    "f1": True,
    "ece": False,
    "smooth_ece": False,
    "brier": False,
    "log_loss": False,
    "roc_auc": True,
    "aurc": False,
    "coverage_at_10_risk": True,
    "format_rate": True,
    "confidence_rate": True,
    "mean_confidence": None,
}
DRAWN = ("accuracy", "ece", "brier", "roc_auc")


class ComparisonError(ValueError):
    """Two runs that cannot be compared, and why."""


@dataclass
class Difference:
    """One metric of one row in both runs; fractions.

    Attributes:
        difference: B − A; ``low`` and ``high`` bound it.
        p: of no difference, two-sided; ``p_holm`` corrected for the rows of this metric.
    """

    row: str
    kind: str
    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float = float("nan")

    @property
    def verdict(self) -> str:
        if not self.p_holm < ALPHA:
            return ""
        if COMPARED[self.metric] is None:
            return "higher" if self.difference > 0 else "lower"
        return "better" if (self.difference > 0) == COMPARED[self.metric] else "worse"


def read_evaluated(folder: Path) -> Results:
    """The answered samples of an evaluated run.

    Raises:
        ComparisonError: when the folder holds no evaluated run.
    """
    path = folder / "merged.jsonl"
    if not path.is_file():
        raise ComparisonError(f"{path}: no such file. Run python -m inference.evaluate --output_path {folder}")
    results = read_file(path)
    if results.failed:
        raise ComparisonError(results.failed[0]["error"])
    return results


def paired_table(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """From two runs' ``prediction_table``, one row per sample that both answered.

    Columns: sample_id, task, truth, image, and each run's reading (``label_a``, ``label_b``, …).

    Raises:
        ComparisonError: when the runs share no sample, or disagree on the label of one.
    """
    for name, table in (("A", a), ("B", b)):
        ids = table["sample_id"]
        if (again := ids.isna() | ids.duplicated()).any():
            raise ComparisonError(f"run {name}: expected each sample once, got sample {ids[again].iloc[0]} again")
    own = ["sample_id", "label", "confidence", "well_formed"]
    both = a.merge(b[[*own, "truth", "task"]], on="sample_id", suffixes=("_a", "_b"))
    if both.empty:
        raise ComparisonError("the runs have no sample in common: were they made from the same data file?")
    other = both[(both["truth_a"] != both["truth_b"]) | (both["task_a"] != both["task_b"])]
    if len(other):
        row = other.iloc[0]
        raise ComparisonError(
            f"sample {row['sample_id']}: {row['task_a']}, {row['truth_a']} in run A, "
            f"{row['task_b']}, {row['truth_b']} in run B: expected the same task and label"
        )
    return both.rename(columns={"truth_a": "truth", "task_a": "task"}).drop(columns=["truth_b", "task_b"])


def aligned_runs(runs: dict[str, Results]) -> dict[str, Results]:
    """The runs with the samples that all of them answered, in the first one's order.

    Raises:
        ComparisonError: as ``paired_table``, of the first run with each other one.
    """
    own, *others = runs.values()
    common = set(own.table["sample_id"])
    for run in others:
        common &= set(paired_table(own.table, run.table)["sample_id"])
    order = [sample_id for sample_id in own.table["sample_id"] if sample_id in common]
    if not order:
        raise ComparisonError("there is no sample that every run has answered")
    return {
        name: replace(run, table=run.table.set_index("sample_id", drop=False).loc[order].reset_index(drop=True))
        for name, run in runs.items()
    }


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


def apart_rows(table: pd.DataFrame) -> int:
    """How many rows a resample draws one by one although others name their image."""
    return drawn_together(table["task"], table["image"])[1]


def _view(cells: Cells, run: str) -> Cells:
    names = {f"{column}_{run}": column for column in ("label", "confidence", "well_formed")}
    return replace(cells, columns=cells.columns[["task", "truth", *names]].rename(columns=names))


def differences(table: pd.DataFrame, n_resamples: int = 2000, seed: int = 0) -> list[Difference]:
    """B − A of every compared metric of every task, group and Overall, both runs in the same resamples.

    An error of ``ERRORS`` is raised by chance in both runs. The difference is that of the two
    estimates: its resamples are moved so that their mean is the difference seen.
    """
    columns = ["task", "truth", *(f"{name}_{run}" for run in "ab" for name in ("label", "confidence", "well_formed"))]
    cells = Cells.of(table[columns], table["image"])

    def metrics_of(part: Cells, weights: np.ndarray) -> dict[tuple[str, str, str], np.ndarray]:
        a, b = (estimate_rows(_view(part, run), weights) for run in "ab")
        return {
            (name, metric, run): values
            for (name, _, of_a), (_, _, of_b) in zip(a, b, strict=True)
            for metric in COMPARED
            if metric in of_a
            for run, values in (("a", of_a[metric]), ("b", of_b[metric]), ("b - a", of_b[metric] - of_a[metric]))
        }

    point, drawn = resampled(cells, n_resamples, seed, metrics_of)
    kinds = {name: kind for name, kind, _ in slices(cells)}
    found = []
    for name, kind in kinds.items():
        for metric in COMPARED:
            difference = point.get((name, metric, "b - a"), np.nan)
            if not np.isfinite(difference):
                continue
            values = drawn[name, metric, "b - a"]
            if metric in ERRORS:
                values = values - (np.nanmean(values) - difference)
            low, high = (float(bound) for bound in interval(values))
            a, b = (point[name, metric, run] for run in "ab")
            found.append(Difference(name, kind, metric, a, b, difference, low, high, float(two_sided_p(values))))
    for metric in COMPARED:
        family = [item for item in found if item.metric == metric]
        for item, corrected in zip(family, holm(np.array([item.p for item in family])), strict=True):
            item.p_holm = float(corrected)
    return found


def too_few_resamples(found: Sequence[Difference], n_resamples: int) -> str:
    """A line when no p can be below 0.05 after the correction, as p is at least 2 / (n_resamples + 1); else none."""
    rows = max((sum(item.metric == metric for item in found) for metric in COMPARED), default=0)
    needed = round(2 * rows / ALPHA)  # where the smallest p, 2 / (n_resamples + 1), is below ALPHA / rows
    if n_resamples >= needed:
        return ""
    return (
        f"NOTE: {n_resamples} resamples are too few for a verdict: Holm's correction for {rows} rows needs a p below "
        f"{ALPHA / rows:.4f}, and p is at least 2 / {n_resamples + 1}; expected --n_resamples {needed} or more"
    )


def _number(value: float, metric: str, signed: bool = False) -> str:
    _, number_format, factor = METRICS[metric]
    return format(factor * value, ("+" if signed else "") + number_format)


def comparison_text(found: list[Difference], name_a: str, name_b: str, n_resamples: int) -> str:
    """A block per metric, a line per row."""
    lines = [
        f"A: {name_a}",
        f"B: {name_b}",
        f"B - A with {LEVEL:.0%} intervals, {n_resamples} paired resamples of the images within their tasks;",
        "p two-sided; better, worse: p below 0.05 after Holm's correction for the rows of the metric",
        "ECE, smooth ECE: chance raises both runs' estimates; the interval is of the difference between such estimates",
    ]
    note = too_few_resamples(found, n_resamples)
    lines += [note] if note else []
    for metric, higher in COMPARED.items():
        items = [item for item in found if item.metric == metric]
        if items:
            direction = {True: "higher", False: "lower", None: "neither"}[higher]
            lines += ["", f"{METRICS[metric][0].strip()} ({direction} is better)"]
            lines.append(f"  {'':<15} {'A':>7} {'B':>7} {'B - A':>8}  {'interval':<18} {'p':>6}")
        for item in items:
            bounds = f"[{_number(item.low, metric, True)}, {_number(item.high, metric, True)}]"
            lines.append(
                f"  {item.row:<15} {_number(item.a, metric):>7} {_number(item.b, metric):>7} "
                f"{_number(item.difference, metric, True):>8}  {bounds:<18} {item.p:>6.3f} {item.verdict}".rstrip()
            )
    return "\n".join(lines) + "\n"


def write_tsv(found: list[Difference], path: Path) -> None:
    """Every difference, one per line, in fractions."""
    header = ["row", "kind", "figure", "a", "b", "difference", "low", "high", "p", "p_holm", "verdict"]
    with atomic_write(path) as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        for item in found:
            values = [*astuple(item), item.verdict]
            writer.writerow([f"{x:.6f}" if isinstance(x, float) else x for x in values])


def draw_comparison(found: list[Difference], path: Path, notes: list[str], formats: Sequence[str]) -> None:
    """The differences of the main metrics with their intervals, one file per format."""
    from inference.plots.intervals import run_comparison  # matplotlib: not for the library's users

    rows = []
    for metric in DRAWN:
        factor = METRICS[metric][2]
        for item in (item for item in found if item.metric == metric):
            numbers = (factor * x for x in (item.difference, item.low, item.high))
            rows.append((item.row, short_name(metric), *numbers))
    better = {short_name(metric): "higher" if COMPARED[metric] else "lower" for metric in DRAWN}
    note = "\n".join(sorted(set(notes)))
    run_comparison(rows, path, "B − A (points)", formats, note, better)


def main() -> None:
    from inference.plots.style import FORMATS

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
    parser.add_argument("--n_resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["png"], help="of the plot, one or more")
    args = parser.parse_args()
    if args.run_b is None and args.published is None and args.replaced is None:
        parser.error("expected a second run, --published or --replaced")
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
            table = paired_table(*(run.table for run in runs))
            only = [len(run.table) - len(table) for run in runs]
            print(f"{len(table)} samples in both runs; left out: {only[0]} only in A, {only[1]} only in B")
            for note in apart_note(apart_rows(table)):
                print(f"NOTE: {note}")
            found = differences(table, args.n_resamples, args.seed)
            output_dir = args.output_dir or args.run_b / f"compared_with_{args.run_a.resolve().name}"
            output_dir.mkdir(parents=True, exist_ok=True)
            print(comparison_text(found, str(args.run_a), str(args.run_b), args.n_resamples))
            write_tsv(found, output_dir / "comparison.tsv")
            draw_comparison(found, output_dir / "comparison", runs[0].notices + runs[1].notices, args.formats)
            print(f"files in {output_dir}")
        if args.published is not None:
            print(published_comparison(runs[-1].table, args.published, args.n_resamples, args.seed))
    except (ComparisonError, OSError, ValueError) as error:
        sys.exit(f"cannot compare: {error}")


if __name__ == "__main__":
    main()
