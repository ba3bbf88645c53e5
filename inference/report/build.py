"""One file that shows a run: its tables, its plots, and every sample with image, reasoning and answer.

    python -m inference.report --output_path infer_results/my_run --data_path input_data/test_8k.jsonl

Reads the folder of an evaluated run (``metrics.json``, ``merged.jsonl``, ``error.jsonl``, ``*.png``)
and writes ``report.html`` there. The file opens from disk and needs no network: images are small
copies inside it, and its policy lets nothing but its own script run. ``--data_path``, by default the
run's data file, is where relative image paths start; an image that is not found is shown as such.
``thumbnails.json`` keeps the small copies, so that a second report decodes no image again.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inference.common.json_lines import decode_line, read_lines
from inference.common.redaction import redact
from inference.common.storage import explain
from inference.common.terminal import plain_output
from inference.data.images import ImageError, ImageSource, add_image_root_argument, data_images
from inference.data.replacement import SHOWN
from inference.data.response import REASONING_STEPS, reasoning_steps
from inference.data.vecbench import GROUPS, TASKS, canonical_task, content_id, group_of, image_of, images_in
from inference.metrics.prediction_table import SOURCES, VERBALIZED
from inference.metrics.results import Results, read_file
from inference.report.tables import PAGE, TEMPLATES, plots_in, tables_html
from inference.report.thumbnails import make_thumbnails
from inference.runs.folder import RunChanged, read_run
from inference.runs.shards import atomic_write

SCRIPTS = ("sample.js", "page.js")  # in the order in which they run
THUMBNAIL_BLOCK = 200  # small copies in one script element: the page decodes a block when it shows one of it
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
    """What a sample with and one without a response have: id, task, label, candidates, image, place in the data."""
    labels, task, truth = result.get("candidates"), result.get("task"), result.get("ground_truth")
    position = result.get("position")
    return {
        "id": str(result.get("sample_id") or result.get("id") or content_id(result)),
        "position": position if isinstance(position, int) else sys.maxsize,
        "task": canonical_task(task) if isinstance(task, str) else "(no task)",
        "truth": truth if isinstance(truth, str) else "",
        "candidates": [str(label) for label in labels] if isinstance(labels, list) else [],
        "image": image_of(result),
    }


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


def attach_images(samples: list[dict[str, Any]], found: dict[str, str | ImageError] | None) -> list[str]:
    """Give each sample the index of its small copy, or why it has none; returns the copies."""
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


def browser_data(samples: list[dict[str, Any]], n_total: int) -> dict[str, Any]:
    """What the page's script reads: samples, and the tasks that it filters by, in VECBench's order."""
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
        "thumbnailBlock": THUMBNAIL_BLOCK,
    }


def _source_hash(text: str) -> str:
    """A Content-Security-Policy source: the SHA-256 of an inline element's text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def page_html(
    title: str, facts: str, metrics: dict[str, Any], plots: Iterable[dict[str, Any]], data: dict, small: list[str]
) -> str:
    """The whole file. Its policy names our own style and script by hash: nothing else runs, nothing is fetched."""
    style = (PAGE / "page.css").read_text(encoding="utf-8")
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    page = TEMPLATES.get_template("page.html").render(
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
        title=title,
        facts=facts,
        notices=[*metrics.get("notices", []), *metrics.get("doubts", [])],
        tables=tables_html(metrics),
        plots=list(plots),
        data=data,
        has_facts=any("statements" in sample for sample in data["samples"]),
        thumbnails=[small[start : start + THUMBNAIL_BLOCK] for start in range(0, len(small), THUMBNAIL_BLOCK)],
        style=style,
        script=script,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half a character of a name becomes a question mark


def facts_line(folder: Path, metrics: dict[str, Any], models: list[str]) -> str:
    """Who answered, how many samples, which run it was, when it was evaluated."""
    parts = [f"Model: {', '.join(models)}"] if models else []
    if counts := metrics.get("counts"):
        parts.append("{read} samples read = {predicted} predicted + {failed} failed".format(**counts))
    if run := metrics.get("run"):
        parts.append(run["summary"])
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / "metrics.json").stat().st_mtime))
    return " · ".join([*parts, f"evaluated {day}"])


