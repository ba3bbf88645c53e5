"""One run of a real engine over every bad record and every bad image at once: read = predicted + failed.

bash scripts/test.sh faults tests/robustness/test_bad_input_run.py      # about two minutes
"""

import json
import re
from collections import Counter

import pytest
from PIL import Image

from inference.runs.shards import read_results, shard_path
from tests.corpora.bad_images import IMAGE_CASES, write_images
from tests.corpora.bad_records import IMAGE, RECORD_CASES, a_record, as_line, with_json, write_cases
from tests.helpers.commands import TOY_CHECKPOINT, TOY_PIXELS, read_jsonl, run

pytestmark = pytest.mark.faults

# Prompts that only the engine can refuse: the records are in order.
PROMPTS = {"a prompt of 100,000 words": "fear " * 100_000}


def image_record(case):
    turns = [{"role": "user", "content": [{"type": "image", "image": case.name}, {"type": "text", "text": "Which?"}]}]
    return a_record(id=f"image {case.name}", conversations=turns)


def prompt_record(name):
    items = [{"type": "image", "image": IMAGE}, {"type": "text", "text": PROMPTS[name]}]
    return a_record(id=name, conversations=[{"role": "user", "content": items}])


def outcome(case):
    """What an image's error must name; None for an image that is good, EITHER for one that may be."""
    return EITHER if case.exact_or_error else "field 'image'" if case.pixels is None else None


