"""What stage 3's reward pays for: honesty and deliberate error, and the policies that earn most, on the toy world.

    python -m scripts.toy_world.incentives                       # images/reward_incentives.png and a table
    python -m scripts.toy_world.incentives --samples 900 --plot plot.png

For every rule of ``train/cus_reward.py``: the expected score of an honest answer that is right with probability p and
of an error on purpose with a confidence near 0; and what the policy does that earns most, over the exact
P(label | image) of toy test scenes. It gives each image the answer, a candidate or a word that is none, and the
confidence that together have the highest expected score. Nothing is trained here.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inference.common.paths import REPOSITORY
from inference.common.storage import atomic_path, ending_in_one_line
from inference.common.terminal import plain_output
from inference.data.vecbench import TASKS
from inference.plots.style import Figure
from scripts.toy_world.world import NOTICE, posterior, sample
from train.cus_reward import deliberate_error_threshold, expected_score

RULES: dict[str, dict[str, Any]] = {
    "log, as published": {"rule": "log"},
    "log, clip 0.05": {"rule": "log", "clip": 0.05},
    "brier, weight 2": {"rule": "brier", "weight": 2.0},
    "brier": {"rule": "brier"},
    "rlcr": {"rule": "rlcr"},
}


def scenes(samples_per_task: int, seed: int = 0) -> list[dict[str, float]]:
    """P(label | image) of toy test scenes, the nine tasks in turn."""
    rng = random.Random(f"{seed}/incentives")
    return [posterior(task, sample(task, rng)[1]) for _ in range(samples_per_task) for task in TASKS]


def best_policy(posteriors: list[dict[str, float]], settings: dict[str, Any]) -> dict[str, float]:
    """What the policy does that earns most under these settings of the reward.

    Returns:
        ``accuracy``, ``likeliest`` (share of answers that are the likeliest label), ``no candidate`` (share of answers
        that are none; where a candidate earns the same, it is the answer), ``reward``, and ``honest``: what the
        likeliest label with its own probability earns. Means over the scenes.
    """
    error = expected_score(0.0, **settings)
    rows = []
    for probabilities in posteriors:
        values = np.array(list(probabilities.values()))
        scores = np.array([expected_score(float(value), **settings) for value in values])
        likeliest = int(values.argmax())
        chosen = likeliest if scores[likeliest] >= scores.max() - 1e-12 else int(scores.argmax())
        none = bool(error > scores[chosen] + 1e-12)
        rows.append(
            {
                "accuracy": 0.0 if none else values[chosen],
                "likeliest": float(not none and chosen == likeliest),
                "no candidate": float(none),
                "reward": error if none else scores[chosen],
                "honest": scores[likeliest],
            }
        )
    return pd.DataFrame(rows).mean().to_dict()


def draw(path: Path) -> None:
    """Expected score over p of honesty and of a deliberate error, a panel per rule."""
    figure = Figure(figsize=(11, 3.3))
    panels = figure.subplots(1, len(RULES), sharey=True)
    figure.subplots_adjust(left=0.055, right=0.99, top=0.85, bottom=0.16, wspace=0.1)
    probabilities = np.linspace(0, 1, 401)
    for panel, (name, settings) in zip(panels, RULES.items(), strict=True):
        honest = np.array([expected_score(float(p), **settings) for p in probabilities])
        error = np.full_like(honest, expected_score(0.0, **settings))
        panel.plot(probabilities, honest, color="#0072B2", linewidth=2, label="honest: c = p")
        panel.plot(
            probabilities, error, color="#D55E00", linewidth=2, linestyle="--", label="error on purpose, c near 0"
        )
        panel.fill_between(probabilities, honest, error, where=honest < error - 1e-12, color="#D55E00", alpha=0.2)
        below = deliberate_error_threshold(**settings)
        panel.set_title(f"{name}\n{f'errors pay below {below:.3f}' if below else 'errors never pay'}", fontsize=8)
        panel.set_xlabel("p, the probability of being right", fontsize=8)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("expected score", fontsize=8)
    panels[0].legend(fontsize=7, loc="upper left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def table(posteriors: list[dict[str, float]]) -> str:
    """One row per rule, Markdown; shares and accuracy in percent."""
    accuracy = 100 * np.mean([max(probabilities.values()) for probabilities in posteriors])
    lines = [
        f"{len(posteriors)} scenes; honesty's accuracy {accuracy:.1f} ({NOTICE})",
        "| reward | errors pay below p | best policy: accuracy | answers the likeliest label | answers no candidate "
        "| its reward | honesty's |",
        "|" + " --- |" * 7,
    ]
    for name, settings in RULES.items():
        best = best_policy(posteriors, settings)
        shares = " | ".join(f"{100 * best[column]:.1f}" for column in ("accuracy", "likeliest", "no candidate"))
        below = deliberate_error_threshold(**settings)
        lines.append(f"| {name} | {below:.3f} | {shares} | {best['reward']:.3f} | {best['honest']:.3f} |")
    return "\n".join(lines)


@ending_in_one_line("drawing what the reward pays for")
def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200, help="scenes per task; default: 200")
    parser.add_argument("--plot", type=Path, default=REPOSITORY / "images" / "reward_incentives.png")
    args = parser.parse_args()
    print(table(scenes(args.samples)))
    draw(args.plot)
    print(f"{args.plot}: drawn")


if __name__ == "__main__":
    main()
