"""Stage 2's confidence: how often the scaffold model, asked several times, answers the label.

    python -m scripts.build_vec_cot.confidence --data_path reasoning/reasoning.jsonl --stage 2 \\
        --output_path confidence --checkpoint output/scaffold/checkpoint-666 --samples 10

The paper does not say where its stage 2 takes the confidence from; this is our way, not the
paper's. The scaffold (the model after stage 1) is asked its own question K times per image at
temperature 1. With k of the K responses answering the label,

    confidence = (k + a) / (K + 2 a), rounded to 0.05, within [0.05, 0.95]

a = 0.5 is the mean of the posterior under Jeffreys' prior Beta(0.5, 0.5): a few samples never claim
certainty. The bounds keep the logarithmic reward of stage 3 finite. A malformed response counts as
one that does not answer the label. Writes into --output_path:

    confidence.jsonl  the row, with ``confidence``, ``label_count`` (k), ``sample_count`` (K),
                      ``sampled_answers`` (answer → count), ``scaffold`` and, if any were, ``cut_off_count``
    error.jsonl       the row, with ``error``; the next start asks again
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from inference.common.options import finite_number
from inference.common.storage import explain
from inference.common.terminal import start_logging
from inference.data.doubts import most_frequent_error
from inference.data.prompts import recognition_prompt
from inference.data.records import BrokenRecord, Record
from inference.data.response import UNKNOWN, normal_label, read_response
from inference.engines.base import EngineFailed, EngineSettings
from inference.engines.checkpoints import CheckpointRefused
from inference.engines.load import load_engine
from inference.runs.folder import Description, open_shard, prepare
from inference.runs.shards import ShardBusy, error_of, read_results, shard_paths
from inference.runs.worker import infer_share, share
from scripts.build_vec_cot.records import say_notices, write_rows
from scripts.build_vec_cot.sampling import (
    MAX_QUESTIONS,
    check_answers,
    describe_sampling,
    error_row,
    found_images,
    model_notice,
    parse_settings,
    question,
    read_input,
)

STEP = 20  # confidences to a whole: multiples of 0.05
LOWEST, HIGHEST = 0.05, 0.95


def smoothed_confidence(label_count: int, sample_count: int, smoothing: float) -> float:
    """(k + a) / (K + 2 a), to the nearest multiple of 0.05 in [0.05, 0.95].

    Raises:
        ValueError: when the counts are not 0 <= k <= K with K > 0, or a is negative.
    """
    if not 0 <= label_count <= sample_count or sample_count == 0 or smoothing < 0:
        raise ValueError(f"expected 0 <= k <= K, K > 0 and a >= 0, got {label_count}, {sample_count}, {smoothing}")
    mean = (label_count + smoothing) / (sample_count + 2 * smoothing)
    return min(HIGHEST, max(LOWEST, round(mean * STEP) / STEP))


def ask(
    items: list[Record | BrokenRecord], args: argparse.Namespace, settings: EngineSettings, description: Description
) -> None:
    """Sample what is missing of this worker's share."""
    asked = [
        question(record, recognition_prompt(record.candidates, with_confidence=False), k)
        for record in share(items, args.index, args.n_shards)
        if isinstance(record, Record)
        for k in range(args.samples)
    ]
    with open_shard(args.output_path, args.index, args.n_shards, description) as (writer, _):
        images = found_images(settings.budget)
        infer_share(asked, writer, settings, lambda: load_engine(settings), images, args.image_workers)


