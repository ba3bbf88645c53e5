"""What was built: counts by source, stage and reason, labels and confidences, as text, JSON and figure.

    python -m scripts.build_vec_cot.report --work output/VEC-CoT

Reads the steps' folders in --work (split/, reasoning/, confidence/; the last may be missing still) and
writes ``report.txt``, ``report.json`` and ``report.png`` beside them. Counts add up, or it says where not.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from inference.common.storage import atomic_path, atomic_write, explain
from inference.common.terminal import plain_output
from inference.data.vecbench import TASKS
from inference.plots.style import Figure, MaxNLocator, drawable, matplotlib
from scripts.build_vec_cot.confidence import HIGHEST, LOWEST, STEP
from scripts.build_vec_cot.records import notices_in, read_rows, rejections
from scripts.build_vec_cot.stages import STAGES, quotas

COLOURS = ("#0072B2", "#D55E00", "#009E73")  # Okabe and Ito's, a stage each
HATCHES = ("", "//", "..")
CONFIDENCES = [f"{i / STEP:.2f}" for i in range(round(LOWEST * STEP), round(HIGHEST * STEP) + 1)]


def read_step(path: Path) -> list[dict[str, Any]]:
    return read_rows(path) if path.is_file() else []


def gather(work: Path) -> dict[str, Any]:
    """Everything that the report shows, in plain types.

    Raises:
        ValueError: when there is no split yet, or a file has a broken line.
    """
    records = {stage: read_step(work / "split" / f"stage{stage}_records.jsonl") for stage in STAGES}
    if not any(records.values()):
        raise ValueError(f"{work}: expected split/stage1_records.jsonl and its siblings, found no row")
    rejected_by_split = read_step(work / "split" / "rejected.jsonl")
    reasoning = {name: read_step(work / "reasoning" / f"{name}.jsonl") for name in ("reasoning", "rejected", "error")}
    confidence = {name: read_step(work / "confidence" / f"{name}.jsonl") for name in ("confidence", "error")}
    # What each stage ends with: stage 3 needs no reasoning, stage 2 a confidence once it was measured.
    final = {
        1: [row for row in reasoning["reasoning"] if row["stage"] == 1],
        2: confidence["confidence"] or [row for row in reasoning["reasoning"] if row["stage"] == 2],
        3: records[3],
    }
    tasks = {row["task"] for rows in records.values() for row in rows}
    sources = [*(task for task in TASKS if task in tasks), *sorted(tasks - TASKS.keys())]
    in_split = Counter((row["task"], stage) for stage, rows in records.items() for row in rows)
    labels = Counter((row["task"], row["ground_truth"], stage) for stage, rows in final.items() for row in rows)
    counts = {}
    for source in sources:
        split = [in_split[source, stage] for stage in STAGES]
        ended = [sum(n for (task, _, s), n in labels.items() if (task, s) == (source, stage)) for stage in STAGES]
        counts[source] = {"split": split, "in_proportion": quotas(source, sum(split)), "final": ended}
    words = [sum(len(text.split()) for text in row["reasoning"].values()) for row in reasoning["reasoning"]]
    stated = Counter(f"{row['confidence']:.2f}" for row in confidence["confidence"])
    asked = len(records[1]) + len(records[2])
    rows = [row for rows in (*records.values(), *reasoning.values(), *confidence.values()) for row in rows]
    return {
        "notices": notices_in(rows),
        "sources": counts,
        "split": {
            "read": sum(map(len, records.values())) + len(rejected_by_split),
            "kept": [len(records[stage]) for stage in STAGES],
            "rejected": dict(Counter(row["reason"] for row in rejected_by_split).most_common()),
        },
        "reasoning": {
            "asked": asked,
            "written": len(reasoning["reasoning"]),
            "rejected": dict(Counter(row["reason"] for row in reasoning["rejected"]).most_common()),
            "failed": len(reasoning["error"]),
            "attempts": dict(sorted(Counter(str(row["attempt"] + 1) for row in reasoning["reasoning"]).items())),
            "words": np.percentile(words, [0, 25, 50, 75, 100]).tolist() if words else [],
        },
        "confidence": {
            "asked": sum(row["stage"] == 2 for row in reasoning["reasoning"]),
            "measured": len(confidence["confidence"]),
            "failed": len(confidence["error"]),
            "values": {value: stated[value] for value in CONFIDENCES},
            "mean_by_source": {
                source: float(np.mean(values))
                for source in sources
                if (values := [row["confidence"] for row in confidence["confidence"] if row["task"] == source])
            },
        },
        "labels": {
            source: {
                label: [labels[source, label, stage] for stage in STAGES]
                for label in sorted({label for task, label, _ in labels if task == source})
            }
            for source in sources
        },
    }


def not_done(step: dict[str, Any], done: int) -> str:
    return "" if done == step["asked"] else f"; not done {step['asked'] - done}"


def histogram(counts: dict[str, int], width: int) -> list[str]:
    """A line per name, which takes ``width`` characters, with its count as number and bar."""
    most = max(counts.values(), default=0)
    return [
        f"  {name:<{width}} {count:>6} " + "#" * (max(1, round(40 * count / most)) if count else 0)
        for name, count in counts.items()
    ]


def report_text(found: dict[str, Any]) -> str:
    """The report as lines for a terminal."""
    split, reasoning, confidence = found["split"], found["reasoning"], found["confidence"]
    lines = [f"NOTE: {notice}" for notice in found["notices"]]
    lines += ["", "Rows by source, stages 1, 2, 3", ""]
    lines.append(f"{'source':<15} {'split':>21}   {'in proportion':>21}   {'training files':>21}")
    # source → nine numbers: three stages in each of three columns
    rows = {source: np.array(list(row.values())) for source, row in found["sources"].items()}
    for source, row in (*rows.items(), ("all", sum(rows.values()))):
        lines.append(f"{source:<15} " + "   ".join("".join(f"{n:>7}" for n in numbers) for numbers in row))
    lines.append("")
    lines.append(f"split:      read {split['read']} = kept {sum(split['kept'])} + {rejections(split['rejected'])}")
    written, failed = reasoning["written"], reasoning["failed"]
    done = not_done(reasoning, written + sum(reasoning["rejected"].values()) + failed)
    outcome = f"written {written} + {rejections(reasoning['rejected'])} + failed {failed}{done}"
    lines.append(f"reasoning:  read {reasoning['asked']} = {outcome}")
    if reasoning["words"]:
        low, q1, median, q3, high = (round(value) for value in reasoning["words"])
        attempts = ", ".join(f"{k}: {n}" for k, n in reasoning["attempts"].items())
        lines.append(f"            words: {low} to {high}, median {median}, middle half {q1} to {q3}")
        lines.append(f"            written at attempt: {attempts}")
    measured, failed = confidence["measured"], confidence["failed"]
    done = not_done(confidence, measured + failed)
    lines.append(f"confidence: read {confidence['asked']} = measured {measured} + failed {failed}{done}")
    lines += ["", "Labels (training files, all stages)"]
    for source, labels in found["labels"].items():
        lines += ["", source, *histogram({label: sum(counts) for label, counts in labels.items()}, 15)]
    if measured:
        means = ", ".join(f"{source} {mean:.2f}" for source, mean in confidence["mean_by_source"].items())
        lines += ["", "Confidence (stage 2)", "", *histogram(confidence["values"], 4), "", f"  mean: {means}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


@matplotlib.rc_context({"text.parse_math": False})  # a dollar sign in a label is a dollar sign
def draw(found: dict[str, Any], path: Path) -> None:
    """A panel of labels for each source, and one of stage 2's confidences."""
    sources = list(found["labels"])
    columns = 4
    rows = -(-(len(sources) + 1) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.6 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, source in zip(panels, sources, strict=False):
        labels = found["labels"][source]
        start = np.zeros(len(labels))
        for i, stage in enumerate(STAGES):
            counts = np.array([counts[i] for counts in labels.values()], dtype=float)
            look = {"color": COLOURS[i], "hatch": HATCHES[i], "edgecolor": "white", "linewidth": 0.3}
            panel.barh([drawable(label) for label in labels], counts, left=start, label=f"stage {stage}", **look)
            start += counts
        panel.invert_yaxis()
        panel.set_title(drawable(source), fontsize=10)
        panel.tick_params(labelsize=6 if len(labels) > 10 else 8)
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    last, confidence = panels[len(sources)], found["confidence"]
    places, heights = map(float, confidence["values"]), confidence["values"].values()
    last.bar(list(places), list(heights), width=0.8 / STEP, color=COLOURS[1], hatch=HATCHES[1])
    last.set_title("confidence, stage 2" + ("" if confidence["measured"] else " (not measured yet)"), fontsize=10)
    last.set(xlim=(0, 1), xlabel="share of the scaffold's answers, smoothed")
    last.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    for panel in panels[len(sources) + 1 :]:
        panel.axis("off")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.02, 1, 0.97))
    figure.text(0.5, 0.003, drawable("; ".join(found["notices"])), ha="center", fontsize=6, color="#444444")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main(arguments: list[str] | None = None) -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="the folder with the steps' folders")
    args = parser.parse_args(arguments)
    try:
        found = gather(args.work)
        text = report_text(found)
        with atomic_write(args.work / "report.txt") as handle:
            handle.write(text)
        with atomic_write(args.work / "report.json") as handle:
            json.dump(found, handle, indent=1, ensure_ascii=False)
        draw(found, args.work / "report.png")
    except (OSError, ValueError) as error:
        parser.exit(2, f"the report failed: {explain(error)}\n")
    except KeyError as error:
        parser.exit(2, f"the report failed: {args.work}: a row lacks the field {error}\n")
    print(text, end="")
    print(f"\nFigure: {args.work / 'report.png'}")


if __name__ == "__main__":
    main()
