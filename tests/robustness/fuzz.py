"""Coverage-guided fuzzing of the parsers with atheris; every input must end as the tests say bad input ends.

    bash scripts/maintenance/fuzz.sh 120     # installs atheris beside the environment; all targets, 120 s each
    python tests/robustness/fuzz.py images CORPUS -max_total_time=60    # one; further words are libFuzzer's

Targets compare with the definitions of ``bad_responses`` and of the reward, or check what must hold for
any bytes: a record or an error with file, line and field; pixels or an ImageError; no line lost.
"""

import base64
import json
import math
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))

with atheris.instrument_imports(include=["inference", "scripts.data.samples", "train.cus_reward", "PIL"]):
    from inference.common.json_lines import NotJsonLines, decode_line
    from inference.data.images import FACTOR, ImageError, ImageSource, PixelBudget
    from inference.data.records import RecordError, parse_record
    from inference.data.response import read_response, tag_span
    from inference.metrics.results import REPEATED, read_file
    from scripts.data.samples import parse_sample
    from tests.corpora.bad_images import IMAGE_CASES
    from tests.corpora.bad_records import RECORD_CASES
    from tests.corpora.bad_responses import (
        LABELS,
        NOT_READ,
        RESPONSE_CASES,
        STEPS,
        corrected_by_definition,
        published_by_definition,
    )
    from tests.helpers.published_reward import published_procedure
    from train.cus_reward import MALFORMED, compute_score

BUDGET = PixelBudget(3136, 12544)
TAGS = [f"<{slash}{tag}>" for tag in ("think", "answer", "confidence", *STEPS) for slash in ("", "/")]


def as_text(data: bytes) -> str:
    """Any bytes as text, lone surrogates included."""
    return data.decode("utf-8", "surrogateescape")


def check(condition: bool, *told: object) -> None:
    if not condition:
        raise AssertionError(told)


def response(data: bytes) -> None:
    text = as_text(data)
    for candidates in (LABELS, ["Fear", "awe."]):
        reading = read_response(text, candidates)
        confidence = NOT_READ if reading.published_confidence_unreadable else reading.published_confidence
        published = (reading.published_label, reading.published_overall_label, confidence)
        check(published == published_by_definition(text, candidates), published)
        corrected = (reading.label, reading.confidence)
        check(corrected == corrected_by_definition(text, candidates), corrected)


def tag(data: bytes) -> None:
    text = as_text(data)
    for name in ("answer", "think", "a"):
        for newlines, flags in ((True, re.DOTALL), (False, 0)):
            match = re.search(f"<{name}>(.*?)</{name}>", text, flags)
            check(tag_span(text, name, newlines) == (match and match.span(1)), name, newlines)


def reward(data: bytes) -> None:
    truth, _, text = as_text(data).partition("\n")
    ours, defined = compute_score(text, truth), published_procedure(text, truth)
    check(ours.keys() == defined.keys() == MALFORMED.keys())
    for key, value in defined.items():
        check(math.isfinite(ours[key]) and math.isclose(ours[key], value, abs_tol=1e-12), key)


def record(data: bytes) -> None:
    value, problem = decode_line(data)
    if problem is not None:
        check(value is None and problem.isprintable() and len(problem) <= 300, problem)
        return
    for parse in (parse_record, parse_sample):
        try:
            parse(value, "f", 3)
        except RecordError as error:
            message = str(error)
            check(message.startswith("f, line 3, field '"), message)
            check(message.isprintable() and len(message) <= 400, message)


def images(data: bytes) -> None:
    url = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    try:
        image = ImageSource([], BUDGET).load(url)
    except ImageError as error:
        message = str(error)
        check(message.startswith("image data:image/png;base64,") and message.isprintable() and len(message) <= 500)
    else:
        check(image.mode == "RGB" and image.width % FACTOR == image.height % FACTOR == 0, image)
        # The processor's rule lets a strip of one token's height be longer than the budget.
        check(min(image.size) == FACTOR or image.width * image.height <= BUDGET.max_pixels, image)


_results = Path(tempfile.mkdtemp()) / "results.jsonl"


def results(data: bytes) -> None:
    _results.write_bytes(data)
    try:
        found = read_file(_results)
    except NotJsonLines:
        return
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    repeated = sum(int(doubt.split()[0]) for doubt in found.doubts if REPEATED in doubt)
    counts = len(found.table), len(found.failed), repeated, len(lines)
    check(sum(counts[:3]) == counts[3], counts)
    for line in found.lines():
        check(decode_line(line)[1] is None, line)
    check(all(isinstance(failure["error"], str) for failure in found.failed))


def golden() -> list[bytes]:
    return (REPO / "tests" / "golden" / "records.jsonl").read_bytes().splitlines()[:200]


def golden_responses() -> list[bytes]:
    return [json.loads(line)["response"].encode("utf-8", "surrogatepass") for line in golden()]


def wild_responses() -> list[bytes]:
    return [text.encode("utf-8", "surrogatepass") for text in RESPONSE_CASES.values() if len(text) < 3000]


# name → (what must hold, seeds, longest input in bytes)
TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]], int]] = {
    "response": (response, lambda: golden_responses() + wild_responses(), 4_000),
    "tag": (tag, lambda: golden_responses() + wild_responses(), 4_000),
    "reward": (reward, lambda: [b"awe\n" + text for text in golden_responses() + wild_responses()], 4_000),
    "record": (
        record,
        lambda: golden() + [case.line for case in RECORD_CASES if len(case.line) < 20_000],
        20_000,
    ),
    "images": (images, lambda: [case.content for case in IMAGE_CASES if len(case.content or b"") < 20_000], 20_000),
    "results": (results, lambda: [b"\n".join(golden()[i : i + 3]) for i in range(0, 90, 3)], 10_000),
}


def write_seeds(folder: Path, seeds: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds):
        if seed:
            (folder / f"seed_{i:04d}").write_bytes(seed)


def write_dictionary(path: Path) -> None:
    """Words that a mutation may put in: tags, labels, JSON's own words, the record's keys, chunk names."""
    words = [*TAGS, *LABELS, "0.5", "1e400", "NaN", "null", "[[[[", '{"a":', "\\ud800", "\\u0000"]
    words += ["conversations", "candidates", "ground_truth", "task", "content", "image", "IDAT", "tRNS", "eXIf", "iCCP"]
    escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode("utf-8")) for word in words)
    path.write_text("".join(f'"{word}"\n' for word in escaped), encoding="ascii")


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"expected one of {', '.join(TARGETS)} and a folder for its corpus; see the head of this file")
    target, seeds, longest = TARGETS[sys.argv[1]]
    corpus = Path(sys.argv[2])
    write_seeds(corpus, seeds())
    dictionary = corpus.with_suffix(".dict")
    write_dictionary(dictionary)
    options = [f"-max_len={longest}", f"-dict={dictionary}", "-timeout=30", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], str(corpus), *options, *sys.argv[3:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
