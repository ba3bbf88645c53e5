"""Runs for the tests of reports: one of VECBench's size, three of a few samples, one that attacks whoever looks at it.

All are made up: labels, responses and images are random or hostile, and carry a notice.
"""

import base64
import io
import json

import numpy as np
from PIL import Image

from inference.data.vecbench import TASKS
from tests.helpers.commands import read_jsonl, write_jsonl
from tests.helpers.forked import run_forked

NOTICE = "made up for a test: random labels, random images"
N_IMAGES = 1004  # eight samples share one, as tasks of one source do
STEPS = ("element", "human", "context", "interaction", "analysis")
WORDS = ["light", "street", "crowd", "shadow", "smile", "grey", "water", "child", "storm", "quiet", "window", "road"]

SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = "<img src=x onerror=window.hacked=1>"
CLOSING = f"</script>{SCRIPT}<!--<script>"
TASK = f"{IMAGE}{CLOSING}\"'&amp;"
TRUTH = 'awe" onmouseover="window.hacked=1'


def response(words, answer, confidence):
    steps = "".join(f"<{name}>{' '.join(words[i::5])}.</{name}>" for i, name in enumerate(STEPS))
    stated = "" if confidence is None else f"<confidence>{confidence}</confidence>"
    return f"<think>{steps}</think><answer>{answer}</answer>{stated}"


def write_images(folder, count):
    """Noise of 48 × 48 pixels: small files, none like the other."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(
            folder / f"{i}.png", compress_level=1
        )


def vecbench_sized(folder):
    """(run folder, data file): VECBench's tasks in their numbers; 7 samples failed, one in 50 has no confidence."""
    random = np.random.default_rng(0)
    write_images(folder / "data" / "images", N_IMAGES)
    records, results = [], []
    for task in TASKS.values():
        for _ in range(task.n_test):
            number = len(records)
            truth, wrong = random.choice(task.labels, 2, replace=False)
            confidence = None if number % 50 == 7 else round(float(random.beta(4, 2)), 2)
            right = random.random() < (confidence or 0.5)
            words = [*random.choice(WORDS, 90), *(["zebra"] if number % 1000 == 3 else [])]
            record = {
                "id": f"s-{number}", "image": f"images/{number % N_IMAGES}.png", "task": task.name,
                "ground_truth": str(truth), "candidates": list(task.labels), "notice": NOTICE,
            }  # fmt: skip
            records.append(record)
            known = {"sample_id": f"s-{number}", "position": number, "model": "a-model"}
            if number % 1147 == 5:
                results.append({**record, **known, "error": "the engine returned nothing"})
            else:
                text = response(words, truth if right else wrong, confidence)
                results.append({**record, **known, "response": text, "answer_log_probability": -0.25})
    data = write_jsonl(folder / "data" / "test.jsonl", records)
    shard = write_jsonl(folder / "results.jsonl", results)
    command = ("-m", "inference.evaluate", "--input_file", shard, "--output_dir", folder / "run", "--quiet")
    run_forked(*command, "--no_plots", "--n_resamples", "0")
    return folder / "run", data


def further_runs(folder, number):
    """Run folders: the samples of ``vecbench_sized(folder)``, answered otherwise, by better models each time."""
    results, folders = read_jsonl(folder / "results.jsonl"), []
    for i in range(number):
        random = np.random.default_rng(i + 1)
        rows = []
        for result in results:
            confidence = round(float(random.beta(4, 2)), 2)
            right = random.random() < 0.5 + 0.04 * i
            answer = result["ground_truth"] if right else random.choice(result["candidates"])
            text = response([*random.choice(WORDS, 90)], answer, confidence)
            rows.append({**result, "model": f"model {i}", "response": text} if "response" in result else result)
        shard = write_jsonl(folder / f"results {i}.jsonl", rows)
        folders.append(folder / f"run {i}")
        command = ("-m", "inference.evaluate", "--input_file", shard, "--output_dir", folders[-1], "--quiet")
        run_forked(*command, "--no_plots", "--n_resamples", "0")
    return folders


def voted_results():
    """Twenty answers of one kind, three of four people of another opinion; a further response each."""
    record = {"task": "EmoSet-8", "ground_truth": "awe", "candidates": ["awe", "fear", "joy"], "notice": NOTICE}
    votes = {"awe": 5, "fear": 15, "joy": 0}
    return [
        {**record, "sample_id": f"s-{number}", "image": f"{number}.png", "label_votes": votes,
         "response": response(WORDS, "awe", 0.5 + number / 50), "other_responses": ["<answer>awe</answer>"]}
        for number in range(20)
    ]  # fmt: skip