def collect(items: list[Record | BrokenRecord], args: argparse.Namespace) -> dict[str, list[dict]]:
    """The rows of the two files, by name; only labels are held in memory, not the responses.

    Raises:
        ValueError: when samples are missing that did not fail: workers are still to run.
    """
    records = {item.sample_id: item for item in items if isinstance(item, Record)}
    labels: dict[str, dict[int, str]] = {name: {} for name in records}
    errors: dict[str, dict[int, str]] = {name: {} for name in records}
    cut_off: Counter[str] = Counter()
    known: dict[str, dict] = {}
    for path in shard_paths(args.output_path):
        for row in read_results(path):
            name, k = row.get("record_id"), row.get("k", args.samples)
            if name not in records or k >= args.samples:
                continue
            if (error := error_of(row)) is not None:
                errors[name][k] = error
            else:
                labels[name][k] = read_response(row["response"], records[name].candidates).label
                cut_off[name] += row.get("finish_reason") == "length"
                known[name] = {"scaffold": row["model"], **model_notice(row)}
    files: dict[str, list[dict]] = {"confidence": [], "error": []}
    unasked = 0
    for item in items:
        if isinstance(item, BrokenRecord):
            files["error"].append(error_row(item, item.error))
            continue
        answers, failed = labels[item.sample_id], errors[item.sample_id]
        if len(answers) == args.samples:
            counts = Counter(answers.values())
            label_count = counts[normal_label(item.ground_truth)]
            measured = {
                "confidence": smoothed_confidence(label_count, args.samples, args.smoothing),
                "label_count": label_count,
                "sample_count": args.samples,
                "sampled_answers": dict(sorted(counts.items())),
                **({"cut_off_count": n} if (n := cut_off[item.sample_id]) else {}),
            }
            scaffold = known[item.sample_id]
            measured |= {"scaffold": scaffold["scaffold"], **model_notice(item.raw, scaffold)}
            files["confidence"].append({**item.raw, "id": item.sample_id, "image": item.image, **measured})
        elif missing := next((failed[k] for k in range(args.samples) if k not in answers and k in failed), None):
            files["error"].append(error_row(item, f"{len(answers)} of {args.samples} samples; {missing}"))
        else:
            unasked += 1
    if unasked:
        raise ValueError(f"{args.output_path}: {unasked} records are still to be sampled; run all workers first")
    return files


def doubts(rows: list[dict]) -> list[str]:
    """What lowers the rows' confidences though it says nothing of how sure the scaffold is, a line each."""
    sampled = sum(row["sample_count"] for row in rows)
    counts = {
        "were cut off at the limit of new tokens (--max_new_tokens)": sum(row.get("cut_off_count", 0) for row in rows),
        "answer with none of the candidates, or several": sum(row["sampled_answers"].get(UNKNOWN, 0) for row in rows),
    }
    return [
        f"{n} of {sampled} samples {what}; they count as another answer than the label"
        for what, n in counts.items()
        if n
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--stage", type=int, help="only rows of this stage")
    add("--samples", type=int, default=10, help="K: how often each image is answered")
    add("--smoothing", type=finite_number, default=0.5, help="a in (k + a) / (K + 2 a)")
    parser.set_defaults(temperature=1.0)


def main(arguments: list[str] | None = None) -> None:
    start_logging()
    parser, args, settings = parse_settings(__doc__, add_arguments, arguments)
    if not 0 < args.samples <= MAX_QUESTIONS or args.smoothing < 0:
        parser.error(f"expected 0 < --samples <= {MAX_QUESTIONS} and --smoothing >= 0")
    if args.temperature == 0 and args.samples > 1:
        parser.error("at --temperature 0 every sample is the same: a share of them is no confidence")
    try:
        description = describe_sampling(settings, args.output_path)
        items = [
            item for item in read_input(args) if args.stage is None or item.raw.get("stage", args.stage) == args.stage
        ]
        check_answers(items, args.output_path)
        if args.collect_only:
            prepare(args.output_path, description, alone=False)
        else:
            ask(items, args, settings, description)
            if args.n_shards > 1:
                return
        files = collect(items, args)
        for name, rows in files.items():
            write_rows(Path(args.output_path) / f"{name}.jsonl", rows)
    except CheckpointRefused as error:
        parser.exit(2, f"{error}\n")
    except (OSError, ValueError, ShardBusy, EngineFailed) as error:
        sys.exit(f"measuring the confidence failed: {type(error).__name__}: {explain(error)}")
    say_notices(files["confidence"])
    print(f"read {len(items)} = measured {len(files['confidence'])} + failed {len(files['error'])}")
    for line in doubts(files["confidence"]):
        print(f"CHECK: {line}")
    errors = [row["error"] for row in files["error"]]
    if errors:
        print(f"The most frequent error: {most_frequent_error(errors)}")
    if not files["confidence"]:
        sys.exit(f"nothing was measured: {args.output_path}/error.jsonl says why")


if __name__ == "__main__":
    main()
