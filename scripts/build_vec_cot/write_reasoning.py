"""Ask a teacher for the five sections that lead to each image's label, and keep what passes the checks.

    python -m scripts.build_vec_cot.write_reasoning --data_path split/stage1_records.jsonl \\
        split/stage2_records.jsonl --output_path reasoning --engine openai \\
        --base_url http://127.0.0.1:8000/v1 --model_name my-teacher
    python -m scripts.build_vec_cot.write_reasoning … --engine vllm --checkpoint Qwen/Qwen2.5-VL-72B-Instruct

Each response is checked (``verify.py``); one that fails is asked again with another seed, --attempts
times in all. Writes into --output_path, in the order of the data:

    reasoning.jsonl  the row, with ``reasoning`` (section → text), ``attempt``, ``teacher``
    rejected.jsonl   the row, with ``reason`` (the last attempt's first) and every attempt's problems and response
    error.jsonl      the row, with ``error``: it or its image cannot be used, or the engine failed.
                     The next start asks again.
"""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inference.common.storage import explain
from inference.common.terminal import start_logging
from inference.data.doubts import most_frequent_error
from inference.data.records import BrokenRecord, Record
from inference.data.response import reasoning_steps
from inference.engines.base import EngineFailed, EngineSettings
from inference.engines.checkpoints import CheckpointRefused
from inference.engines.load import load_engine
from inference.runs.folder import Description, open_shard, prepare
from inference.runs.shards import ShardBusy, read_results
from inference.runs.worker import infer_share, share
from scripts.build_vec_cot.records import say_notices, write_rows
from scripts.build_vec_cot.sampling import (
    MAX_QUESTIONS,
    answers_on_disk,
    check_answers,
    describe_sampling,
    error_row,
    found_images,
    model_notice,
    parse_settings,
    question,
    read_input,
)
from scripts.build_vec_cot.teacher import load_template, teacher_question
from scripts.build_vec_cot.verify import Limits, Problem, problems

log = logging.getLogger("build_vec_cot")


def verdicts(answers: dict[int, dict[str, Any]], record: Record, limits: Limits) -> dict[int, list[Problem]]:
    """attempt → what is wrong with its response; attempts that ended in an error are not in it."""
    return {
        k: problems(row["response"], record.ground_truth, limits, row.get("finish_reason") == "length")
        for k, row in sorted(answers.items())
        if "error" not in row
    }


def next_attempt(answers: dict[int, dict[str, Any]], record: Record, limits: Limits, attempts: int) -> int | None:
    """The attempt to make now, or None when a response passed or all attempts are made."""
    checked = verdicts(answers, record, limits)
    return None if not all(checked.values()) or len(checked) >= attempts else len(checked)


def ask(
    items: list[Record | BrokenRecord],
    args: argparse.Namespace,
    settings: EngineSettings,
    description: Description,
    template: str,
    limits: Limits,
) -> None:
    """Make every attempt that is missing, in rounds: the first of all records, then the second of the failed …"""
    start_engine = functools.cache(lambda: load_engine(settings))
    mine = share(items, args.index, args.n_shards)
    with open_shard(args.output_path, args.index, args.n_shards, description) as (writer, _):
        for number in range(1, args.attempts + 1):
            answers = answers_on_disk(args.output_path)
            failed = {row["record_id"] for row in read_results(writer.path) if "error" in row}
            asked = [
                question(record, teacher_question(template, record), k)
                for record in mine
                if isinstance(record, Record)
                and record.sample_id not in failed
                and (k := next_attempt(answers[record.sample_id], record, limits, args.attempts)) is not None
            ]
            if not asked:
                break
            log.info("round %d of at most %d: %d of %d records", number, args.attempts, len(asked), len(mine))
            infer_share(asked, writer, settings, start_engine, found_images(settings.budget), args.image_workers)


