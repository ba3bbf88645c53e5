"""Recalibrate a run's confidences after the fact: compare methods, save the fitted maps, apply them.

    python -m inference.recalibration --output_path infer_results/my_run [--method isotonic]

prints ECE, Brier score, log loss and ROC AUC before and after each method, by group, every sample
judged by a map that was fitted without it and without any other sample of its image
(``metrics.recalibration.cross_fitted``), and writes ``recalibration.json`` into the run's folder: the
maps of one method, fitted on all samples. Correctness and confidence are the corrected protocol's.

    from inference.recalibration import load_recalibration
    load_recalibration("infer_results/my_run/recalibration.json").apply([0.9, 0.95], group="OOD VER")
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inference.common.json_lines import describe
from inference.common.storage import atomic_write, ending_in_one_line
from inference.common.terminal import plain_output
from inference.metrics import calibration, ranking
from inference.metrics.bootstrap import drawn_together
from inference.metrics.calibration import Tally
from inference.metrics.corrected_tables import apart_note
from inference.metrics.prediction_table import OVERALL, correctness, group_slices
from inference.metrics.recalibration import (
    METHODS,
    Recalibration,
    cross_fitted,
    fit_recalibration,
    folds,
    recalibrate_held_out,
)
from inference.metrics.results import read_run
from inference.metrics.rows import NOT_AVAILABLE

__all__ = ["Recalibration", "cross_fitted", "fit_recalibration", "load_recalibration", "save_recalibration"]

FILE_NAME = "recalibration.json"
FORMAT = "confidence recalibration, version 1"
AS_STATED = "as stated"
BY_GROUP = f"{OVERALL}, a map per group"


class RecalibrationFileError(ValueError):
    """A file that does not hold recalibration maps: names the file, the field and what was expected."""

    def __init__(self, path: str | Path, field: str, problem: str):
        super().__init__(f"{path}, field '{field}': {problem}")


@dataclass(frozen=True)
class Recalibrations:
    """The maps of a file, by group, and the facts that they were fitted on."""

    maps: dict[str, Recalibration]
    facts: dict[str, Any]

    def apply(self, confidence: ArrayLike, group: str | None = None) -> np.ndarray:
        """Recalibrated confidences by the group's map; without a group by that of "Overall".

        Raises:
            KeyError: when the file has no map of that name.
        """
        name = OVERALL if group is None else group
        if name not in self.maps:
            raise KeyError(f"no recalibration for {name!r}, there is one for: {', '.join(self.maps)}")
        return self.maps[name].apply(confidence)

    def other_models(self, model: str) -> list[str]:
        """The models whose answers the maps were fitted to, where this one is not among them."""
        fitted = self.facts.get("models")
        names = [str(name) for name in fitted] if isinstance(fitted, list) else []
        return [] if model in names else names


def save_recalibration(maps: Mapping[str, Recalibration], path: str | Path, facts: Mapping[str, Any]) -> None:
    """Write maps by group, and the facts they were fitted on (n, data, notices), as readable JSON."""
    content = {"format": FORMAT, "facts": dict(facts), "maps": msgspec.to_builtins(dict(maps))}
    with atomic_write(path) as handle:
        handle.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load_recalibration(path: str | Path) -> Recalibrations:
    """Read what ``save_recalibration`` wrote.

    Raises:
        RecalibrationFileError: on a broken or foreign file, naming the file and the field.
        OSError: when the file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecalibrationFileError(path, "(file)", f"expected JSON, {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else content
        raise RecalibrationFileError(path, "format", f"expected {FORMAT!r}, got {describe(found)}")
    for field in ("facts", "maps"):
        if not isinstance(content.get(field), dict):
            raise RecalibrationFileError(path, field, f"expected an object, got {describe(content.get(field))}")
    maps = {}
    for group, fields in content["maps"].items():
        try:
            maps[group] = msgspec.convert(fields, Recalibration)
        except msgspec.ValidationError as error:
            problem, _, place = str(error).partition(" - at `$")
            raise RecalibrationFileError(path, f"maps.{group}{place.rstrip('`')}", problem) from None
    return Recalibrations(maps, content["facts"])


def confidence_samples(table: pd.DataFrame) -> pd.DataFrame:
    """The answers with a valid confidence: columns task, group, confidence, correctness, unit.

    ``unit`` is the number of what no fold may part, the answers to one image (``bootstrap.drawn_together``).
    """
    unit, _ = drawn_together(table["task"], table["image"])
    samples = table.assign(correctness=correctness(table), unit=unit)
    return samples.loc[samples["confidence"].notna(), ["task", "group", "confidence", "correctness", "unit"]]


def scores_of(confidence: np.ndarray, right: np.ndarray) -> dict[str, float | None]:
    """ECE, Brier score, log loss (nats) and ROC AUC of one column of confidences; None where one is not defined."""
    tally = Tally.of(confidence, right)
    scores = {
        "ece": calibration.expected_calibration_error(tally),
        "brier": calibration.brier_score(tally),
        "log_loss": calibration.log_loss(tally),
        "roc_auc": ranking.roc_auc(tally),
    }
    return {name: None if np.isnan(score) else float(score) for name, score in scores.items()}


def parts_of(samples: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The samples by group, of the groups that have any, then all."""
    return {name: part for name, part in (*group_slices(samples), (OVERALL, samples)) if len(part)}


def compare_methods(samples: pd.DataFrame, n_splits: int = 5, seed: int = 0) -> dict[str, dict[str, dict]]:
    """group → method → scores of the cross-fitted confidences, "as stated" first.

    "Overall" uses one map for all samples; the entry after it pools what the groups' own maps
    gave, and that of all for samples outside VECBench's groups.
    """
    report: dict[str, dict[str, dict]] = {}
    by_group = {method: samples["confidence"].to_numpy().copy() for method in METHODS}
    for name, part in parts_of(samples).items():
        confidence, right = part["confidence"].to_numpy(), part["correctness"].to_numpy()
        splits = folds(right, part["unit"], n_splits, seed)
        report[name] = {AS_STATED: scores_of(confidence, right)}
        for method in METHODS:
            recalibrated = recalibrate_held_out(method, confidence, right, splits)
            report[name][method] = scores_of(recalibrated, right)
            own = part["group"].isna() if name == OVERALL else part["group"].notna()
            by_group[method][samples.index.isin(part.index[own])] = recalibrated[own]
    right = samples["correctness"].to_numpy()
    stated = {AS_STATED: samples["confidence"].to_numpy()}
    report[BY_GROUP] = {method: scores_of(values, right) for method, values in {**stated, **by_group}.items()}
    return report


def format_comparison(report: dict[str, dict[str, dict]], counts: Mapping[str, int]) -> Iterator[str]:
    """The table that the command prints; ECE, Brier and ROC AUC in percent, log loss in nats."""
    yield f"{'':<14}{'ECE':>8}{'Brier':>8}{'log loss':>10}{'ROC AUC':>9}"
    for name, by_method in report.items():
        yield f"-- {name} ({counts.get(name, counts[OVERALL])} answers with a confidence)"
        for method, values in by_method.items():
            cells = ((values["ece"], 8, 100, 2), (values["brier"], 8, 100, 2))
            cells += ((values["log_loss"], 10, 1, 3), (values["roc_auc"], 9, 100, 2))
            yield f"{method:<14}" + "".join(
                f"{NOT_AVAILABLE if value is None else format(scale * value, f'.{digits}f'):>{width}}"
                for value, width, scale, digits in cells
            )


@ending_in_one_line("recalibrating")
def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_path", type=Path, required=True, help="a run's folder, evaluated or with its shards")
    parser.add_argument("--method", choices=list(METHODS), default="isotonic", help="whose maps are saved")
    parser.add_argument("--n_splits", type=int, default=5, help="folds of the comparison")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    args = parser.parse_args()
    if args.n_splits < 2:
        parser.error(f"--n_splits: expected 2 or more, got {args.n_splits}")
    try:
        results = read_run(args.output_path)
    except OSError as error:
        sys.exit(f"cannot recalibrate: {error}")
    samples = confidence_samples(results.table)
    if samples.empty:
        n = len(results.table)
        sys.exit(f"cannot recalibrate: none of the {n} responses in {args.output_path} states a confidence")
    _, n_apart = drawn_together(results.table["task"], results.table["image"])
    for note in results.notices + apart_note(n_apart):
        print(f"NOTE: {note}")
    parts = parts_of(samples)
    counts = {name: len(part) for name, part in parts.items()}
    report = compare_methods(samples, args.n_splits, args.seed)
    how = f"{args.n_splits} folds, seed {args.seed}"
    print(f"\nEvery answer is judged by a map fitted on other images ({how}); ECE of {calibration.N_BINS} bins")
    print("\n".join(format_comparison(report, counts)))

    maps = {
        name: fit_recalibration(args.method, part["confidence"], part["correctness"]) for name, part in parts.items()
    }
    facts = {
        "run": args.output_path.resolve().name,
        "models": results.models,
        "notices": results.notices,
        "responses": len(results.table),
        "responses_with_a_confidence": {**samples["task"].value_counts(sort=False).to_dict(), **counts},
        "correctness": "corrected protocol",
        "cross_fitted": {"n_splits": args.n_splits, "seed": args.seed, "scores": report},
    }
    save_recalibration(maps, args.output_path / FILE_NAME, facts)
    print(f"\n{args.method} maps, fitted on all of them: {args.output_path / FILE_NAME}")
    for name, fitted in maps.items():
        if fitted.remark:
            print(f"  {name}: {fitted.remark}")


if __name__ == "__main__":
    main()