def make_report(
    folder: Path, source: ImageSource, thumbnail_size: int | None, processes: int, max_samples: int
) -> tuple[Path, int]:
    """Write report.html into a run's folder; returns its path and the number of samples in it.

    Args:
        thumbnail_size: pixels per side; None leaves images out.
        max_samples: of a longer run, the first so many samples are in the browser, and it says so.

    Raises:
        ReportError: when the run was not evaluated.
        OSError: when a file cannot be read or written.
    """
    metrics = read_metrics(folder)
    if not (folder / "merged.jsonl").exists():
        raise ReportError(f"{folder / 'merged.jsonl'}: no such file; evaluate the run first")
    results = read_file(folder / "merged.jsonl")
    failures = results.failed + read_failures(folder / "error.jsonl")
    n_total = len(results.table) + len(failures)
    results.table = results.table.head(max_samples)
    samples = answered_samples(results) + failed_samples(failures[:max_samples])
    samples = sorted(samples, key=lambda sample: sample["position"])[:max_samples]
    found = None
    if thumbnail_size is not None:
        references = [sample["image"] for sample in samples if sample["image"] is not None]
        found = make_thumbnails(source, references, thumbnail_size, folder / "thumbnails.json", processes)
    small = attach_images(samples, found)
    data = browser_data(samples, n_total)
    facts = facts_line(folder, metrics, results.models)
    page = page_html(folder.resolve().name, facts, metrics, plots_in(folder), data, small)
    with atomic_write(folder / "report.html") as handle:
        handle.write(page)
    return folder / "report.html", len(samples)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output_path", type=Path, required=True, help="the folder of an evaluated run")
    add("--data_path", type=Path, help="the data file: relative image paths start in its folder; default: the run's")
    add_image_root_argument(parser)
    add("--thumbnail_size", type=int, default=128, help="pixels per side of the small copies (16 to 1024)")
    add("--no_thumbnails", action="store_true", help="leave the images out")
    add("--processes", type=int, default=len(os.sched_getaffinity(0)), help="that decode images")
    add("--allow_url", action="store_true", help="fetch images that are http(s) URLs, while the report is made")
    add("--allow_private_url", action="store_true", help="also from this machine and private networks")
    add("--max_samples", type=int, default=20_000, help="so many samples in the browser; tables are of all")
    args = parser.parse_args()
    if not 16 <= args.thumbnail_size <= 1024:
        parser.error(f"expected --thumbnail_size from 16 to 1024, got {args.thumbnail_size}")
    if args.max_samples < 1:
        parser.error(f"expected --max_samples of at least 1, got {args.max_samples}")
    if args.data_path and not args.data_path.is_file():
        parser.error(f"--data_path: no such file: {args.data_path}")
    return args


def run_images(args: argparse.Namespace) -> ImageSource:
    """The images of the data file that ``--data_path``, else ``run.json``, names; they start in its folder."""
    permissions = {"allow_url": args.allow_url, "allow_private_url": args.allow_private_url}
    run = read_run(args.output_path) or {}
    data_path = args.data_path or Path(run.get("files", {}).get("data_path", ""))
    if not data_path.is_file():
        print(f"no --data_path: relative image paths start in the working directory, {Path.cwd()}", file=sys.stderr)
        return ImageSource([*args.image_root, Path.cwd()], **permissions)
    return data_images(data_path, images_in(data_path), args.image_root, **permissions)


def main() -> None:
    plain_output()
    args = parse_args()
    start = time.monotonic()
    size = None if args.no_thumbnails else args.thumbnail_size
    try:
        read_metrics(args.output_path)  # a folder that was not evaluated needs no word about images
        source = run_images(args)
        path, n_samples = make_report(args.output_path, source, size, args.processes, args.max_samples)
    except (ReportError, RunChanged, OSError) as error:
        sys.exit(f"no report: {explain(error)}")
    seconds, megabytes = time.monotonic() - start, path.stat().st_size / 1e6
    print(f"report: {path}")
    print(f"{n_samples} samples, {megabytes:.1f} MB, made in {seconds:.1f} s", file=sys.stderr)
