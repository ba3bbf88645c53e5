"""Bootstrap: how far a figure would move with other samples of the same kind.

What is drawn again is the image with all its rows (tasks may share images: FI-2 and FI-8, the
three of WebEmo), within strata of images that serve the same tasks, so that every task keeps its
size. Rows that agree in everything a figure depends on are one *cell* with a count: a resample is
then one multinomial draw of the cells' counts, the same in distribution as drawing rows and
cheaper by far.

    cells = Cells.of(table[["task", "truth", "label", "confidence"]], clusters=table["image"])
    for weights in cells.resamples(1000, seed=0):   # (chunk, cells)
        ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVEL = 0.95
N_RESAMPLES = 1000  # unless a command is told otherwise
CHUNK_VALUES = 4_000_000  # numbers of a chunk of weights: 32 MB


@dataclass(frozen=True)
class Cells:
    """Distinct rows with how often each occurs, and what is drawn together.

    Attributes:
        columns: one row a cell, the columns it was made from; "task" is one of them.
        unit: (cells,) index of the unit that the cell belongs to.
        unit_count: (units,) how often the unit occurs.
        unit_stratum: (units,) index of the stratum it is drawn within.
    """

    columns: pd.DataFrame
    unit: np.ndarray
    unit_count: np.ndarray
    unit_stratum: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, clusters: pd.Series | None = None) -> Cells:
        """From one row a sample. Rows of one value of ``clusters`` are drawn together; missing values are singles."""
        rows = rows.reset_index(drop=True)
        shared = np.zeros(len(rows), dtype=bool)
        if clusters is not None:
            clusters = clusters.reset_index(drop=True)
            shared = (clusters.notna() & clusters.duplicated(keep=False)).to_numpy()
        names = list(rows.columns)
        single = rows[~shared].groupby(names, sort=False, dropna=False, observed=True).size().reset_index(name="_n")
        task_code = {task: i for i, task in enumerate(pd.unique(rows["task"]))}
        strata: dict[frozenset, int] = {frozenset([task]): code for task, code in task_code.items()}
        unit = [np.arange(len(single))]
        count = [single["_n"].to_numpy()]
        stratum = [single["task"].map(task_code).to_numpy(dtype=int)]
        if shared.any():
            code, _ = pd.factorize(clusters[shared])
            tasks = rows.loc[shared, "task"].groupby(code).agg(frozenset)
            unit.append(len(single) + code)
            count.append(np.ones(len(tasks), dtype=int))
            stratum.append(np.array([strata.setdefault(key, len(strata)) for key in tasks]))
        columns = pd.concat([single[names], rows[shared]], ignore_index=True)
        return cls(columns, np.concatenate(unit), np.concatenate(count), np.concatenate(stratum))

    @property
    def weights(self) -> np.ndarray:
        """(1, cells): the data as they are, in the form of one resample."""
        return self.unit_count[self.unit].astype(float)[None]

    def resamples(self, n_resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
        """How often each cell occurs in each of ``n_resamples``, as chunks of shape (chunk, cells)."""
        random = np.random.default_rng(seed)
        size = max(1, min(n_resamples, CHUNK_VALUES // max(1, len(self.unit))))
        members = [np.flatnonzero(self.unit_stratum == code) for code in np.unique(self.unit_stratum)]
        for start in range(0, n_resamples, size):
            rows = min(size, n_resamples - start)
            drawn = np.empty((rows, len(self.unit_count)))
            for units in members:
                total = int(self.unit_count[units].sum())
                drawn[:, units] = random.multinomial(total, self.unit_count[units] / total, size=rows)
            yield drawn[:, self.unit]


def interval(estimate: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) percentiles over the resamples, axis 0 (Efron, 1979).

    NaN where fewer than half of the resamples define the figure.
    """
    tail = 100 * (1 - level) / 2
    defined = np.isfinite(estimate).mean(axis=0) >= 0.5
    safe = np.where(defined, estimate, 0.0)
    low, high = np.nanpercentile(safe, [tail, 100 - tail], axis=0)
    return np.where(defined, low, np.nan), np.where(defined, high, np.nan)


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
