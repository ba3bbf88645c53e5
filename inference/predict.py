"""Read single images: the answer, the confidence and the five reasoning steps.

    python -m inference.predict photo.jpg [more images] --checkpoint output/EmoCaliber --task EmoSet-8
    python -m inference.predict photo.jpg --labels calm,tense,sad --json

Without --checkpoint the toy model of this repository answers, and says so. Greedy decoding unless
--temperature says otherwise. An image that cannot be read is reported, the others go on, and
the exit status is 1. A recalibration (--recalibration) is that of --task's group, without --task
that of all samples.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import textwrap
from dataclasses import asdict

from inference.common.json_lines import to_line
from inference.common.terminal import can_show, plain_output, printable
from inference.data.response import REASONING_STEPS, UNKNOWN
from inference.data.vecbench import TASKS
from inference.engines.base import EngineFailed
from inference.predictor import DEFAULT_TASK, Prediction, add_predictor_arguments, load_predictor, split_labels


def confidence_bar(confidence: float, width: int = 20) -> str:
    filled = round(confidence * width)
    full, empty = "█░" if can_show("█░") else "#-"
    return f"{confidence:.2f}  {full * filled}{empty * (width - filled)}"


def to_text(prediction: Prediction, width: int = 100) -> str:
    """A prediction (not an error) for a terminal of ``width`` columns."""
    lines = [printable(prediction.image)]

    def add(name: str, text: str) -> None:
        lines.extend(textwrap.wrap(text, max(width, 40), initial_indent=f"  {name:<14}", subsequent_indent=" " * 16))

    none = "none of the labels; the response is below"
    add("answer", none if prediction.answer == UNKNOWN else printable(prediction.answer))
    add("confidence", "none stated" if prediction.confidence is None else confidence_bar(prediction.confidence))
    if prediction.recalibrated_confidence is not None:
        add("recalibrated", confidence_bar(prediction.recalibrated_confidence))
    if prediction.answers is not None:
        counts = ", ".join(f"{printable(answer)} {count}" for answer, count in prediction.answers.items())
        add("agreement", f"{confidence_bar(prediction.agreement)}  ({counts})")
    if prediction.answer_log_probability is not None:
        shown = confidence_bar(math.exp(min(prediction.answer_log_probability, 0.0)))
        add("by its tokens", f"{shown}  (the answer's probability after this reasoning)")
    if prediction.candidate_probabilities is not None:
        first = sorted(prediction.candidate_probabilities.items(), key=lambda item: -item[1])[:5]
        shown = ", ".join(f"{printable(name)} {probability:.2f}" for name, probability in first)
        place = "where it is first named" if prediction.candidate_place else "as the answer after this reasoning"
        add("in its place", f"{shown}  (probability of each label {place})")
    for step in REASONING_STEPS:
        add(step, printable(prediction.reasoning.get(step, "")) or "(missing)")
    if prediction.answer == UNKNOWN or not prediction.reasoning:
        add("response", printable(prediction.response) or "(empty)")
    return "\n".join(lines)


def to_json(prediction: Prediction) -> str:
    """A prediction as one JSON line; what is not known is left out, but for the answer's confidence."""
    known = {name: value for name, value in asdict(prediction).items() if value is not None}
    if prediction.error is not None:
        known.pop("reasoning")
    else:
        known.setdefault("confidence", None)
    line = to_line(known)
    return line if line.isprintable() and can_show(line) else json.dumps(known).replace("\x7f", "\\u007f")


def main() -> int:
    plain_output(errors_only=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file, or with --allow_url an address")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--task", choices=tuple(TASKS), help=f"whose labels to choose from; default: {DEFAULT_TASK}")
    choice.add_argument("--labels", help="labels of your own, separated by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of text")
    add_predictor_arguments(parser)
    args = parser.parse_args()
    try:
        known = TASKS[args.task or DEFAULT_TASK].labels
        candidates = split_labels(args.labels) if args.labels is not None else list(known)
    except ValueError as error:
        parser.error(f"--labels: {error}")
    predictor = load_predictor(parser, args)
    if predictor.notice and not args.json:
        print(f"NOTE: {printable(predictor.notice)}\n")
    width = shutil.get_terminal_size((100, 24)).columns
    try:
        predictions = predictor.predict(args.images, candidates, args.task and TASKS[args.task].group)
    except EngineFailed as error:
        sys.exit(f"error: {printable(str(error))}")
    for prediction in predictions:
        if args.json:
            print(to_json(prediction), flush=True)
        elif prediction.error is None:
            print(to_text(prediction, width) + "\n", flush=True)
    failed = [prediction for prediction in predictions if prediction.error is not None]
    for prediction in failed:
        print(f"error: {printable(prediction.error)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
