"""One file that shows several runs of the same samples: who is better than whom, and every sample's answers together.

``python -m inference.report --runs A B C`` (``inference.report.build``) makes it: the tables of the single reports with
a line per run, paired differences of every two runs, reliability diagrams in one plot, and a browser in which the
answers to one image are beside each other. Ten runs of VECBench have 80,000 responses: they are kept in packed blocks
(zlib, base64). Opening a sample unpacks its block; the first search unpacks all.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from inference.common.storage import atomic_write
from inference.data.images import ImageSource
from inference.metrics.bootstrap import ALPHA, LEVEL, N_PAIRED_RESAMPLES
from inference.metrics.corrected_tables import apart_note
from inference.metrics.paired_comparison import (
    PAIRWISE,
    ComparisonError,
    Difference,
    aligned_runs,
    apart_rows,
    candidate_doubts,
    needed_resamples,
    pairwise_differences,
    read_evaluated,
)
from inference.metrics.prediction_table import OVERALL, group_slices
from inference.metrics.results import Results
from inference.metrics.rows import METRICS, short_name
from inference.report.html import SampleBrowser, page_html
from inference.report.run import (
    answered_samples,
    attach_images,
    browser_data,
    facts_line,
    failed_samples,
    read_failures,
    read_metrics,
)
from inference.report.tables import TEMPLATES, TITLES, Table, number_text, plot_of, tables_of

RESPONSE_BLOCK = 50  # samples whose responses are packed together
QUESTION = ("id", "task", "truth", "candidates", "image", "further", "position")  # of a sample, whoever answers
LISTED = ("answer", "correct", "confidence", "malformed", "error")  # of an answer, what the list needs
ABSENT = {"error": "the run has no line of this sample"}
RESULTS = (
    ("differ", "models disagree"),
    ("right", "all right"),
    ("wrong", "all wrong"),
    ("failed", "not answered by all"),
)
ORDERS = (("apart", "confidences furthest apart"), ("worst", "worst calibrated, mean"))
MAIN_TABLE = TITLES["corrected metric"]


@dataclass
class Run:
    """An evaluated run; ``failures`` are its samples without a usable response."""

    name: str
    folder: Path
    metrics: dict[str, Any]
    results: Results
    failures: list[dict[str, Any]]

    @property
    def facts(self) -> str:
        return facts_line(self.folder, self.metrics, self.results.models)

    @property
    def notices(self) -> list[str]:
        return [*self.metrics.get("notices", []), *self.metrics.get("doubts", [])]


def run_names(folders: Sequence[Path]) -> list[str]:
    """A name per folder: its own, with as many folders above it as tell it from the others.

    Raises:
        ComparisonError: when a folder is there twice.
    """
    paths = [folder.resolve() for folder in folders]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise ComparisonError(f"{folders[i]}: expected each run once")
    parts = dict.fromkeys(paths, 1)
    while True:
        names = ["/".join(path.parts[-n:]) for path, n in parts.items()]
        again = [path for path, name in zip(parts, names, strict=True) if names.count(name) > 1]
        if not again:  # half a character of a name becomes a question mark, as on the page
            return [name.encode("utf-8", "replace").decode("utf-8") for name in names]
        for path in again:
            parts[path] += 1


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], dict[str, Results]]:
    """The runs, under the names of ``run_names``, and their ``aligned_runs``.

    Raises:
        ComparisonError: fewer than two, one twice, one that was not evaluated, or runs of other data.
        ReportError: one without metrics.json.
    """
    if len(folders) < 2:
        raise ComparisonError(f"--runs: expected two runs or more, got {len(folders)}; of one: --output_path RUN")
    runs = []
    for name, folder in zip(run_names(folders), folders, strict=True):
        metrics = read_metrics(folder)
        runs.append(Run(name, folder, metrics, read_evaluated(folder), read_failures(folder / "error.jsonl")))
    return runs, aligned_runs({run.name: run.results for run in runs})


# --- tables and plots ------------------------------------------------------------------------


def tables_of_runs(runs: Sequence[Run]) -> Iterator[tuple[Table, list[Table]]]:
    """Each table of the single reports, with a row per run: that of all samples, and those of its tasks and groups."""
    titles: dict[str, tuple[Table, dict[tuple[str, str], list[dict[str, Any]]]]] = {}
    for run in runs:
        for table in tables_of(run.metrics):
            _, slices = titles.setdefault(table.title, (table, {}))
            for row in table.rows:
                kind, name = row.get("kind", ""), row["name"]
                place = {"slice": f"{kind}:{name}" if kind in ("task", "group") else ""}
                slices.setdefault((kind, name), []).append({**row, **place, "name": run.name, "kind": "run"})
    for title in sorted(titles, key=lambda title: title != MAIN_TABLE):
        table, slices = titles[title]
        tables = {key: Table(f"{title}: {key[1]}", table.note, rows, "Run") for key, rows in slices.items()}
        main = tables.pop(("overall", OVERALL), None) or tables.pop(next(iter(tables)))
        yield main, list(tables.values())


def _turned(found: Difference) -> Difference:
    """A − B of B − A."""
    return Difference(
        found.row, found.kind, found.metric, found.b, found.a,
        -found.difference, -found.high, -found.low, found.p, found.p_holm,
    )  # fmt: skip


def pair_matrix(
    names: Sequence[str], found: Mapping[tuple[str, str], list[Difference]], metric: str
) -> list[tuple[str, list[Difference | float | None]]]:
    """Run → a cell per run: row minus column, on the diagonal the run's own number; None: not defined."""
    by_pair = {pair: item for pair, items in found.items() for item in items if item.metric == metric}
    own = {name: value for (a, b), item in by_pair.items() for name, value in ((a, item.a), (b, item.b))}

    def cell(row: str, column: str) -> Difference | float | None:
        if row == column:
            return own.get(row)
        if (item := by_pair.get((column, row))) is not None:
            return item
        item = by_pair.get((row, column))
        return None if item is None else _turned(item)

    return [(row, [cell(row, column) for column in names]) for row in names]


