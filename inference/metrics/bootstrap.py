"""Bootstrap: how far a metric would move with other samples of the same kind.

What is drawn again is the image with all its rows (tasks may share images: FI-2 and FI-8, the
three of WebEmo), within strata of images that serve the same tasks, so that every task keeps its
size. Rows that agree in everything a metric depends on are one *cell* with a count: a resample is
then one multinomial draw of the cells' counts, the same in distribution as drawing rows and
cheaper by far.

    cells = Cells.of(table[["task", "truth", "label", "confidence"]], clusters=table["image"])
    for part, weights in cells.resamples(1000, seed=0):   # (chunk, cells of the part)
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

ALPHA = 0.05
LEVEL = 1 - ALPHA
N_RESAMPLES = 1000  # where a command names no other number
N_PAIRED_RESAMPLES = 2000  # the same, of paired differences: a small p after the correction for many rows needs more
CHUNK_VALUES = 4_000_000  # numbers of a chunk of weights: 32 MB
# More units than this are resampled in ``N_SUBSETS`` subsets of this size, a small task whole.
MAX_UNITS, MIN_STRATUM, N_SUBSETS = 10_000, 200, 5

Key = TypeVar("Key", bound=Hashable)


def _stratum_keys(task: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """(units,) a number for the set of tasks that each unit serves, from one task code and unit per row."""
    key_of_task = np.random.default_rng(0).integers(2**63, size=task.max() + 1, dtype=np.uint64)
    pairs = np.unique(unit * (task.max() + 1) + task)
    _, starts = np.unique(pairs // (task.max() + 1), return_index=True)
    return np.add.reduceat(key_of_task[pairs % (task.max() + 1)], starts)  # sums of random numbers: one per set


def drawn_together(task: pd.Series, image: pd.Series) -> tuple[np.ndarray, int]:
    """Which rows a resample takes together: those of one image.

    A stratum whose images count for fewer than two, as when all records name one placeholder, has no
    other images to draw: every resample would be the data again and every interval a point. Its rows
    are drawn one by one. Images of m rows each count as (Σ m)² / Σ m² (Kish, 1965: the effective number).

    Returns:
        (n,) code of each row's unit, every row without a named image its own; and how many rows are
        drawn one by one although others name their image.
    """
    name = image.reset_index(drop=True)
    if not name.duplicated().any():
        return np.arange(len(name)), 0
    task, _ = pd.factorize(task)
    blank = [text for text in name[name.duplicated()].unique() if not str(text).strip()]
    named = name.notna() & ~name.isin(blank)
    single = np.arange(len(name))
    unit, _ = pd.factorize(name.where(named, pd.Series(single)))
    size = np.bincount(unit, minlength=0)
    if len(size) == len(unit):
        return unit, 0
    sums = pd.DataFrame({"rows": size, "squares": size**2.0, "stratum": _stratum_keys(task, unit)})
    sums = sums.groupby("stratum")[["rows", "squares"]].transform("sum")
    few = (sums["rows"] ** 2 < 2 * sums["squares"]).to_numpy() & (size > 1)
    apart = few[unit]
    unit, _ = pd.factorize(np.where(apart, len(size) + single, unit))
    return unit, int(apart.sum())


@dataclass(frozen=True)
class Cells:
    """Distinct rows with how often each occurs, and what is drawn together.

    Attributes:
        columns: one row per cell, the columns it was made from; "task" is one of them.
        unit: (cells,) index of the unit that the cell belongs to.
        unit_count: (units,) how often the unit occurs.
        unit_stratum: (units,) index of the stratum it is drawn within.
        unit_chance: (units,) its share of the draws of its stratum, in proportion.
        stratum_size: (strata,) how many units a resample draws.
        task_size: (units of the first half,) how many units their task has, in cells whose second half
            are the opposites of the first.
    """

    columns: pd.DataFrame
    unit: np.ndarray
    unit_count: np.ndarray
    unit_stratum: np.ndarray
    unit_chance: np.ndarray
    stratum_size: np.ndarray
    task_size: np.ndarray | None = None

    @classmethod
    def of(cls, rows: pd.DataFrame, clusters: pd.Series | None = None) -> Cells:
        """From one row per sample. Rows of one value of ``clusters`` are ``drawn_together``."""
        rows = rows.reset_index(drop=True)
        row_unit = np.arange(len(rows)) if clusters is None else drawn_together(rows["task"], clusters)[0]
        shared = np.bincount(row_unit)[row_unit] > 1
        names = list(rows.columns)
        single = rows[~shared].groupby(names, sort=False, dropna=False, observed=True).size().reset_index(name="_n")
        code, _ = pd.factorize(row_unit[shared])
        columns = pd.concat([single[names], rows[shared]], ignore_index=True)
        unit = np.concatenate([np.arange(len(single)), len(single) + code])
        count = np.concatenate([single["_n"].to_numpy(dtype=int), np.ones(len(np.unique(code)), dtype=int)])
        stratum = np.zeros(0, dtype=int)
        if len(columns):
            task, _ = pd.factorize(columns["task"])
            _, stratum = np.unique(_stratum_keys(task, unit), return_inverse=True)
        return cls(columns, unit, count, stratum, count.astype(float), np.bincount(stratum, count).astype(int))

    @property
    def weights(self) -> np.ndarray:
        """(1, cells): the data as they are, in the form of one resample."""
        there = np.bincount(self.unit_stratum, self.unit_count)
        scale = self.stratum_size / np.maximum(there, 1)
        return (self.unit_count * scale[self.unit_stratum])[self.unit][None]

    def resamples(
        self, n_resamples: int, seed: int = 0, opposite: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    ) -> Iterator[tuple[Cells, np.ndarray]]:
        """How often each cell occurs in each of ``n_resamples``: (cells drawn from, (chunk, cells)).

        The percentile bootstrap never shows an outcome that the data do not have: of 120 right answers
        out of 120, every resample is right. With ``opposite``, which turns around each yes-or-no
        outcome of a table of cells, every task has one unit more: a unit of its own, drawn at random
        and turned around. This is a smoothed bootstrap (Efron, 1979, section 3; Davison & Hinkley,
        1997, section 3.4), for a share the prior of Jeffreys in weight (Brown, Cai & DasGupta, 2001),
        and without effect in large samples.

        With more than ``MAX_UNITS`` units it is a bag of little bootstraps (Kleiner, Talwalkar, Sarkar &
        Jordan, 2014): resamples of full size from a few random subsets. A resample tells there how a
        metric differs from that of its part's own ``weights``.
        """
        random = np.random.default_rng(seed)
        whole = len(self.unit_count) <= MAX_UNITS
        for start, end in pairwise(np.linspace(0, n_resamples, 2 if whole else N_SUBSETS + 1).astype(int)):
            part = self if whole else self._subset(random)
            part = part if opposite is None else part._with_opposites(opposite)
            size = max(1, CHUNK_VALUES // max(1, len(part.unit)))
            for first in range(start, end, size):
                yield part, part._draw(min(size, end - first), random)

    def _draw(self, n_resamples: int, random: np.random.Generator) -> np.ndarray:
        drawn = np.empty((n_resamples, len(self.unit_count)))
        for stratum, size in enumerate(self.stratum_size):
            units = np.flatnonzero(self.unit_stratum == stratum)
            chance = self.unit_chance[units]
            drawn[:, units] = random.multinomial(size, chance / chance.sum(), size=n_resamples)
        return drawn[:, self.unit]

    def _subset(self, random: np.random.Generator) -> Cells:
        """Cells of units drawn without repetition, of each stratum in proportion."""
        count = np.zeros(len(self.unit_count), dtype=int)
        for stratum, size in enumerate(self.stratum_size):
            units = np.flatnonzero(self.unit_stratum == stratum)
            n = min(size, max(MIN_STRATUM, round(MAX_UNITS * size / self.stratum_size.sum())))
            count[units] = random.multivariate_hypergeometric(self.unit_count[units], n, method="marginals")
        (kept,) = count.nonzero()
        inside = np.isin(self.unit, kept)
        columns, unit = self.columns[inside].reset_index(drop=True), np.searchsorted(kept, self.unit[inside])
        count = count[kept]
        return Cells(columns, unit, count, self.unit_stratum[kept], count.astype(float), self.stratum_size)

    def _with_opposites(self, opposite: Callable[[pd.DataFrame], pd.DataFrame]) -> Cells:
        columns = pd.concat([self.columns, opposite(self.columns)], ignore_index=True)
        there = np.bincount(self.unit_stratum, self.unit_count)
        of_task = pd.DataFrame({"task": self.columns["task"].to_numpy(), "unit": self.unit}).drop_duplicates()
        of_task["n"] = (self.unit_count * (self.stratum_size / there)[self.unit_stratum])[of_task["unit"]]
        of_task["n"] = of_task.groupby("task")["n"].transform("sum")
        # One unit more of each task's, whatever the strata; in one that shares images with a larger task, less.
        of_unit = of_task.groupby("unit")["n"].max().to_numpy()
        return Cells(
            columns,
            np.concatenate([self.unit, self.unit + len(self.unit_count)]),
            np.concatenate([self.unit_count, np.zeros_like(self.unit_count)]),
            np.tile(self.unit_stratum, 2),
            np.concatenate([self.unit_chance, self.unit_count / of_unit]),
            self.stratum_size,
            of_unit,
        )

    def thinned(self, weights: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Weights in which the cells ``index``, of several tasks, have one unit turned around as one task has.

        Each task brings one. A unit is kept turned around with the chance that its task has of being drawn from
        all, and turned back otherwise; what decides is a number of the resample and the unit alone.
        """
        if self.task_size is None or not len(index):
            return weights
        half = len(self.unit) // 2
        own = index[index < half]
        _, first = np.unique(self.unit[own], return_index=True)
        size = self.weights[0, own[first]].sum()  # in units
        resample, place = np.nonzero(weights[:, half + own])
        cell = own[place]
        mark = np.random.default_rng(0).random(len(weights))[resample] + self.unit[cell] * np.sqrt(2)
        back = mark % 1 * size >= self.task_size[self.unit[cell]]
        resample, cell = resample[back], cell[back]
        weights = weights.copy()
        weights[resample, cell] += weights[resample, half + cell]
        weights[resample, half + cell] = 0
        return weights


