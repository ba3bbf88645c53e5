"""Is the reasoning true, and do accuracy and confidence depend on it? Of records whose facts are known.

    reasoning.evaluate(table, n_resamples=1000)      # None where no record has facts
    reasoning.changes({"before": table, "after": other}, n_resamples=1000)

Takes the table of ``prediction_table``. Each fact of a response is stated rightly, wrongly or not at all
(``inference.data.reasoning_facts``). Responses with a false statement are set beside those without one: two
samples, of which each is drawn again by itself (Efron & Tibshirani, 1993, chapter 8).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from inference.data.reasoning_facts import VERDICTS
from inference.data.response import REASONING_STEPS
from inference.metrics.bootstrap import LEVEL, Cells, interval_around, resampled
from inference.metrics.classification import share
from inference.metrics.prediction_table import OVERALL, correctness, group_slices, task_slices
from inference.metrics.rows import Row, aligned_table, percent

# With fewer responses on either side a difference has no interval: the bootstrap of so few is too narrow. In a
# simulation that of the mean confidence held the true difference in 82 % of the samples with 5, 89 with 10, 96 with 30.
MIN_RESPONSES = 10
OUTCOMES = {"accuracy": "right", "mean_confidence": "confidence"}  # metric → column that it is the mean of
WITH, WITHOUT, DIFFERENCE = "_if_false", "_if_none_false", "_difference"  # after a metric's name


def scored(table: pd.DataFrame) -> pd.DataFrame:
    """The responses whose statements are known, with ``right`` (0 or 1)."""
    part = table[table["statements"].notna()]
    return part.assign(right=correctness(part).astype(float))


def verdicts(part: pd.DataFrame) -> pd.DataFrame:
    """(responses, section and verdict) how many statements of each response are what."""
    columns = pd.MultiIndex.from_product([REASONING_STEPS, VERDICTS])
    place = {column: i for i, column in enumerate(columns)}
    counts = np.zeros((len(part), len(columns)), dtype=int)
    for counted, statements in zip(counts, part["statements"], strict=True):
        for statement in statements:
            counted[place[statement.section, statement.verdict]] += 1
    return pd.DataFrame(counts, index=part.index, columns=columns)


def has_false_statement(table: pd.DataFrame) -> np.ndarray:
    """(n,) 1 where a response states something false, 0 where it does not, NaN where that is not known."""
    known = table["statements"]
    return np.array([np.nan if all_ is None else float(any(s.verdict == "false" for s in all_)) for all_ in known])


def _means(cells: Cells, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Mean of each outcome with a false statement and without one, and their difference: (resamples,) each."""
    means = {}
    false = cells.columns["false"].to_numpy(dtype=bool)
    for metric, column in OUTCOMES.items():
        values = cells.columns[column].to_numpy(dtype=float)
        for name, side in ((WITH, false), (WITHOUT, ~false)):
            stated = np.flatnonzero(side & np.isfinite(values))
            means[metric + name] = share(values[stated], weights[:, stated])
        means[metric + DIFFERENCE] = means[metric + WITH] - means[metric + WITHOUT]
    return means


def _turned(columns: pd.DataFrame) -> pd.DataFrame:
    return columns.assign(right=1 - columns["right"])


def _fewest(false: np.ndarray, values: pd.Series) -> int:
    """Responses with a value, on the side that has fewer of them."""
    stated = values.notna().to_numpy()
    return int(min((false & stated).sum(), (~false & stated).sum()))


def dependence(part: pd.DataFrame, false: np.ndarray, n_resamples: int = 0, seed: int = 0) -> Row:
    """A row without name: accuracy and mean confidence of the responses with a false statement and of the others.

    Args:
        part: of ``scored``.
        false: (n,) whether a response has one.
        n_resamples: of the bootstrap, which draws images within each side; see ``Cells.resamples`` for its smoothing.
    """
    row = Row("", "", len(part))
    # What Cells draws within: here not the tasks but the sides.
    columns = pd.DataFrame({"task": false, "false": false, **{name: part[name] for name in OUTCOMES.values()}})
    point, drawn = resampled(Cells.of(columns, part["image"]), n_resamples, seed, _means, _turned)
    for name, value in point.items():
        if not np.isfinite(value):
            continue
        row.metrics[name] = value
        column = OUTCOMES[name.partition("_if_")[0].removesuffix(DIFFERENCE)]
        if name in drawn and _fewest(false, part[column]) >= MIN_RESPONSES:
            row.intervals[name] = interval_around(value, drawn[name])
    return row


def _slices(part: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame, Sequence[str]]]:
    """(name, kind, its responses, sections that count) of tasks, groups, Overall, and of each section over all."""
    yield from ((name, "task", rows, REASONING_STEPS) for name, rows in task_slices(part))
    yield from ((name, "group", rows, REASONING_STEPS) for name, rows in group_slices(part) if len(rows))
    yield OVERALL, "overall", part, REASONING_STEPS
    yield from ((section, "section", part, (section,)) for section in REASONING_STEPS)


def rows_of(table: pd.DataFrame, n_resamples: int = 0, seed: int = 0) -> list[Row]:
    """Statements by verdict, and what goes with a false one: tasks, groups, Overall, then the five sections."""
    part = scored(table)
    counts = verdicts(part)
    rows = []
    for name, kind, chosen, sections in _slices(part):
        of_row = counts.loc[chosen.index, list(sections)]
        by_verdict = {verdict: of_row.xs(verdict, axis=1, level=1).to_numpy() for verdict in VERDICTS}
        n = sum(int(values.sum()) for values in by_verdict.values())
        false = by_verdict["false"].any(axis=1)
        row = dependence(chosen, false, n_resamples, seed)
        row.name, row.kind = name, kind
        shares = {f"{verdict}_statements": float(values.sum() / n) for verdict, values in by_verdict.items() if n}
        row.metrics = {"n_statements": n, **shares, "false_responses": float(false.mean()), **row.metrics}
        rows.append(row)
    return rows


