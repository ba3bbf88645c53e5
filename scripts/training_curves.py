"""Stage 3's training curves, step by step: reward, form, confidence against accuracy, and whether either is gamed.

    python -m scripts.training_curves output/emocaliber

Reads the responses that verl wrote while it trained (rollouts/<step>.jsonl in the run's folder, see
train/step3_example.sh), prints a table of the steps, and writes training_curves.csv and training_curves.png
beside them. Can be run at any time, also while the training goes on. Lines that begin with WARNING name the
step at which deliberate errors or a collapse of the confidence set in (``signs``; what each column means:
train/README.md, "Seeing it coming").
"""

from __future__ import annotations

import argparse
from collections import deque
from functools import cache
from pathlib import Path

import pandas as pd
from scipy.stats import beta

from inference.common.storage import atomic_path, ending_in_one_line
from inference.common.terminal import plain_output
from inference.data.vecbench import TASKS
from inference.metrics import calibration
from inference.metrics.calibration import Tally
from inference.metrics.ranking import roc_auc
from inference.metrics.rows import NOT_AVAILABLE, aligned_table
from inference.plots.style import Figure, MaxNLocator
from scripts.data.samples import bracketed_lists, list_with
from train.cus_reward import compute_score

FIELDS = ("score", "format_score", "correctness", "brier_score", "confidence")

# A rule that pays for deliberate errors does so with a confidence near 0; an honest answer, the likeliest label, is
# right at least as often as chance, whatever its confidence.
LOW, VERY_LOW = 0.3, 0.1
# Signs are looked for in the last steps together: one step has few answers with a low confidence.
WINDOW = 10
MIN_ANSWERS = 30  # below it, nothing is said
BOUND_LEVEL = 0.999  # one-sided; high, because it is asked anew at every step
SMALLEST_CHANCE = 1 / max(len(task.labels) for task in TASKS.values())  # for a prompt without a list of its candidates
COLLAPSED_SHARE = 0.9  # of the answers on their two most frequent confidences: two values cannot tell images apart
COLLAPSED_SPREAD = 0.02  # standard deviation: nearly all answers are within one step of a scale of 0.05

GAMING, COLLAPSE = "deliberate errors", "collapse"


@cache
def chance_of(prompt: str, label: str) -> float:
    """The chance of guessing right: 1 / the number of candidates, which the prompt lists in brackets.

    That is the last list in brackets, separated by commas, that holds the label. Without one, the chance is the
    smallest of VECBench's tasks (25 labels), so that a warning comes late rather than for nothing.
    """
    candidates = list_with(label, bracketed_lists(prompt))
    return 1 / len(candidates) if candidates else SMALLEST_CHANCE


def read_rollouts(path: Path) -> pd.DataFrame:
    """One step's responses with the reward's fields, ``prompt`` and ``chance`` (of guessing right).

    ``prompt`` tells which responses are to the same image: by the id that verl gives each from 0.9 on, before
    that by the words of the question and the label, which counts some images as one.

    Raises:
        ValueError: naming the file and the field that is missing, or what else is wrong with it.
    """
    try:
        rollouts = pd.read_json(path, lines=True, dtype=False, convert_dates=False)  # labels may be digits
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON lines: {error}") from None
    # From 0.9 on, verl keeps of the reward only the score: the rest is computed again from response and label.
    if {"output", "gts"} <= set(rollouts.columns) and "format_score" not in rollouts.columns:
        read = [compute_score(output, label) for output, label in zip(rollouts["output"], rollouts["gts"], strict=True)]
        rollouts = rollouts.join(pd.DataFrame(read, index=rollouts.index).drop(columns="score"))
    missing = [field for field in FIELDS if field not in rollouts.columns]
    if missing:
        raise ValueError(f"{path}: expected the fields of train/cus_reward.py, missing {', '.join(missing)}")
    asked = rollouts.reindex(columns=["input", "gts"]).fillna("").astype(str)
    # 0.9's uid is <id of the prompt>_<number of the response>_<number of its part>.
    with_id = "uid" in rollouts.columns
    rollouts["prompt"] = rollouts["uid"].str.rsplit("_", n=2).str[0] if with_id else asked["input"] + asked["gts"]
    rollouts["chance"] = [chance_of(*row) for row in asked.itertuples(index=False)]
    return rollouts