@threadpool_limits.wrap(limits=1)  # many small products gain nothing by threads, which wait by spinning
def resampled(
    cells: Cells,
    n_resamples: int,
    seed: int,
    metrics_of: Callable[[Cells, np.ndarray], dict[Key, np.ndarray]],
    opposite: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    drawn_from: Cells | None = None,
) -> tuple[dict[Key, float], dict[Key, np.ndarray]]:
    """Metrics of the data, and what they are in each resample, (n_resamples,).

    Args:
        metrics_of: (cells, weights (k, cells)) → metric → (k,).
        opposite: see ``Cells.resamples``.
        drawn_from: cells that stand in for ``cells`` in the resamples; only how their metrics vary is taken from them.
    """
    point = metrics_of(cells, cells.weights)
    chunks: dict[Key, list[np.ndarray]] = {key: [] for key in point}
    last, base = None, point
    for part, weights in (drawn_from or cells).resamples(n_resamples, seed, opposite):
        if part is not last:
            last, base = part, metrics_of(part, part.weights)
        for key, values in metrics_of(part, weights).items():
            chunks[key].append(values + (point[key] - base[key]))
    return (
        {key: float(values[0]) for key, values in point.items()},
        {key: np.concatenate(values) for key, values in chunks.items() if values},
    )


