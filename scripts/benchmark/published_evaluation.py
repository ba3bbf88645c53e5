"""The published evaluation, for comparison only: three passes over the results, one row at a time.

    python -m scripts.benchmark.published_evaluation results.jsonl output_dir

Written from the description of the published protocol (regular expressions on each response in
each pass, lists of strings, one scikit-learn call a task, group and threshold), not the
published code. It prints the published tables; ``inference.evaluate`` must print the same.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from inference.protocols import Row
from inference.tables import published_confidence_table, published_table, thresholds_tsv
from inference.vecbench import GROUPS, TASKS, canonical_task, group_of


def read(path: Path) -> list[dict]:
    with open(path, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def predicted(result: dict) -> str:
    lowered = result["response"].lower()
    match = re.search(r"<answer>(.*?)</answer>", lowered)
    text = match.group(1) if match and match.group(1) else lowered
    return next((label.lower() for label in result["candidates"] if label.lower() in text), "unknown")


def scores(truth: list[str], labels: list[str]) -> tuple[float, float]:
    right = sum(a == b for a, b in zip(truth, labels, strict=True))
    return right / len(truth), float(f1_score(truth, labels, average="weighted", zero_division=0))


def metric_rows(results: list[dict]) -> list[Row]:
    """First pass: accuracy and F1 by task, then of all."""
    by_task: dict[str, tuple[list, list]] = {}
    truth, labels = [], []
    for result in results:
        known = by_task.setdefault(canonical_task(result["task"]), ([], []))
        known[0].append(result["ground_truth"].lower())
        known[1].append(predicted(result))
        lowered = result["response"].lower()
        truth.append(result["ground_truth"].lower())
        labels.append(next((label for label in result["candidates"] if label in lowered), "unknown"))
    rows = [Row(name, "task", len(by_task[name][0]), *scores(*by_task[name])) for name in TASKS if name in by_task]
    return [*rows, Row("Overall", "overall", len(results), *scores(truth, labels))]


def with_confidence(results: list[dict]) -> list[dict]:
    """Results with ``prediction`` and ``confidence``; a confidence that is no number drops its row."""
    kept = []
    for result in results:
        match = re.search(r"<confidence>(.*?)</confidence>", result["response"])
        try:
            confidence = float(match.group(1).replace("{", "").replace("}", "")) if match else None
        except ValueError:
            continue
        kept.append({**result, "prediction": predicted(result), "confidence": confidence})
    return kept


def group_rows(results: list[dict]) -> list[Row]:
    """Second pass: calibration by group."""
    rows = []
    for group in GROUPS:
        part = [result for result in results if group_of(result["task"]) == group]
        if not part:
            rows.append(Row(group, "group", 0))
            continue
        truth, labels = [r["ground_truth"].lower() for r in part], [r["prediction"] for r in part]
        scored = [r for r in part if r["confidence"] is not None]
        confidence = np.clip(np.array([r["confidence"] for r in scored], dtype=float), 0, 1)
        correct = np.array([int(r["prediction"] == r["ground_truth"].lower()) for r in scored])
        row = Row(group, "group", len(part), float(correct.mean()), scores(truth, labels)[1])
        if len(set(correct)) == 2:
            edges, error = np.linspace(0, 1, 11), 0.0
            for low, high in itertools.pairwise(edges):
                inside = (confidence >= low) & (confidence < high)
                if inside.any():
                    gap = abs(correct[inside].mean() - confidence[inside].mean())
                    error += gap * inside.sum() / len(confidence)
            row.ece, row.brier = float(error), float(np.mean((confidence - correct) ** 2))
            row.roc_auc = float(roc_auc_score(correct, confidence))
        rows.append(row)
    return rows


def thresholds(results: list[dict]) -> dict[str, list[dict]]:
    """Third pass: accuracy, F1 and coverage of what is kept at each threshold."""
    analysis = {}
    for group in GROUPS:
        part = [result for result in results if group_of(result["task"]) == group]
        analysis[group] = []
        for step in range(1, 10):
            level = round(0.1 * step, 1)
            kept = [r for r in part if r["confidence"] is not None and min(max(r["confidence"], 0), 1) >= level]
            row = {"threshold": level, "accuracy": 0.0, "f1": 0.0, "coverage": 0.0}
            if kept:
                truth, labels = [r["ground_truth"].lower() for r in kept], [r["prediction"] for r in kept]
                row["accuracy"], row["f1"] = scores(truth, labels)
                row["coverage"] = len(kept) / len(part)
            analysis[group].append(row)
    return analysis


def main() -> None:
    source, output_dir = Path(sys.argv[1]), Path(sys.argv[2])
    output_dir.mkdir(parents=True, exist_ok=True)
    rows = metric_rows(read(source))
    (output_dir / "metric.txt").write_text(published_table(rows), encoding="utf-8")

    kept = with_confidence(read(source))
    with open(output_dir / "merged_conf.jsonl", "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(result, ensure_ascii=False) + "\n" for result in kept)
    *tasks, overall = metric_rows(kept)
    table = published_confidence_table([*tasks, *group_rows(kept), overall])
    (output_dir / "metric_conf.txt").write_text(table, encoding="utf-8")

    analysis = thresholds(read(output_dir / "merged_conf.jsonl"))
    (output_dir / "thresholds.tsv").write_text(thresholds_tsv(analysis), encoding="utf-8")


if __name__ == "__main__":
    main()
