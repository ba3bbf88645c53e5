"""Time of the parser and of the reward on hostile responses, by length: is it linear?

    python -m scripts.maintenance.benchmark.response_time

Draws images/response_time.png and prints, for each shape of response, the exponent that time grows
with: the slope of log time over log length from about 10,000 characters on. The same shapes through the
protocol's regular expressions stand beside them, up to 30,000 characters. Exit status 1 when an exponent
of ours is over 1.25.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from inference.common.terminal import plain_output
from inference.data.response import read_response
from inference.data.vecbench import WEBEMO_25
from inference.plots.style import FAINT, EngFormatter, head_panel, new_figure, save_figure, styled
from scripts.maintenance.benchmark.measure import record
from train.cus_reward import STEPS, compute_score

LENGTHS = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
LONGEST_FOR_REGULAR_EXPRESSIONS = 30_000
FITTED_FROM = {"parser": 9_000, "reward": 9_000, "regular expressions": 2_500}  # shorter: mostly the cost of a call
MOST = 1.25  # of an exponent: above it, something is not linear
ROUNDS = 5

THOUGHT = "".join(f"<{step}>x</{step}>" for step in STEPS)


def whole(answer: str = "awe", confidence: str = "0.8", thought: str = "") -> str:
    return f"<think>{THOUGHT}{thought}</think><answer>{answer}</answer><confidence>{confidence}</confidence>"


# Each makes a response of about n characters. What is repeated is what a search could go back over.
SHAPES: dict[str, Callable[[int], str]] = {
    "well-formed, long reasoning": lambda n: whole(thought="the light < falls " * (n // 18)),
    "many <answer>": lambda n: "<answer>" * (n // 8),
    "many <answer>, a line each": lambda n: "<answer>\n" * (n // 9) + "</answer>",
    "many <think>": lambda n: "<think>" * (n // 7),
    "many </think>": lambda n: "</think>" * (n // 8),
    "many <answer>, torn </answer": lambda n: "<answer>\n</answer" * (n // 17),
    "many <element> in <think>": lambda n: whole(thought="<element>" * (n // 9)),
    "one label a thousand times": lambda n: whole(answer="contentment, " * (n // 13)),
    "labels all but for a letter": lambda n: whole(answer="contentmen " * (n // 11)),
    "line breaks": lambda n: "\n" * n,
    "a confidence of so many digits": lambda n: whole(confidence="0." + "8" * n),
    "a confidence of braces": lambda n: whole(confidence="{" * n),
    "punctuation in the answer": lambda n: whole(answer="., " * (n // 3)),
}


def regular_expressions(text: str) -> None:
    """The protocol's searches as they are written down, for comparison only."""
    for tag in ("think", "answer", "confidence"):
        re.search(rf"<{tag}>(.*?)</{tag}>", text)
        re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)


PARTS: dict[str, Callable[[str], object]] = {
    "parser": lambda text: read_response(text, WEBEMO_25),
    "reward": lambda text: compute_score(text, "awe"),
    "regular expressions": regular_expressions,
}


def seconds(function: Callable[[str], object], text: str) -> float:
    """CPU time of one call: the least of several rounds, each long enough for the clock."""
    repeats = max(1, 20_000 // len(text))
    least = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(repeats):
            function(text)
        least = min(least, (time.process_time() - start) / repeats)
        if least > 1:
            break
    return max(least, 1e-8)


def exponent(part: str, points: dict[int, float]) -> float:
    """Slope of log time over log length."""
    lengths = [length for length in points if length >= FITTED_FROM[part]]
    return float(np.polyfit(np.log(lengths), np.log([points[length] for length in lengths]), 1)[0])


def measure() -> dict[str, dict[str, dict[int, float]]]:
    """part → shape → length in characters → seconds."""
    found: dict[str, dict[str, dict[int, float]]] = {part: {} for part in PARTS}
    for shape, make in SHAPES.items():
        for part, function in PARTS.items():
            limit = LONGEST_FOR_REGULAR_EXPRESSIONS if part == "regular expressions" else LENGTHS[-1]
            texts = [make(length) for length in LENGTHS if length <= limit]
            found[part][shape] = {len(text): seconds(function, text) for text in texts}
    return found


@styled
def draw(found: dict[str, dict[str, dict[int, float]]], path: Path) -> None:
    """A panel a part, a line a shape, with a grey line of slope 1."""
    figure = new_figure(height=5.2)
    panels = figure.subplots(1, len(PARTS), sharex=True, sharey=True)
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333"]
    looks = {
        shape: {"color": colours[i % 7], "linestyle": ("-", "--")[i // 7], "marker": "os"[i // 7], "markersize": 3}
        for i, shape in enumerate(SHAPES)
    }
    for panel, (part, shapes) in zip(panels, found.items(), strict=True):
        for shape, points in shapes.items():
            panel.plot(list(points), [1e3 * value for value in points.values()], label=shape, lw=1.1, **looks[shape])
        reference = np.array([LENGTHS[0], LENGTHS[-1]])
        panel.plot(reference, 3e-4 * reference, color=FAINT, linewidth=4, alpha=0.35, zorder=0, label="linear")
        steepest = max(exponent(part, points) for points in shapes.values())
        head_panel(panel, part, f"slope at most {steepest:.2f}")
        panel.set(xscale="log", yscale="log", xlabel="characters")
        # matplotlib's own labels of a logarithmic axis are mathematics, which these figures write as plain text
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.grid(True)
    panels[0].set_ylabel("milliseconds of one response")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, handlelength=2.2, columnspacing=1.0)
    save_figure(figure, path.with_suffix(""))


def main() -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("images/response_time.png"))
    args = parser.parse_args()
    found = measure()
    print(f"{'time grows with length to the power of':<40}" + "".join(f"{part:>21}" for part in PARTS))
    for shape in SHAPES:
        print(f"{shape:<40}" + "".join(f"{exponent(part, found[part][shape]):>21.2f}" for part in PARTS))
    draw(found, args.output)
    steepest = {part: max(exponent(part, points) for points in found[part].values()) for part in PARTS}
    longest = {part: max(max(points.values()) for points in found[part].values()) for part in PARTS}
    record(
        "hostile responses",
        f"{len(SHAPES)} shapes, up to {LENGTHS[-1]:,} characters",
        f"time grows with length to the power of at most {steepest['parser']:.2f} (parser) and "
        f"{steepest['reward']:.2f} (reward): {1e3 * longest['parser']:.0f} and {1e3 * longest['reward']:.0f} ms; "
        f"by regular expressions {steepest['regular expressions']:.2f}",
        "python -m scripts.maintenance.benchmark.response_time",
    )
    return int(max(steepest["parser"], steepest["reward"]) > MOST)


if __name__ == "__main__":
    sys.exit(main())