def verdicts(matrix: Sequence[tuple[str, list[Difference | float | None]]]) -> list[tuple[str, list[str]]]:
    """(run, the runs that it is better than), those that are better than none left out."""
    names = [name for name, _ in matrix]
    better = [
        (row, [name for name, cell in zip(names, cells, strict=True) if getattr(cell, "verdict", "") == "better"])
        for row, cells in matrix
    ]
    return [(row, others) for row, others in better if others]


def _points(value: float, metric: str, signed: bool = True) -> str:
    """The number as in the tables; a difference with its sign, unless it is rounded to zero."""
    text = number_text({metric: abs(float(value))}, metric)
    return ("−" if value < 0 else "+") + text if signed and float(text) else text


def tables_html(
    runs: Sequence[Run],
    aligned: Mapping[str, Results],
    found: Mapping[tuple[str, str], list[Difference]],
    n_resamples: int,
) -> str:
    """Who the runs are, their metrics, and who is better than whom."""
    names = [run.name for run in runs]
    n_common = len(aligned[names[0]].table)
    notes = [note for run in runs for note in run.metrics.get("corrected", {}).get("interval_notes", [])]
    matrices = [(metric, pair_matrix(names, found, metric)) for metric in PAIRWISE]
    return TEMPLATES.get_template("runs_tables.html").render(
        runs=[(run.name, run.facts, len(run.results.table) - n_common) for run in runs],
        names=names,
        n_common=n_common,
        differ=any(len(run.results.table) > n_common for run in runs),
        tables=list(tables_of_runs(runs)),
        interval_notes=". ".join(dict.fromkeys(notes)),
        pairs=[(short_name(m), METRICS[m].higher_is_better, m, matrix, verdicts(matrix)) for m, matrix in matrices],
        n_pairs=len(found),
        n_resamples=n_resamples,
        level=LEVEL,
        alpha=ALPHA,
        notes=apart_note(apart_rows(aligned[names[0]].table)),
        points=_points,
        is_difference=lambda cell: isinstance(cell, Difference),
    )


