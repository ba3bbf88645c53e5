"""What writing the reasoning and measuring the confidence share: questions, shards, settings.

Both ask a model several questions about an image, through ``inference.runs.worker`` and its
engines. Question k of a record has the id ``<record>#k``, hence a seed of its own, and a line of its
own in the run's shards: what was answered before is never asked again. With ``--n_shards N``, N
workers share the records; afterwards ``--collect_only`` makes one result of their shards.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from inference.common.json_lines import describe, one_line
from inference.data.images import ImageSource, PixelBudget
from inference.data.records import BrokenRecord, Record
from inference.engines.base import EngineSettings
from inference.runs.folder import Description
from inference.runs.settings import (
    add_settings,
    add_share_arguments,
    check_share,
    decisive_settings,
    model_identity,
    parsed_settings,
)
from inference.runs.shards import read_results, shard_paths
from scripts.build_vec_cot.records import read_labelled

MAX_QUESTIONS = 10_000  # per record: its questions' places in a shard stay, when more are asked later


def parse_settings(
    documentation: str, add_more: Callable[[argparse.ArgumentParser], None], arguments: list[str] | None = None
) -> tuple[argparse.ArgumentParser, argparse.Namespace, EngineSettings]:
    """(parser, parsed arguments, settings) of a command that samples; ``add_more(parser)`` adds its own ones."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", nargs="+", required=True, help="rows of the step before, a JSON object per line")
    add_share_arguments(parser)
    add_settings(parser, without=["replace_images", "max_images"])
    parser.add_argument("--collect_only", action="store_true", help="ask nothing: one result of the workers' shards")
    add_more(parser)
    args = parser.parse_args(arguments)
    check_share(parser, args.index, args.n_shards)
    return parser, args, parsed_settings(parser, args)


def describe_sampling(settings: EngineSettings, output_path: str, **more: Any) -> Description:
    """What the folder's answers are sampled with, and ``more`` settings; a later start has to agree.

    Unlike an inference run's (``inference.runs.settings.describe_run``), the data may grow from start to start.

    Raises:
        OSError: when the checkpoint cannot be read.
    """
    models, files = model_identity(settings, output_path)
    decisive = {**decisive_settings(settings), **more}
    return Description({**models, "settings": decisive}, {"checkpoint_files": files})


def read_input(args: argparse.Namespace) -> list[Record | BrokenRecord]:
    """The rows of all data files, the first ``--limit`` of them."""
    items = (item for _, item in read_labelled(args.data_path, image_roots=args.image_root))
    return [item for item in items if args.limit is None or item.position < args.limit]


def check_answers(items: Iterable[Record | BrokenRecord], folder: str | Path) -> None:
    """Refuse a folder of answers to other data: answers are found by the records' ids, which data sets may share.

    Raises:
        ValueError: naming the first answer of the folder that is about another image, task or candidates.
    """
    records = {item.sample_id: item for item in items if isinstance(item, Record)}
    for path in shard_paths(folder):
        for row in read_results(path):
            if (record := records.get(row.get("record_id"))) is None:
                continue
            now = {"image": Path(record.image).name, "task": record.task, "candidates": record.candidates}
            asked = {field: row.get(field) for field in now} | {"image": Path(str(row.get("image"))).name}
            if field := next((field for field in now if asked[field] != now[field]), None):
                was, wanted = (describe(of[field], 200) for of in (asked, now))
                raise ValueError(
                    f"{path}, record {one_line(record.sample_id, 60)}, field '{field}': expected {wanted}, got {was}: "
                    "the answers there are to other data; take another --output_path"
                )


def found_images(budget: PixelBudget) -> ImageSource:
    """The images that ``read_input`` has found: by absolute paths, which are confined already."""
    return ImageSource([], budget, confined=False)


def question(record: Record, text: str, k: int) -> Record:
    """Question k about a record's image, as a record that inference can answer."""
    content = [{"type": "image"}, {"type": "text", "text": text}]
    labelled = {"ground_truth": record.ground_truth, "candidates": record.candidates, "task": record.task}
    return replace(
        record,
        sample_id=f"{record.sample_id}#{k}",
        position=record.position * MAX_QUESTIONS + k,
        messages=[{"role": "user", "content": content}],
        raw={"record_id": record.sample_id, "k": k, "image": record.image, **labelled},
    )


def answers_on_disk(folder: str | Path) -> dict[str, dict[int, dict[str, Any]]]:
    """record id → k → line of a shard; a line with a response outweighs one with an error."""
    answers: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for path in shard_paths(folder):
        for row in read_results(path):
            if "record_id" in row:
                known = answers[row["record_id"]].get(row["k"])
                if known is None or "error" in known:
                    answers[row["record_id"]][row["k"]] = row
    return answers


def model_notice(*rows: dict[str, Any]) -> dict[str, str]:
    """The rows' notices (of a toy model), under the key that the training rows keep."""
    notices = sorted({row["model_notice"] for row in rows if row.get("model_notice")})
    return {"model_notice": "; ".join(notices)} if notices else {}


def error_row(item: Record | BrokenRecord, error: str) -> dict[str, Any]:
    return {**item.raw, "id": item.sample_id, "error": error}
