"""What a report shows of a run: its metrics, its facts in a line, and its samples with images, answers, reasoning."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from inference.common.json_lines import decode_line, read_lines
from inference.common.redaction import redact
from inference.data.images import ImageSource
from inference.data.layouts import image_of, images_of
from inference.data.records import content_id
from inference.data.replacement import SHOWN
from inference.data.response import REASONING_STEPS, reasoning_steps
from inference.data.vecbench import GROUPS, TASKS, canonical_task, group_of
from inference.metrics.prediction_table import SOURCES, VERBALIZED
from inference.metrics.results import Results
from inference.report.html import THUMBNAIL_BLOCK
from inference.report.thumbnails import make_thumbnails

MAX_SHOWN = 200  # characters of an image's path


class ReportError(Exception):
    """A run that cannot be reported on; the message says what is missing."""


def read_metrics(folder: Path) -> dict[str, Any]:
    """What evaluation wrote into metrics.json.

    Raises:
        ReportError: when it is not there or no JSON object.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        again = f"evaluate the run first: python -m inference.evaluate --output_path {folder}"
        raise ReportError(f"{path}: {error.strerror}; {again}") from None
    except ValueError as error:
        raise ReportError(f"{path}: expected the JSON that evaluation writes, {error}") from None
    if not isinstance(metrics, dict):
        raise ReportError(f"{path}: expected a JSON object, got {type(metrics).__name__}")
    return metrics


def read_failures(path: Path) -> list[dict[str, Any]]:
    """The samples of error.jsonl; a line that is none is a failure, too."""
    if not path.exists():
        return []
    return [
        value if isinstance(value, dict) else {"error": problem or "expected an object", "line": number}
        for number, value, problem in read_lines(path)
    ]


def _common(result: dict[str, Any]) -> dict[str, Any]:
    """What a sample with and one without a response have: id, task, label, candidates, images, place in the data."""
    labels, task, truth = result.get("candidates"), result.get("task"), result.get("ground_truth")
    position = result.get("position")
    further = [_shown(image) for image in images_of(result)[1:]]
    return {
        "id": str(result.get("sample_id") or result.get("id") or content_id(result)),
        "position": position if isinstance(position, int) else sys.maxsize,
        "task": canonical_task(task) if isinstance(task, str) else "(no task)",
        "truth": truth if isinstance(truth, str) else "",
        "candidates": [str(label) for label in labels] if isinstance(labels, list) else [],
        "image": image_of(result),
    } | ({"further": further} if further else {})


def _shown_votes(votes: dict[str, float], answer: str) -> dict[str, Any]:
    """The labels that have votes with their shares, the largest first, and the answer's share."""
    shares = sorted(votes.items(), key=lambda item: -item[1])
    return {
        "votes": [[label, round(share, 6)] for label, share in shares if share],
        "voteShare": round(votes.get(answer, 0.0), 6),
    }


def answered_samples(results: Results) -> list[dict[str, Any]]:
    """One object per response, read by the corrected protocol as ``prediction_table`` has it."""
    columns = ("label", "confidence", "truth", "published_label", "well_formed", "replaced", "votes", "statements")
    others = {name: results.table[column] for name, (_, column) in SOURCES.items() if name != VERBALIZED}
    rows = zip(results.lines(), *(results.table[name] for name in columns), *others.values(), strict=True)
    samples = []
    for line, label, confidence, truth, published, well_formed, replaced, votes, statements, *values in rows:
        result, _ = decode_line(line)
        found = reasoning_steps(result["response"])
        samples.append(
            _common(result)
            | {
                "answer": label,
                "published": published,
                "correct": int(label == truth),
                "confidence": None if confidence != confidence else float(confidence),
                "others": {name: float(value) for name, value in zip(others, values, strict=True) if value == value},
                "malformed": not well_formed,
                "steps": [found.get(step) for step in REASONING_STEPS],
                "response": result["response"],
                "finish": str(result.get("finish_reason") or ""),
            }
            | ({} if votes is None else _shown_votes(votes, label))
            | ({} if replaced is None else {"shown": _shown(result.get("image_shown") or SHOWN[replaced])})
            | ({} if statements is None else {"statements": [s._asdict() for s in statements if s.verdict != "true"]})
        )
    return samples


def failed_samples(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One object per sample without a usable response."""
    samples = []
    for result in failures:
        response = result.get("response")
        text = response if isinstance(response, str) else ""
        samples.append(_common(result) | {"error": str(result.get("error") or "no response"), "response": text})
    return samples


def _shown(reference: Any) -> str:
    """An image's path or URL as the page names it."""
    text = str(reference)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def attach_images(
    samples: list[dict[str, Any]], source: ImageSource, size: int | None, kept: Path, processes: int
) -> list[str]:
    """Give each sample the index of its image's small copy, or why it has none; returns the copies, as data URLs.

    Args:
        size: pixels per side; None leaves images out.
        kept, processes: as ``make_thumbnails``.

    Raises:
        OSError: when ``kept`` cannot be written.
    """
    found = None
    if size is not None:
        references = [sample["image"] for sample in samples if sample["image"] is not None]
        found = make_thumbnails(source, references, size, kept, processes)
    index: dict[str, int] = {}
    for sample in samples:
        reference = sample["image"]
        result = found.get(reference) if found is not None and reference is not None else None
        if isinstance(result, str):
            sample["thumbnail"] = index.setdefault(result, len(index))
        elif found is not None:
            sample["problem"] = redact(str(result)) if result else "the record names no image"
        if reference is not None:
            sample["image"] = _shown(reference)
    return list(index)


def browser_data(samples: list[dict[str, Any]], n_total: int, whose: str) -> dict[str, Any]:
    """What the page's script reads: samples, and the tasks that it filters by, in VECBench's order.

    Args:
        whose: words before ``n_total`` where not all samples are shown.
    """
    labels: dict[tuple[str, ...], int] = {}
    for sample in samples:
        sample["candidates"] = labels.setdefault(tuple(sample["candidates"]), len(labels))
        del sample["position"]
    names = dict.fromkeys(sample["task"] for sample in samples)
    ordered = [name for name in TASKS if name in names] + [name for name in names if name not in TASKS]
    return {
        "samples": samples,
        "candidates": list(labels),
        "tasks": [{"name": name, "group": group_of(name)} for name in ordered],
        "groups": [group for group in GROUPS if any(group_of(name) == group for name in ordered)],
        "steps": REASONING_STEPS,
        "total": n_total,
        "whose": whose,
        "thumbnailBlock": THUMBNAIL_BLOCK,
    }


def facts_line(folder: Path, metrics: dict[str, Any], models: list[str]) -> str:
    """Who answered, how many samples, which run it was, when it was evaluated."""
    parts = [f"Model: {', '.join(models)}"] if models else []
    if counts := metrics.get("counts"):
        parts.append("{read} samples read = {predicted} predicted + {failed} failed".format(**counts))
    if run := metrics.get("run"):
        parts.append(run["summary"])
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / "metrics.json").stat().st_mtime))
    return " · ".join([*parts, f"evaluated {day}"])