EITHER = "either"
# What the error of each line must have, in the file's order; None: the line is answered.
OUTCOMES = [
    None,  # write_cases puts a good record first
    *(case.field and f"field '{case.field}'" for case in RECORD_CASES),
    *map(outcome, IMAGE_CASES),
    *("refused the request" for _ in PROMPTS),
]
TOTAL = len(OUTCOMES)
BAD = {number: told for number, told in enumerate(OUTCOMES, 1) if told not in (None, EITHER)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with every image, and a data file with every record case, every image, every prompt."""
    folder = write_images(tmp_path_factory.mktemp("bad input"))
    Image.new("RGB", (84, 84), "orange").save(folder / IMAGE)
    data = write_cases(folder / "data.jsonl")
    with open(data, "ab") as lines:
        for row in [*map(image_record, IMAGE_CASES), *map(prompt_record, PROMPTS)]:
            lines.write(b"\n" + as_line(row))
    return data


@pytest.fixture(scope="module")
def inferred(world, tmp_path_factory):
    """(output folder, the process that inferred)."""
    output = tmp_path_factory.mktemp("run")
    done = run(
        "-m", "inference.inference_vllm", "--data_path", world, "--output_path", output, "--checkpoint", TOY_CHECKPOINT,
        "--engine", "transformers", "--temperature", "0", "--max_new_tokens", "24", *TOY_PIXELS,
    )  # fmt: skip
    return output, done


def test_every_line_is_answered_or_an_error_that_names_line_and_field(inferred):
    output, done = inferred
    results = {result["position"] + 1: result for result in read_results(shard_path(output, 0, 1))}
    assert sorted(results) == list(range(1, TOTAL + 1))
    failed = {number: result["error"] for number, result in results.items() if "error" in result}
    assert {number for number in failed if OUTCOMES[number - 1] != EITHER} == set(BAD)
    for number, error in failed.items():
        assert re.search(rf"\bline {number}\b", error), error
        assert BAD.get(number, "field 'image'") in error
        assert error.isprintable() and len(error) < 1200
    answered = TOTAL - len(failed)
    assert f"read {TOTAL} = predicted {answered} (0 of them before) + failed {len(failed)}" in done.stderr
    assert all(isinstance(result["response"], str) for number, result in results.items() if number not in failed)
    assert len({result["sample_id"] for result in results.values()}) == TOTAL
    assert "Traceback" not in done.stderr


def test_evaluation_counts_the_same_and_its_report_is_made(inferred, world):
    output, _ = inferred
    errors = sum("error" in result for result in read_results(shard_path(output, 0, 1)))
    run("-m", "inference.evaluate", "--output_path", output, "--data_path", world, "--n_resamples", "20")
    counts = json.loads((output / "metrics.json").read_text())["counts"]
    assert counts == {"read": TOTAL, "predicted": TOTAL - errors, "failed": errors}
    failed = read_jsonl(output / "error.jsonl")
    assert len(failed) == errors and all(isinstance(result["error"], str) for result in failed)
    assert len(read_jsonl(output / "merged.jsonl")) == counts["predicted"]
    run("-m", "inference.report", "--output_path", output, "--data_path", world, "--processes", "1")
    page = (output / "report.html").read_text(encoding="utf-8")
    samples = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["samples"]
    assert len(samples) == TOTAL
    assert Counter("error" in sample for sample in samples)[True] == errors


def test_check_data_finds_every_bad_row_and_keeps_all(world, tmp_path):
    done = run(
        "-m", "scripts.data.check", world, "--processes", "1", "--fix", "--output_dir", tmp_path, check=False
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    good, bad = read_jsonl(tmp_path / "data.good.jsonl"), read_jsonl(tmp_path / "data.bad.jsonl")
    assert len(good) + len(bad) == TOTAL
    assert f" {TOTAL} " in next(line for line in done.stdout.splitlines() if line.startswith("all "))
    named = {row["line"] for row in bad}
    assert {number for number, told in BAD.items() if told in ("field 'image'", "field '(line)'")} <= named
    assert all(reason.isprintable() for row in bad for reason in row["reasons"])


@pytest.mark.parametrize("form", ["swift", "verl"])
def test_convert_writes_or_names_every_row(world, tmp_path, form):
    """ms-swift's rows need an answer, which test records do not have: there all fail, and all are named."""
    target = tmp_path / ("rows.parquet" if form == "verl" else "rows.jsonl")
    done = run("-m", "scripts.data.convert", form, world, target, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    read, written, failed = map(int, re.search(r"read (\d+) = written (\d+) \+ failed (\d+)", done.stdout).groups())
    assert read == TOTAL == written + failed
    assert len(read_jsonl(f"{target}.errors.jsonl")) == failed
    assert (written > 100) == (form == "verl")


def test_predict_names_every_bad_image_and_answers_the_others(world):
    names = [case.name for case in IMAGE_CASES if case.pixels is None] + [IMAGE, IMAGE]
    paths = [world.parent / name for name in names]
    done = run("-m", "inference.predict", *paths, "--json", "--max_new_tokens", "8", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in line for line in lines] == [True] * (len(names) - 2) + [False] * 2
    assert all(str(path) == line["image"] for path, line in zip(paths, lines, strict=True))


def test_resuming_infers_nothing_twice_and_keeps_the_counts(inferred, world, tmp_path):
    """The failures are tried again, and fail again; what was answered is not asked."""
    output, _ = inferred
    before = {result["sample_id"]: result for result in read_results(shard_path(output, 0, 1))}
    done = run(
        "-m", "inference.inference_vllm", "--data_path", world, "--output_path", output, "--checkpoint", TOY_CHECKPOINT,
        "--engine", "transformers", "--temperature", "0", "--max_new_tokens", "24", *TOY_PIXELS,
    )  # fmt: skip
    answered = sum("error" not in result for result in before.values())
    assert f"predicted {answered} ({answered} of them before)" in done.stderr
    assert {result["sample_id"]: result for result in read_results(shard_path(output, 0, 1))} == before


def test_a_file_of_nothing_but_bad_lines_ends_well_and_starts_no_engine(tmp_path):
    data = tmp_path / "data.jsonl"
    bad = [case.line for case in RECORD_CASES if case.field is not None]
    data.write_bytes(b"\n".join([with_json(a_record(), ("task",), "7"), *bad]))
    done = run(
        "-m", "inference.inference_vllm", "--data_path", data, "--output_path", tmp_path / "run",
        "--checkpoint", TOY_CHECKPOINT, "--engine", "transformers",
    )  # fmt: skip
    assert f"read {len(bad) + 1} = predicted 0 (0 of them before) + failed {len(bad) + 1}" in done.stderr