def three_stages(folder):
    """(run folders, data file): 36 samples of three tasks; each stage says words of its own.

    stage1 answers the first candidate; stage2 is right in 30 of the 36; stage3 in all but the first sample of each
    task, where it is sure of the last candidate. The engine returned nothing for sample 5 of stage2, and stage1 never
    had the last sample.
    """
    write_images(folder / "data" / "images", 12)
    random = np.random.default_rng(0)
    records = []
    for task in ("FI-2", "EmoSet-8", "Artphoto-8"):
        for i in range(12):
            labels = list(TASKS[task].labels)
            record = {"id": f"{task}-{i}", "image": f"images/{i}.png", "task": task, "candidates": labels}
            records.append({**record, "ground_truth": str(random.choice(labels[:-1]))})
    folders = []
    for stage in ("stage1", "stage2", "stage3"):
        results = []
        for n, record in enumerate(records):
            truth, labels = record["ground_truth"], record["candidates"]
            answer, confidence = {
                "stage1": (labels[0], 0.9),
                "stage2": (labels[-1] if n % 6 == 0 else truth, 0.8),
                "stage3": (labels[-1] if n % 12 == 0 else truth, 0.99),
            }[stage]
            known = {"sample_id": record["id"], "position": n, "model": f"model of {stage}"}
            if (stage, n) == ("stage2", 5):
                results.append({**record, **known, "error": "the engine returned nothing"})
            elif (stage, n) != ("stage1", 35):
                words = [stage, *random.choice(WORDS, 20), *(["zebra"] if (stage, n) == ("stage2", 30) else [])]
                results.append({**record, **known, "response": response(words, answer, confidence)})
        shard = write_jsonl(folder / f"{stage}.jsonl", results)
        folders.append(folder / stage)
        command = ("-m", "inference.evaluate", "--input_file", shard, "--output_dir", folders[-1], "--quiet")
        run_forked(*command, "--no_plots", "--n_resamples", "20")
    return folders, write_jsonl(folder / "data" / "test.jsonl", records)


def hostile(folder):
    """(run folder, data file): script in every place that a name or a text can come from; odd images; other tasks."""
    images = folder / "data"
    write_images(images / "images", 2)
    strange = '"><img src=x onerror=window.hacked=1>.png'
    (images / strange).write_bytes((images / "images" / "0.png").read_bytes())
    (images / "torn.png").write_bytes((images / "images" / "1.png").read_bytes()[:400])
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "JPEG")
    embedded = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    candidates = ["awe", TRUTH, f"fear{SCRIPT}"]
    common = {
        "task": TASK,
        "ground_truth": TRUTH,
        "candidates": candidates,
        "notice": f"made up {SCRIPT}",
        "model": IMAGE,
    }
    said = response([CLOSING, "\u2028\u2029", IMAGE, "javascript:window.hacked=1", "<b>bold</b>"], "awe", 0.9)
    rows = [
        {**common, "sample_id": f"id{CLOSING}", "image": strange, "response": said},
        {**common, "sample_id": "embedded", "image": embedded, "response": f"{said}\udc80 \x00 end"},
        {**common, "sample_id": "torn", "image": "torn.png", "response": CLOSING},
        {**common, "sample_id": "missing", "image": "no-such-file.png", "response": "<answer>awe</answer>"},
        {**common, "sample_id": "web", "image": "http://127.0.0.1:9/pixel.png", "response": "<answer>awe</answer>"},
        {**common, "sample_id": "imageless", "response": "<answer>awe</answer><confidence>high</confidence>"},
        {**common, "sample_id": "long", "image": "x" * 5000, "response": "y" * 3000, "task": "Long-" + "z" * 150},
        {**common, "sample_id": f"failed{SCRIPT}", "image": "images/1.png", "error": f"broken {IMAGE} {CLOSING}"},
        {"error": "not even an id"},
    ]  # fmt: skip
    output = folder / "run <b>&name"
    shard = folder / "results.jsonl"
    shard.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{torn\n", encoding="utf-8")
    run_forked(
        "-m",
        "inference.evaluate",
        "--input_file",
        shard,
        "--output_dir",
        output,
        "--quiet",
        "--no_plots",
        "--n_resamples",
        "20",
    )
    for name in ("reliability", IMAGE):
        Image.new("RGB", (900, 400), "lightblue").save(output / f"{name}.png")
    return output, write_jsonl(images / "test.jsonl", [])