def curve_point(rollouts: pd.DataFrame) -> dict[str, float]:
    """The curves' values at one step; all about the confidence is over well-formed responses.

    ``reward`` (mean), ``format_rate``, ``accuracy`` (malformed responses count as wrong), ``accuracy_formed``,
    ``confidence_mean``, ``confidence_std`` and the 10 % and 90 % quantiles, ``brier`` (0 to 1),
    ``roc_auc`` (NaN with one class only), ``responses``. Of the answers with a confidence below ``LOW``
    ``low_answers``, ``low_accuracy`` and ``low_chance`` (of guessing right); ``very_low_share`` below ``VERY_LOW``;
    ``distinct_confidences``; ``top_two_share``, of the two most frequent ones.
    """
    formed = rollouts[rollouts["format_score"] == 1]
    low = formed[formed["confidence"] < LOW]
    tally = Tally.of(formed["confidence"], formed["correctness"])
    return {
        "responses": len(rollouts),
        "reward": rollouts["score"].mean(),
        "format_rate": rollouts["format_score"].mean(),
        "accuracy": rollouts["correctness"].mean(),
        "accuracy_formed": formed["correctness"].mean(),
        "confidence_mean": formed["confidence"].mean(),
        "confidence_std": formed["confidence"].std(ddof=0),
        "confidence_p10": formed["confidence"].quantile(0.1),
        "confidence_p90": formed["confidence"].quantile(0.9),
        "brier": -formed["brier_score"].mean(),
        "roc_auc": float(roc_auc(tally)),
        "low_answers": len(low),
        "low_accuracy": low["correctness"].mean(),
        "low_chance": low["chance"].mean(),
        "very_low_share": (formed["confidence"] < VERY_LOW).mean(),
        "distinct_confidences": float(calibration.distinct_confidences(tally)),
        "top_two_share": float(calibration.top_two_share(tally)),
    }


def highest_accuracy(answers: pd.DataFrame) -> float:
    """Upper bound of the answers' accuracy, one-sided, at ``BOUND_LEVEL`` (Clopper & Pearson, 1934).

    Responses to one prompt of one step are counted as if they were all the same: n answers are as many as their
    effective number, (Σ m)² / Σ m² of m answers per prompt (Kish, 1965).
    """
    size = answers.groupby(["step", "prompt"]).size()
    effective = size.sum() ** 2 / (size**2).sum()
    right = effective * answers["correctness"].mean()
    return float(beta.ppf(BOUND_LEVEL, right + 1, effective - right)) if right < effective else 1.0


def signs(window: pd.DataFrame) -> dict[str, str]:
    """What the well-formed responses of some steps show of ``GAMING`` and ``COLLAPSE``: sign → in words.

    ``GAMING``: of ``MIN_ANSWERS`` or more answers with a confidence below ``LOW`` fewer are right than by chance,
    the upper bound of their accuracy included. ``COLLAPSE``: of ``MIN_ANSWERS`` or more answers
    ``COLLAPSED_SHARE`` state one of two confidences, or the standard deviation is below ``COLLAPSED_SPREAD``.
    """
    found, steps = {}, f"steps {window['step'].min()} to {window['step'].max()}"
    low = window[window["confidence"] < LOW]
    if len(low) >= MIN_ANSWERS and (bound := highest_accuracy(low)) < (chance := low["chance"].mean()):
        found[GAMING] = (
            f"of {len(low)} answers with a confidence below {LOW:g} in {steps} "
            f"{100 * low['correctness'].mean():.1f} % are right (at most {100 * bound:.1f} %), "
            f"by guessing {100 * chance:.1f} % would be"
        )
    frequencies = window["confidence"].value_counts(normalize=True)
    spread, top = window["confidence"].std(ddof=0), frequencies.head(2)
    if len(window) >= MIN_ANSWERS and (top.sum() >= COLLAPSED_SHARE or spread < COLLAPSED_SPREAD):
        values = " or ".join(f"{value:g}" for value in top.index)
        found[COLLAPSE] = (
            f"of {len(window)} answers in {steps} {100 * top.sum():.1f} % state a confidence of {values}, "
            f"their standard deviation is {spread:.3f}"
        )
    return found