def interval(estimate: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) percentiles over the resamples, axis 0 (Efron, 1979).

    NaN where fewer than half of the resamples define the metric.
    """
    tail = 100 * (1 - level) / 2
    defined = np.isfinite(estimate).mean(axis=0) >= 0.5
    safe = np.where(defined, estimate, 0.0)
    low, high = np.nanpercentile(safe, [tail, 100 - tail], axis=0)
    return np.where(defined, low, np.nan), np.where(defined, high, np.nan)


def interval_around(point: float, resampled: np.ndarray) -> tuple[float, float]:
    """(low, high) of ``interval`` of one metric's resamples, always with the estimate; NaN where it is not defined."""
    low, high = (float(bound) for bound in interval(resampled))
    return min(low, point), max(high, point)


def two_sided_p(differences: np.ndarray) -> np.ndarray:
    """p-value of "no difference" from resampled differences, axis 0.

    Twice the smaller share of resamples on one side of zero, one added to both counts so that it
    is never zero (Davison & Hinkley, 1997, section 4.2); NaN where the difference is not defined.
    """
    defined = np.isfinite(differences)
    n = defined.sum(axis=0)
    below = (np.where(defined, differences, np.inf) <= 0).sum(axis=0)
    above = (np.where(defined, differences, -np.inf) >= 0).sum(axis=0)
    p = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (n + 1))
    return np.where(n > 0, p, np.nan)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values of one family corrected for their number (Holm, 1979); NaN stays NaN."""
    p_values = np.asarray(p_values, dtype=float)
    corrected = np.full(p_values.shape, np.nan)
    order = [i for i in np.argsort(p_values) if np.isfinite(p_values[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected
