"""The published evaluation, for comparison only: three programs in turn, one row at a time.

    python -m scripts.maintenance.benchmark.published_evaluation merge results.jsonl output_dir
    python -m scripts.maintenance.benchmark.published_evaluation confidence output_dir
    python -m scripts.maintenance.benchmark.published_evaluation calibration output_dir [--no_figures]

Written anew from what the published procedure does, not from its code: each program is a Python
process of its own that reads all results again; a prediction is searched in the text wherever it
is needed (three times a table, and once for each threshold that a row reaches), lists of strings go
to scikit-learn, and two figures of 300 dots an inch end it. It imports wandb where the published
programs do, when it is installed, but logs nothing. It prints the published tables;
``inference.evaluate`` must print the same. Libraries are imported where they are used: each program
starts with its own alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from contextlib import suppress
from pathlib import Path

from inference.common.terminal import plain_output
from inference.data.vecbench import GROUPS, TASKS, canonical_task, group_of

LEVELS = [round(0.1 * step, 1) for step in range(1, 10)]


def read(path: Path) -> list[dict]:
    with open(path, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def write(path: Path, results: list[dict]) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(result, ensure_ascii=False) + "\n" for result in results)


def predicted(result: dict) -> str:
    lowered = result["response"].lower()
    match = re.search(r"<answer>(.*?)</answer>", lowered)
    text = match.group(1) if match and match.group(1) else lowered
    return next((label.lower() for label in result["candidates"] if label.lower() in text), "unknown")


def labels_of(results: list[dict]) -> tuple[list[str], list[str]]:
    """(truths, predictions), searched anew at each call."""
    return [result["ground_truth"].lower() for result in results], [predicted(result) for result in results]


def of_group(results: list[dict], group: str) -> list[dict]:
    return [result for result in results if group_of(result["task"]) == group]


def accuracy_and_f1(truth: list[str], labels: list[str]) -> tuple[float, float]:
    from sklearn.metrics import accuracy_score, f1_score

    return float(accuracy_score(truth, labels)), float(f1_score(truth, labels, average="weighted", zero_division=0))


def metric_rows(results: list[dict]) -> list:
    """Accuracy and F1 by task, then of all, which searches the whole response."""
    from inference.metrics.protocols import Row

    by_task: dict[str, list[dict]] = {}
    for result in results:
        by_task.setdefault(canonical_task(result["task"]), []).append(result)
    scores = {name: accuracy_and_f1(*labels_of(part)) for name, part in by_task.items()}
    rows = [Row(name, "task", len(by_task[name]), *scores[name]) for name in TASKS if name in by_task]
    labels = []
    for result in results:
        lowered = result["response"].lower()
        labels.append(next((label for label in result["candidates"] if label in lowered), "unknown"))
    truth = [result["ground_truth"].lower() for result in results]
    return [*rows, Row("Overall", "overall", len(results), *accuracy_and_f1(truth, labels))]


def merge(source: Path, output_dir: Path) -> None:
    """First program: the results into one file, metric.log's table."""
    from inference.metrics.tables import published_table

    results = read(source)
    write(output_dir / "merged.jsonl", results)
    (output_dir / "metric.txt").write_text(published_table(metric_rows(results)), encoding="utf-8")


def confidence(output_dir: Path) -> None:
    """Second program: each result with its confidence; one that is no number drops its row."""
    kept = []
    for result in read(output_dir / "merged.jsonl"):
        match = re.search(r"<confidence>(.*?)</confidence>", result["response"])
        with suppress(ValueError):
            stated = float(match.group(1).replace("{", "").replace("}", "")) if match else None
            kept.append({**result, "confidence": stated})
    write(output_dir / "merged_conf.jsonl", kept)