def training_curves(run: Path) -> pd.DataFrame:
    """One row per step, in order: ``curve_point``, and what ``signs`` of each kind say (empty without one).

    A last file that verl is just writing is left out.

    Raises:
        ValueError: when there are no rollouts or a file of them is broken.
    """
    paths = sorted((run / "rollouts").glob("*.jsonl"), key=lambda path: int(path.stem))
    if paths and not paths[-1].read_bytes().endswith(b"\n"):
        paths.pop()
    if not paths:
        raise ValueError(f"{run}: expected rollouts/<step>.jsonl, which train/step3_example.sh makes verl write")
    points: dict[int, dict[str, float | str]] = {}
    recent: deque[pd.DataFrame] = deque(maxlen=WINDOW)
    for path in paths:
        step, rollouts = int(path.stem), read_rollouts(path)
        formed = rollouts.loc[rollouts["format_score"] == 1, ["prompt", "chance", "confidence", "correctness"]]
        recent.append(formed.assign(step=step))
        points[step] = curve_point(rollouts) | {GAMING: "", COLLAPSE: ""} | signs(pd.concat(recent))
    return pd.DataFrame.from_dict(points, orient="index").rename_axis("step")


def onsets(curves: pd.DataFrame) -> dict[str, int]:
    """sign → the first step that shows it, for each sign that any step shows."""
    return {sign: int(shown.index[0]) for sign in (GAMING, COLLAPSE) if len(shown := curves[curves[sign] != ""])}


def warnings(curves: pd.DataFrame) -> list[str]:
    """A line per sign: where it set in, what was seen there, and whether it is there still."""
    last = curves.index[-1]
    return [
        f"WARNING: {sign}: set in at step {step}: {curves.loc[step, sign]}; "
        + (f"still so at step {last}" if curves.loc[last, sign] else f"no longer so at step {last}")
        for sign, step in onsets(curves).items()
    ]


# header → (column, number format)
TABLE = {
    "step": ("step", ".0f"),
    "reward": ("reward", ".3f"),
    "formed": ("format_rate", ".3f"),
    "right": ("accuracy_formed", ".3f"),
    "mean c": ("confidence_mean", ".3f"),
    "std c": ("confidence_std", ".3f"),
    f"c < {LOW:g}": ("low_answers", ".0f"),
    "right there": ("low_accuracy", ".3f"),
    "by chance": ("low_chance", ".3f"),
    f"c < {VERY_LOW:g}": ("very_low_share", ".3f"),
    "values": ("distinct_confidences", ".0f"),
    "top two": ("top_two_share", ".3f"),
}