def reliability_plots(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The runs' reliability diagrams beside each other: a plot of all samples, and one per group that has some."""
    from inference.plots.confidence import reliability_of_runs  # matplotlib: the report of one run needs none

    parts: dict[str, dict[str, Any]] = {OVERALL: {run.name: run.results.table for run in runs}}
    for run in runs:
        for group, part in group_slices(run.results.table):
            parts.setdefault(group, {})[run.name] = part
    plots = []
    with TemporaryDirectory() as folder:
        for group, tables in parts.items():
            if any(len(table) for table in tables.values()):
                (path,) = reliability_of_runs(tables, group, Path(folder) / "plot")
                caption = f"Reliability, {group}: accuracy of the answers in each bin of confidence"
                plots.append(plot_of(path, caption, "tall"))
    return plots


# --- samples ---------------------------------------------------------------------------------


def _samples_of(run: Run) -> dict[str, dict[str, Any]]:
    """id → sample; a response counts before a failure."""
    samples: dict[str, dict[str, Any]] = {}
    for sample in answered_samples(run.results) + failed_samples(run.results.failed + run.failures):
        samples.setdefault(sample["id"], sample)
    return samples


def common_samples(runs: Sequence[Run], max_samples: int) -> tuple[list[dict[str, Any]], list[list[dict]], int]:
    """Every sample that a run has, in the order of the data.

    Returns:
        the samples, each with ``answers``, what the list needs of each run's; the rest of each answer; and how many
        samples there are, of which these are the first ``max_samples``.
    """
    by_run = [_samples_of(run) for run in runs]
    questions: dict[str, dict[str, Any]] = {}
    for samples in by_run:
        for name, sample in samples.items():
            questions.setdefault(name, sample)
    ordered = sorted(questions.values(), key=lambda sample: sample["position"])[:max_samples]
    shown, rest = [], []
    for question in ordered:
        answers = [samples.get(question["id"], ABSENT) for samples in by_run]
        listed = [{key: answer[key] for key in LISTED if key in answer} for answer in answers]
        for answer in listed:
            if not answer.get("malformed", True):
                del answer["malformed"]
        shown.append({key: question[key] for key in QUESTION if key in question} | {"answers": listed})
        rest.append([{k: v for k, v in answer.items() if k not in (*QUESTION, *LISTED)} for answer in answers])
    return shown, rest, len(questions)


def packed(rest: Sequence[Any]) -> list[str]:
    """Blocks of JSON, compressed: base64 of zlib's format."""
    blocks = []
    for first in range(0, len(rest), RESPONSE_BLOCK):
        text = json.dumps(rest[first : first + RESPONSE_BLOCK], separators=(",", ":"))
        blocks.append(base64.b64encode(zlib.compress(text.encode("ascii"))).decode("ascii"))
    return blocks


def notices_of(runs: Sequence[Run]) -> list[str]:
    """What must be said of the runs, with their names where it is not of all, and of their being side by side."""
    of_runs: dict[str, list[str]] = {}
    for run in runs:
        for notice in run.notices:
            of_runs.setdefault(notice, []).append(run.name)
    notices = [
        notice if len(names) == len(runs) else f"{', '.join(names)}: {notice}" for notice, names in of_runs.items()
    ]
    bins = {run.name: run.metrics.get("corrected", {}).get("n_bins") for run in runs}
    if len(set(bins.values())) > 1:
        each = ", ".join(f"{name} {n_bins}" for name, n_bins in bins.items())
        notices.append(f"the tables' ECE, MCE and Brier's parts are of different numbers of bins: {each}")
    return notices + candidate_doubts({run.name: run.results for run in runs})


def make_runs_report(
    runs: Sequence[Run],
    aligned: Mapping[str, Results],
    output: Path,
    source: ImageSource,
    thumbnail_size: int | None,
    processes: int,
    max_samples: int,
) -> int:
    """Write the report of several runs to ``output``; returns the number of samples in it.

    Args:
        runs, aligned: of ``read_runs``.
        thumbnail_size, max_samples: as ``build.make_report``; small copies are kept in the first run's folder.

    Raises:
        OSError: when a file cannot be read or written.
    """
    n_pairs = len(runs) * (len(runs) - 1) // 2
    n_resamples = max(N_PAIRED_RESAMPLES, needed_resamples(n_pairs))
    found = pairwise_differences({name: of.table for name, of in aligned.items()}, n_resamples)
    samples, rest, n_total = common_samples(runs, max_samples)
    small = attach_images(samples, source, thumbnail_size, runs[0].folder / "thumbnails.json", processes)
    names = [run.name for run in runs]
    only = [(f"only:{name}", f"only {name} right") for name in names]
    but = [(f"not:{name}", f"all but {name} right") for name in names]
    data = browser_data(samples, n_total, "the runs have")
    data |= {"runs": names, "responseBlock": RESPONSE_BLOCK}
    results, confidence = [*RESULTS, *only, *but], "Confidence of any"
    browser = SampleBrowser("answers.js", data, results, ORDERS, "Answers", confidence, small, packed(rest))
    n_common = len(aligned[names[0]].table)
    facts = f"{n_total:,} samples, {n_common:,} of them answered by every run"
    page = page_html(
        f"{len(runs)} runs: {', '.join(names)}",
        facts,
        notices_of(runs),
        tables_html(runs, aligned, found, n_resamples),
        reliability_plots(runs),
        browser,
    )
    with atomic_write(output) as handle:
        handle.write(page)
    return len(samples)
