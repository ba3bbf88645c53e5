"""Draw the plots of images/: VECBench's composition, the three stages, an example prediction.

    python -m scripts.maintenance.readme_figures                                      # composition and framework
    python -m scripts.maintenance.readme_figures --example infer_results/toy_world_test_checkpoint/merged.jsonl \\
        --data_dir input_data/toy_world                            # an example from the toy world, too
    python -m scripts.maintenance.readme_figures --run infer_results/toy_k5   # reliability and confidences of a run
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from PIL import Image

from inference.common.json_lines import read_lines
from inference.common.terminal import plain_output
from inference.data.response import read_response, reasoning_steps
from inference.data.vecbench import GROUPS, TASKS
from inference.metrics.corrected import rows_by_source
from inference.metrics.corrected_tables import source_points
from inference.metrics.results import read_run
from inference.plots.confidence import reliability_diagram
from inference.plots.curves import draw_sources
from inference.plots.style import STYLES, FancyBboxPatch, Figure, MaxNLocator
from scripts.toy_world.world import NOTICE

HATCHES = dict(zip(GROUPS, ("", "//", ".."), strict=True))


def draw_composition(path: Path) -> None:
    """Test samples of each task, grouped and ordered, with the training samples of its source beside."""
    tasks = [task for group in GROUPS for task in TASKS.values() if task.group == group]
    figure = Figure(figsize=(8.5, 4.0))
    test, train = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    rows = range(len(tasks))
    for panel, counts, title in (
        (test, [task.n_test for task in tasks], f"test samples ({sum(task.n_test for task in tasks):,})"),
        (train, [task.n_train for task in tasks], "training samples of the source"),
    ):
        for row, task, count in zip(rows, tasks, counts, strict=True):
            colour = STYLES[task.group][0]
            panel.barh(row, count, color=colour, hatch=HATCHES[task.group], edgecolor="white", height=0.75)
            panel.text(count, row, f" {count:,}" if count else " none: out of distribution", va="center", fontsize=8)
        panel.set_title(title, fontsize=10)
        panel.set_xlim(0, max(counts) * 1.28)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter("{x:,.0f}")
    test.set_yticks(list(rows), [f"{task.name}  ({len(task.labels)} labels)" for task in tasks])
    test.invert_yaxis()
    for group in GROUPS:
        test.barh(0, 0, color=STYLES[group][0], hatch=HATCHES[group], edgecolor="white", label=group)
    figure.legend(loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.subplots_adjust(left=0.2, right=0.965, top=0.92, bottom=0.15, wspace=0.08)
    figure.savefig(path, dpi=150)


def _box(panel, x, y, width, height, title, text, colour) -> None:
    patch = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.004,rounding_size=0.015")
    patch.set(facecolor=colour, edgecolor="#333333", linewidth=1)
    panel.add_patch(patch)
    panel.text(x + width / 2, y + height - 0.03, title, ha="center", va="top", fontsize=9, fontweight="bold")
    panel.text(x + width / 2, y + height - 0.11, text, ha="center", va="top", fontsize=7.5, linespacing=1.35)


def draw_framework(path: Path) -> None:
    """The three training stages and what each adds to the model."""
    figure = Figure(figsize=(9.5, 4.1))
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set(xlim=(0, 1), ylim=(0, 1))
    panel.axis("off")
    models = ("base\nQwen2.5-VL-7B", "scaffold", "cold-start", "EmoCaliber")
    stages = (
        (
            "Stage 1: structured reasoning",
            "ms-swift SFT, lr 1e-5\nVEC-CoT, 86,067 samples\nfive named steps, then the answer",
        ),
        (
            "Stage 2: verbalized confidence",
            "ms-swift SFT, lr 4e-6\nVEC-CoT, 43,033 samples\nthe answer, then <confidence>",
        ),
        (
            "Stage 3: calibrated confidence",
            "verl GRPO, lr 1e-6\nVEC-CoT, 14,346 samples\nreward: format, correctness,\nlog score of the confidence",
        ),
    )
    for i, (title, text) in enumerate(stages):
        _box(panel, 0.035 + 0.322 * i, 0.60, 0.285, 0.32, title, text, ("#DCEAF7", "#FBE5D6", "#DDF1E4")[i])
    for i, model in enumerate(models):
        x = 0.075 + 0.283 * i
        panel.text(
            x,
            0.40,
            model,
            ha="center",
            va="center",
            fontsize=9,
            bbox={"boxstyle": "round", "fc": "white", "ec": "#333333"},
        )
        if i < 3:
            panel.annotate(
                "", (x + 0.215, 0.40), (x + 0.07, 0.40), arrowprops={"arrowstyle": "-|>", "color": "#333333"}
            )
            panel.annotate(
                "",
                (x + 0.142, 0.41),
                (x + 0.142, 0.59),
                arrowprops={"arrowstyle": "-|>", "linestyle": ":", "color": "#333333"},
            )
    shape = (
        "<think> <element>…</element> <human>…</human> <context>…</context>\n"
        "<interaction>…</interaction> <analysis>…</analysis> </think>\n"
        "<answer>contentment</answer> <confidence>0.85</confidence>"
    )
    panel.text(0.5, 0.135, shape, ha="center", va="center", fontsize=8.5, family="monospace", linespacing=1.5)
    panel.text(0.5, 0.27, "what the final model writes for an image", ha="center", fontsize=8, style="italic")
    figure.savefig(path, dpi=150)


def draw_example(merged: Path, data_dir: Path, path: Path) -> None:
    """A well-formed toy-world prediction: the scene, the five steps, answer, confidence and truth."""
    results = [result for _, result, _ in read_lines(merged)]
    result = next(
        r for r in results if r["task"] == "EmoSet-8" and read_response(r["response"], r["candidates"]).well_formed
    )
    reading = read_response(result["response"], result["candidates"])
    image = Image.open(data_dir / result["conversations"][0]["content"][0]["image"])
    figure = Figure(figsize=(8.5, 3.6))
    panel = figure.add_axes((0.02, 0.2, 0.28, 0.68))
    panel.imshow(image.resize((420, 420), Image.Resampling.NEAREST))
    panel.axis("off")
    text = figure.add_axes((0.33, 0.1, 0.65, 0.82))
    text.axis("off")
    y = 0.97
    for step, words in reasoning_steps(result["response"]).items():
        lines = textwrap.wrap(words, 58)
        text.text(0, y, step, fontsize=9, fontweight="bold", va="top", color=STYLES["ID VSA"][0])
        text.text(0.19, y, "\n".join(lines), fontsize=9, va="top")
        y -= 0.075 * len(lines) + 0.055
    right = result["label_distribution"][reading.label]
    for name, value in (
        ("answer", f"{reading.label}   (label: {result['ground_truth']})"),
        ("confidence", f"{reading.confidence:.2f}   (true probability of this answer: {right:.2f})"),
    ):
        text.text(0, y, name, fontsize=9, fontweight="bold", va="top", color=STYLES["ID VER"][0])
        text.text(0.19, y, value, fontsize=9, va="top")
        y -= 0.13
    figure.text(0.5, 0.03, NOTICE, ha="center", fontsize=7, color="#444444")
    figure.savefig(path, dpi=150)


def draw_run(run: Path, output_dir: Path) -> None:
    """The reliability diagram of a run, and its confidences side by side."""
    results = read_run(run)
    note = "\n".join(results.notices)
    reliability_diagram(results.table, output_dir / "reliability", note=note)
    draw_sources(source_points(rows_by_source(results.table, 1000)), output_dir, note)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("images"))
    parser.add_argument("--example", type=Path, help="merged.jsonl of a toy-world run")
    parser.add_argument(
        "--data_dir", type=Path, default=Path("input_data/toy_world"), help="folder of the example's data file"
    )
    parser.add_argument("--run", type=Path, help="a run with several responses per sample, evaluated")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.run:
        draw_run(args.run, args.output_dir)
        return
    draw_composition(args.output_dir / "vecbench_composition.png")
    draw_framework(args.output_dir / "framework.png")
    if args.example:
        draw_example(args.example, args.data_dir, args.output_dir / "example_prediction.png")


if __name__ == "__main__":
    main()
