"""VECBench as a task of lmms-eval: the functions that ``vecbench.yaml`` names.

Records, images, prompts, the reading of responses and every metric are those of ``inference``; the corrected
protocol's. Settings come from the environment under the names of the templates: ``data_path``, ``image_root``,
``min_pixels``, ``max_pixels``.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from inference.common.json_lines import to_line
from inference.data.doubts import record_doubts
from inference.data.images import ImageError, ImageSource, PixelBudget, data_images
from inference.data.prompts import chat_messages
from inference.data.records import BrokenRecord, Record, images_in, parse_record, read_records
from inference.data.vecbench import GROUPS, TASKS, group_of
from inference.metrics.classification import share
from inference.metrics.corrected import confidence_metrics, tally_of
from inference.metrics.other_harnesses import NO_RESPONSE
from inference.metrics.prediction_table import OVERALL, correctness, prediction_table
from inference.metrics.rows import METRICS
from inference.runs.shards import error_of, result_line

ASKED = ("accuracy", "ece", "brier", "roc_auc")
ROWS = (*TASKS, *GROUPS, OVERALL)
FAILED = "failed"


def _stop(why: str) -> None:
    sys.exit(f"vecbench: {why}")  # no Exception: lmms-eval would try five times, and show a traceback


def _setting(name: str) -> str:
    return os.environ.get(name, "")


@cache
def data_path() -> Path:
    """The data file that the environment names."""
    if not (path := _setting("data_path")):
        _stop("set data_path to a JSON-lines file of VECBench records")
    return Path(path)


@cache
def source() -> ImageSource:
    """Where the images of the data file lie, and within which pixel budget they are shown."""
    bounds = {name: value for name in ("min_pixels", "max_pixels") if (value := _setting(name))}
    roots = [root for root in _setting("image_root").split(":") if root]
    try:
        budget = PixelBudget(**{name: int(value) for name, value in bounds.items()})
    except ValueError as error:
        _stop(f"min_pixels, max_pixels: {error}")
    return data_images(data_path(), images_in(data_path()), roots, budget=budget)


def _problem(item: Record | BrokenRecord) -> str | None:
    """What keeps a record from being asked; of the image, its header is read."""
    if isinstance(item, BrokenRecord):
        return item.error
    try:
        source().original_size(item.image)
    except ImageError as error:
        return f"{data_path()}, line {item.line_number}, field 'image': {error}"
    return None


def docs(_: Dataset) -> Dataset:
    """The records of the data file, in its order; a file with any that cannot be asked stops the evaluation."""
    try:
        items = list(read_records(data_path()))
        problems = [problem for item in items if (problem := _problem(item)) is not None]
    except OSError as error:
        _stop(str(error))
    if problems:
        _stop(
            f"{problems[0]} ({len(problems)} of {len(items)} records cannot be asked; "
            f"python -m scripts.data.check {data_path()} --fix takes them out)"
        )
    if not items:
        _stop(f"{data_path()}: expected VECBench records, found none")
    for notice in sorted({str(item.raw["notice"]) for item in items if item.raw.get("notice")}):
        print(f"vecbench: NOTE: {notice}", file=sys.stderr)
    for doubt in record_doubts(items)[0].lines():
        print(f"vecbench: CHECK: {doubt}", file=sys.stderr)
    columns = ("sample_id", "position", "line_number", "ground_truth")
    table = {name: [getattr(item, name) for item in items] for name in columns}
    return Dataset.from_dict({**table, "record": [to_line(item.raw) for item in items]})


def record_of(doc: dict[str, Any]) -> Record:
    record = parse_record(json.loads(doc["record"]), str(data_path()), doc["line_number"], doc["position"])
    record.sample_id = doc["sample_id"]
    return record


def images(doc: dict[str, Any]) -> list[Any]:
    """The record's image, upright, as RGB within the pixel budget."""
    try:
        return [source().load(record_of(doc).image)]
    except ImageError as error:
        _stop(f"{data_path()}, line {doc['line_number']}, field 'image': {error}")


def question(doc: dict[str, Any]) -> str:
    """The texts of the record's turns, for models that take one text beside the image."""
    items = (item for turn in chat_messages(record_of(doc)) for item in turn["content"])
    return "\n".join(item["text"] for item in items if item["type"] == "text")


def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
    """The record's turns with the image in its place, for chat models."""
    (image,) = images(doc)

    def shown(item: dict[str, Any]) -> dict[str, Any]:
        return {"type": "image", "url": image} if item["type"] == "image" else item

    turns = chat_messages(record_of(doc))
    return [{"role": turn["role"], "content": [shown(item) for item in turn["content"]]} for turn in turns]


def scores(doc: dict[str, Any], responses: list[str]) -> dict[str, Any]:
    """metric/row → what its aggregation needs of this sample, for each row that it is part of.

    ``FAILED`` holds the record itself, with ``error`` where the model gave no response: lmms-eval logs these
    values, but not its documents, and ``inference.evaluate`` reads the samples by it.
    """
    record, (response,) = record_of(doc), responses
    if response.startswith(NO_RESPONSE):
        return {FAILED: result_line(record, error=response)}
    table = prediction_table([result_line(record, response=response)])
    (correct,), (stated,) = correctness(table).tolist(), table["confidence"].tolist()
    stated = None if np.isnan(stated) else stated
    # lmms-eval gives numbers a standard error, which is right for a mean alone.
    values = {metric: correct if metric == "accuracy" else [stated, correct] for metric in ASKED}
    rows = [row for row in (record.task, group_of(record.task), OVERALL) if row in ROWS]
    return {FAILED: result_line(record), **{f"{metric}/{row}": values[metric] for metric in ASKED for row in rows}}


def aggregate(metric: str, values: list[Any]) -> float | None:
    """The metric of a row's samples, a fraction; None where it is not defined."""
    weights = np.ones((1, len(values)))
    if metric == "accuracy":
        return float(share(np.array(values, dtype=float), weights)[0])
    confidence, correct = np.array(values, dtype=float).T
    value = float(confidence_metrics(tally_of(confidence, correct, weights))[metric][0])
    return value if np.isfinite(value) else None


def count_failed(results: list[dict[str, Any]]) -> int:
    """How many samples have no response; they are in no metric."""
    return sum(error_of(result) is not None for result in results)


METRIC_LIST = [
    {
        "metric": f"{metric}/{row}",
        "aggregation": partial(aggregate, metric),
        "higher_is_better": METRICS[metric].higher_is_better,
    }
    for metric in ASKED
    for row in ROWS
] + [{"metric": FAILED, "aggregation": count_failed, "higher_is_better": False}]