def table(curves: pd.DataFrame, rows: int = 20) -> str:
    """Every k-th step and the last one, so that there are about ``rows`` of them."""
    shown = curves.reset_index().iloc[:: -(-len(curves) // rows)]
    if shown["step"].iloc[-1] != curves.index[-1]:
        shown = pd.concat([shown, curves.reset_index().tail(1)])
    lines = [
        [NOT_AVAILABLE if pd.isna(row[column]) else format(row[column], form) for column, form in TABLE.values()]
        for _, row in shown.iterrows()
    ]
    return aligned_table(list(TABLE), lines)


def draw(curves: pd.DataFrame, path: Path, title: str) -> None:
    """Six panels over the steps; thin lines are the steps, thick ones the mean of nine."""
    figure = Figure(figsize=(9, 8.4))
    panels = figure.subplots(3, 2, sharex=True).ravel()
    figure.subplots_adjust(left=0.075, right=0.94, top=0.93, bottom=0.065, hspace=0.3, wspace=0.22)
    figure.suptitle(f"Stage 3, responses sampled while training ({title})" if title else "Stage 3", fontsize=10)

    def mean_of_nine(values: pd.Series) -> pd.Series:
        return values.rolling(9, min_periods=1, center=True).mean()

    def line(panel, column: str, colour: str, label: str, style: str = "-") -> None:
        smooth = mean_of_nine(curves[column])
        if column in ("low_accuracy", "low_chance"):  # the mean of the answers: a step may have one of them, or none
            smooth = mean_of_nine((curves[column] * curves["low_answers"]).fillna(0))
            smooth /= mean_of_nine(curves["low_answers"]).replace(0, float("nan"))
        else:
            panel.plot(curves.index, curves[column], color=colour, linewidth=0.6, alpha=0.5)
        panel.plot(curves.index, smooth, color=colour, linestyle=style, linewidth=2, label=label)

    line(panels[0], "reward", "#0072B2", "mean reward")
    line(panels[1], "format_rate", "#009E73", "share of well-formed responses", "-.")
    line(panels[1], "accuracy", "#D55E00", "accuracy")
    line(panels[2], "confidence_mean", "#0072B2", "mean confidence")
    panels[2].fill_between(
        curves.index,
        curves["confidence_p10"],
        curves["confidence_p90"],
        color="#0072B2",
        alpha=0.15,
        label="10 % to 90 % of the responses",
    )
    line(panels[2], "accuracy_formed", "#D55E00", "accuracy of the well-formed", "--")
    line(panels[3], "brier", "#CC79A7", "Brier score")
    line(panels[4], "low_accuracy", "#D55E00", f"accuracy where c < {LOW:g}")
    line(panels[4], "low_chance", "#777777", "by guessing", ":")
    line(panels[4], "very_low_share", "#0072B2", f"share of c < {VERY_LOW:g}", "--")
    line(panels[5], "top_two_share", "#009E73", "share of the top two c")
    values = panels[5].twinx()
    values.plot(curves.index, curves["distinct_confidences"], color="#777777", linewidth=1)
    panels[5].plot([], [], color="#777777", linewidth=1, label="number of c (right scale)")
    values.set_ylim(bottom=0)
    values.yaxis.set_major_locator(MaxNLocator(integer=True))
    for sign, step in onsets(curves).items():
        label = f"{sign}: step {step}"
        panels[4 if sign == GAMING else 5].axvline(step, color="black", linewidth=1.2, linestyle="-.", label=label)
    for panel in (*panels[1:3], *panels[4:]):
        panel.set_ylim(0, 1.03)
    for panel in panels:
        panel.grid(alpha=0.3)
    for panel in panels[:4]:
        panel.legend(loc="best", fontsize=8)
    for panel in panels[4:]:
        panel.set_xlabel("step")
        panel.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, fontsize=7.5, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


@ending_in_one_line("drawing the curves")
def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="stage 3's output_dir")
    parser.add_argument("--title", default="", help="added to the plot's title, for instance what was trained")
    args = parser.parse_args()
    try:
        curves = training_curves(args.run)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    with atomic_path(args.run / "training_curves.csv") as temporary:
        curves.to_csv(temporary, float_format="%.6g")
    draw(curves, args.run / "training_curves.png", args.title)
    print(table(curves), *warnings(curves), sep="\n")
    print(f"{args.run / 'training_curves.csv'} and .png: {len(curves)} steps")


if __name__ == "__main__":
    main()