def changes(tables: Mapping[str, pd.DataFrame], n_resamples: int, seed: int = 0) -> list[Row]:
    """How the differences of ``dependence`` change from each run to the next, both in the same resamples of the images.

    The tables are of the same samples in the same order. A row is named after its two runs; with ``_difference``,
    metrics are those of the later run minus those of the earlier one; intervals as in ``dependence``.
    """
    parts = {name: scored(table).reset_index(drop=True) for name, table in tables.items()}
    columns = {"task": next(iter(parts.values()))["task"]}
    for run, part in parts.items():
        own = {"false": has_false_statement(part)}
        own |= {column: part[column] for column in OUTCOMES.values()}
        columns |= {(run, name): values for name, values in own.items()}
    cells = Cells.of(pd.DataFrame(columns), next(iter(parts.values()))["image"])

    def metrics_of(drawn_from: Cells, weights: np.ndarray) -> dict[tuple[tuple[str, str], str], np.ndarray]:
        found, before = {}, None
        for run in parts:
            names = {(run, name): name for name in ("false", *OUTCOMES.values())}
            view = Cells(**{**vars(drawn_from), "columns": drawn_from.columns[list(names)].rename(columns=names)})
            means = _means(view, weights)
            if before is not None:
                for metric in OUTCOMES:
                    name = metric + DIFFERENCE
                    found[(before[0], run), name] = means[name] - before[1][name]
            before = run, means
        return found

    point, drawn = resampled(cells, n_resamples, seed, metrics_of)
    rows: dict[tuple[str, str], Row] = {}
    for (runs, metric), value in point.items():
        row = rows.setdefault(runs, Row(" -> ".join(runs), "change", len(columns["task"])))
        if np.isfinite(value):
            row.metrics[metric] = value
            column = OUTCOMES[metric.removesuffix(DIFFERENCE)]
            sides = [_fewest(has_false_statement(parts[run]) == 1, parts[run][column]) for run in runs]
            if min(sides) >= MIN_RESPONSES:
                row.intervals[metric] = interval_around(value, drawn[runs, metric])
    return list(rows.values())


# --- texts -----------------------------------------------------------------------------------

SHARES = {
    "n_statements": "statements",
    **{f"{verdict}_statements": verdict for verdict in VERDICTS},
    "false_responses": "some false",
}


def _cell(row: Row, metric: str) -> str:
    value = row.metrics.get(metric)
    if isinstance(value, int):
        return str(value)
    form = "+.1f" if metric.endswith(DIFFERENCE) else ".1f"
    text = percent(value, form)
    if metric.endswith(DIFFERENCE) and metric in row.intervals:
        text += " [{}, {}]".format(*(percent(bound, form) for bound in row.intervals[metric]))
    return text


def rows_text(rows: Sequence[Row], n_left_out: int, n_resamples: int) -> str:
    """One line per row: shares of the statements, then both sides of each outcome and their difference."""
    outcomes = [metric + side for metric in OUTCOMES for side in (WITH, WITHOUT, DIFFERENCE)]
    heads = [head for name in ("accuracy with", "confidence with") for head in (name, "without", "difference")]
    head = "Reasoning held against the facts of the records, in percent; with and without a false statement\n"
    if n_left_out:
        head += f"NOTE: {n_left_out} responses are left out: no facts are known of what the model saw\n"
    if n_resamples:
        head += f"[low, high]: {LEVEL:.0%} bootstrap interval, {n_resamples} resamples of the images of either side"
        head += f"; none with fewer than {MIN_RESPONSES} responses on one\n"
    lines = [[row.name, str(row.n_samples), *(_cell(row, metric) for metric in (*SHARES, *outcomes))] for row in rows]
    return head + aligned_table(["", "responses", *SHARES.values(), *heads], lines)


def changes_text(rows: Sequence[Row], n_resamples: int) -> str:
    """One line per pair of runs."""
    head = "Change of the difference that a false statement makes, in points, both runs answering the same images\n"
    head += f"[low, high]: {LEVEL:.0%} bootstrap interval, {n_resamples} paired resamples of the images"
    head += f"; none with fewer than {MIN_RESPONSES} responses on one side\n"
    lines = [[row.name, str(row.n_samples), *(_cell(row, metric + DIFFERENCE) for metric in OUTCOMES)] for row in rows]
    return head + aligned_table(["", "responses", *(name.replace("_", " ") for name in OUTCOMES)], lines)


@dataclass
class Reasoning:
    """What the facts of the records say of the reasoning, as text and as metrics.json has it."""

    text: str
    json: dict[str, Any]


def evaluate(table: pd.DataFrame, n_resamples: int = 0) -> Reasoning | None:
    """Every row and text; None where no record has facts."""
    n = int(table["statements"].notna().sum())
    if not n:
        return None
    rows = rows_of(table, n_resamples)
    return Reasoning(
        rows_text(rows, len(table) - n, n_resamples),
        {"n_resamples": n_resamples, "left_out": len(table) - n, "metric": [row.to_json() for row in rows]},
    )