def group_row(results: list[dict], group: str):
    """One group's line of metric_conf.log's table."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from inference.metrics.protocols import Row

    part = of_group(results, group)
    if not part:
        return Row(group, "group", 0)
    scored = [result for result in part if result["confidence"] is not None]
    stated = np.clip(np.array([result["confidence"] for result in scored], dtype=float), 0, 1)
    correct = np.array([int(predicted(result) == result["ground_truth"].lower()) for result in scored])
    row = Row(group, "group", len(part), float(correct.mean()), accuracy_and_f1(*labels_of(part))[1])
    if len(set(correct)) == 2:
        edges, error = np.linspace(0, 1, 11), 0.0
        for low, high in itertools.pairwise(edges):
            inside = (stated >= low) & (stated < high)
            if inside.any():
                error += abs(correct[inside].mean() - stated[inside].mean()) * inside.mean()
        row.ece, row.brier = float(error), float(np.mean((stated - correct) ** 2))
        row.roc_auc = float(roc_auc_score(correct, stated))
    return row


def reaching(part: list[dict], level: float) -> list[dict]:
    return [r for r in part if r["confidence"] is not None and min(max(r["confidence"], 0), 1) >= level]


def thresholds(results: list[dict]) -> dict[str, list[dict]]:
    """Accuracy, F1 and coverage of what is kept at each threshold."""
    analysis: dict[str, list[dict]] = {}
    for group in GROUPS:
        part = of_group(results, group)
        analysis[group] = []
        for level in LEVELS:
            kept = reaching(part, level)
            row = {"threshold": level, **dict.fromkeys(("accuracy", "f1", "coverage"), 0.0 if part else None)}
            if kept:
                row["accuracy"], row["f1"] = accuracy_and_f1(*labels_of(kept))
                row["coverage"] = len(kept) / len(part)
            analysis[group].append(row)
    return analysis


def draw(results: list[dict], output_dir: Path) -> None:
    """The two published figures: accuracy and coverage by threshold, and the calibration curves."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import accuracy_score

    from inference.plots.style import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(18, 6))
    for group in GROUPS:
        part = of_group(results, group)
        kept = [reaching(part, level) for level in LEVELS]
        accuracy = [100 * accuracy_score(*labels_of(rows)) if rows else 0.0 for rows in kept]
        coverage = [100 * len(rows) / max(len(part), 1) for rows in kept]
        for axis, x, y in zip(axes, (LEVELS, LEVELS, coverage), (accuracy, coverage, accuracy), strict=True):
            axis.plot(x, y, "o-", label=group)
            axis.grid(True, alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(output_dir / "thresholds.png", dpi=300, bbox_inches="tight")

    pyplot.figure(figsize=(10, 8))
    for group in GROUPS:
        scored = [result for result in of_group(results, group) if result["confidence"] is not None]
        truth, labels = labels_of(scored)
        stated = [min(max(result["confidence"], 0), 1) for result in scored]
        if scored:
            share, mean = calibration_curve([a == b for a, b in zip(truth, labels, strict=True)], stated, n_bins=10)
            pyplot.plot(mean, share, "s-", label=group)
    pyplot.plot([0, 1], [0, 1], "k--", label="perfect")
    pyplot.legend()
    pyplot.savefig(output_dir / "calibration.png", dpi=300, bbox_inches="tight")


def calibration(output_dir: Path, figures: bool) -> None:
    """Third program: metric_conf.log's table, the thresholds, the figures."""
    from inference.metrics.tables import published_confidence_table, thresholds_tsv

    results = read(output_dir / "merged_conf.jsonl")
    *tasks, overall = metric_rows(results)
    rows = [*tasks, *(group_row(results, group) for group in GROUPS), overall]
    (output_dir / "metric_conf.txt").write_text(published_confidence_table(rows), encoding="utf-8")
    (output_dir / "thresholds.tsv").write_text(thresholds_tsv(thresholds(results)), encoding="utf-8")
    if figures:
        draw(results, output_dir)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=("merge", "confidence", "calibration"))
    parser.add_argument("paths", type=Path, nargs="+", help="merge: the results, then the folder; else the folder")
    parser.add_argument("--no_figures", action="store_true", help="calibration: tables only")
    args = parser.parse_args()
    *source, output_dir = args.paths
    output_dir.mkdir(parents=True, exist_ok=True)
    if args.program != "confidence":
        with suppress(ImportError):
            import wandb  # noqa: F401
    if args.program == "merge":
        merge(*source, output_dir)
    elif args.program == "confidence":
        confidence(output_dir)
    else:
        calibration(output_dir, not args.no_figures)


if __name__ == "__main__":
    main()