def collect(items: list[Record | BrokenRecord], args: argparse.Namespace, limits: Limits) -> dict[str, list[dict]]:
    """The rows of the three files, by name.

    Raises:
        ValueError: when a record was not asked as often as it should be: workers are still to run.
    """
    answers = answers_on_disk(args.output_path)
    files: dict[str, list[dict]] = {"reasoning": [], "rejected": [], "error": []}
    unasked = 0
    for item in items:
        if isinstance(item, BrokenRecord):
            files["error"].append(error_row(item, item.error))
            continue
        rows = answers[item.sample_id]
        checked = verdicts(rows, item, limits)
        passed = next((k for k, failed in checked.items() if not failed), None)
        raw = {**item.raw, "id": item.sample_id, "image": item.image}
        if passed is not None:
            sections = reasoning_steps(rows[passed]["response"])
            known = {"attempt": passed, "teacher": rows[passed]["model"], **model_notice(rows[passed])}
            files["reasoning"].append({**raw, "reasoning": sections, **known})
        elif len(checked) < args.attempts:
            error = next((row["error"] for row in rows.values() if "error" in row), None)
            unasked += error is None
            files["error"].append(error_row(item, error))
        else:
            attempts = [
                {"attempt": k, "problems": [asdict(problem) for problem in failed], "response": rows[k]["response"]}
                for k, failed in checked.items()
            ]
            files["rejected"].append({**raw, "reason": attempts[-1]["problems"][0]["code"], "attempts": attempts})
    if unasked:
        raise ValueError(f"{args.output_path}: {unasked} records are still to be asked; run all workers first")
    return files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--teacher_prompt", default="label", help="label, recognition, or a text file (teacher.py)")
    add("--attempts", type=int, default=3, help="how often a record is asked at most")
    add("--min_words", type=int, default=Limits.min_words, help="of the five sections together")
    add("--max_words", type=int, default=Limits.max_words, help="of the five sections together")


def main(arguments: list[str] | None = None) -> None:
    start_logging()
    parser, args, settings = parse_settings(__doc__, add_arguments, arguments)
    if not 0 < args.attempts <= MAX_QUESTIONS:
        parser.error(f"expected 0 < --attempts <= {MAX_QUESTIONS}, got {args.attempts}")
    if args.temperature == 0 and args.attempts > 1:
        parser.error("at --temperature 0 every attempt is the same: give --attempts 1 or a higher temperature")
    try:
        template, limits = load_template(args.teacher_prompt), Limits(args.min_words, args.max_words)
        description = describe_sampling(settings, args.output_path, teacher_prompt=template)
        items = read_input(args)
        check_answers(items, args.output_path)
        if args.collect_only:
            prepare(args.output_path, description, alone=False)
        else:
            ask(items, args, settings, description, template, limits)
            if args.n_shards > 1:
                return
        files = collect(items, args, limits)
        for name, rows in files.items():
            write_rows(Path(args.output_path) / f"{name}.jsonl", rows)
    except CheckpointRefused as error:
        parser.exit(2, f"{error}\n")
    except (OSError, ValueError, ShardBusy, EngineFailed) as error:
        sys.exit(f"writing the reasoning failed: {type(error).__name__}: {explain(error)}")
    say_notices(files["reasoning"])
    reasons = Counter(row["reason"] for row in files["rejected"]).most_common()
    counts = {name: len(rows) for name, rows in files.items()}
    print(
        f"read {len(items)} = written {counts['reasoning']} + rejected {counts['rejected']} + failed {counts['error']}"
        + (f" (rejected: {', '.join(f'{reason} {n}' for reason, n in reasons)})" if reasons else "")
    )
    errors = [row["error"] for row in files["error"]]
    if errors:
        print(f"The most frequent error: {most_frequent_error(errors)}")
    if not files["reasoning"]:
        sys.exit(f"nothing was written: {args.output_path}/rejected.jsonl and error.jsonl say why")


if __name__ == "__main__":
    main()
