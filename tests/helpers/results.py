"""Made-up results for tests of evaluation."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from inference.common.json_lines import to_line
from inference.data.vecbench import TASKS
from inference.metrics.calibration import Tally
from inference.metrics.result_lines import read_lines
from inference.metrics.results import Results
from inference.runs.shards import ShardWriter

LOG_PROBABILITIES = ("mean_log_probability", "answer_log_probability")
STATED = [0.6, 0.7, 0.8, 0.9, 0.95]
THREE_TASKS = ["FI-2", "EmoSet-8", "Artphoto-8"]  # one per group
# Confidences and whether each is right: their Brier score is exactly 0.32675, half-way between two printed numbers.
HALF_WAY = ([0.05, 0.05, 0.15, 0.45, 0.5, 1.0, 0.15, 0.2, 0.65, 0.45], [0, 1, 0, 1, 1, 1, 1, 1, 1, 1])


def a_result(task="EmoSet-8", truth="awe", response="<answer>awe</answer>", **more):
    return {"task": task, "ground_truth": truth, "candidates": list(TASKS[task].labels), "response": response, **more}


def answer(label, confidence=None):
    return f"<answer>{label}</answer>" + ("" if confidence is None else f"<confidence>{confidence}</confidence>")


def results_of(tasks, n, seed=0, images=None):
    """n answered samples per task; the model is right two times out of three."""
    random = np.random.default_rng(seed)
    rows = []
    for task in tasks:
        labels = TASKS[task].labels
        for i in range(n):
            truth = str(random.choice(labels))
            said = truth if random.random() < 2 / 3 else str(random.choice(labels))
            text = f"<answer>{said}</answer><confidence>{random.choice(STATED)}</confidence>"
            image = f"{task}/{i}.jpg" if images is None else images(task, i)
            rows.append({"task": task, "ground_truth": truth, "candidates": list(labels), "image": image,
                         "response": text, "sample_id": f"{task}-{i}"})  # fmt: skip
    return rows


def overconfident(n=20_000, temperature=2.5, seed=0):
    """Answers that are right with the probability that their confidence has at a temperature."""
    generator = np.random.default_rng(seed)
    confidence = generator.choice(STATED, n)
    return confidence, (generator.random(n) < expit(logit(confidence) / temperature)).astype(int)


def improved(rows):
    """Every answer right, in the words of the first run otherwise."""
    return [{**row, "response": f"<answer>{row['ground_truth']}</answer>" + row["response"].split("</answer>")[1]}
            for row in rows]  # fmt: skip


def calibrated_sample(n, bias, seed=0, stated=None):
    """(confidence, correctness) of a model whose accuracy at confidence c is c − bias."""
    random = np.random.default_rng(seed)
    confidence = random.random(n) if stated is None else random.choice(stated, n)
    return confidence, (random.random(n) < np.clip(confidence - bias, 0, 1)).astype(int)


def score(metric, confidence, correctness, *more):
    """A metric of ``calibration`` of one confidence and one correctness per answer."""
    return float(metric(Tally.of(confidence, correctness), *more))


def results_in_memory(rows):
    """The rows as a file of them is read."""
    read = read_lines([to_line(row).encode() for row in rows])
    places = {"files": [Path("memory.jsonl")], "known": set(read.table["sample_id"])}
    return Results(read.table.assign(file=0), [], sorted(read.notices), sorted(read.models), read.candidates, **places)


def same_but_for_log_probabilities(results, expected):
    """All else is equal; batches of other sizes add float32 numbers in another order, which changes last digits."""
    for result, other in zip(results, expected, strict=True):
        for name in LOG_PROBABILITIES:
            assert result.get(name) == pytest.approx(other.get(name), abs=1e-5)
        assert {**result, **dict.fromkeys(LOG_PROBABILITIES)} == {**other, **dict.fromkeys(LOG_PROBABILITIES)}


def write_run(folder, results, n_shards=3):
    """The results as workers write them, in turns."""
    for index in range(n_shards):
        with ShardWriter(folder, index, n_shards) as writer:
            for position, result in enumerate(results):
                if position % n_shards == index:
                    writer.write({**result, "position": position})
