"""The toy world: its closed forms against counting, its files, its tiny model."""

import hashlib
import itertools
import json
import math
import random
from collections import Counter

import pytest
from PIL import Image

from inference.data.records import read_records
from inference.data.response import REASONING_STEPS, read_response, reasoning_steps
from inference.data.vecbench import TASKS
from scripts.toy_world import world
from scripts.toy_world.draw import SIZE, draw_scene
from scripts.toy_world.text import chain_of_thought, taught_confidence
from tests.helpers.commands import REPO, TOY_CHECKPOINT, read_jsonl, run
from tests.helpers.forked import run_forked


def all_cues():
    for values in itertools.product(*world.CUES.values()):
        yield dict(zip(world.CUES, values, strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_every_label_of_a_task_has_emotions_behind_it(task):
    behind = world.emotions_behind(task)
    assert tuple(behind) == TASKS[task].labels
    assert all(emotion in world.PROTOTYPES for emotions in behind.values() for emotion in emotions)


def test_no_two_emotions_of_a_task_look_alike_but_fear_and_horror():
    assert world.PROTOTYPES["fear"] == world.PROTOTYPES["horror"]  # never in one task
    looks = Counter(tuple(look.values()) for look in world.PROTOTYPES.values())
    assert sorted(looks.values())[-2:] == [1, 2]


def test_the_likelihood_of_all_cue_combinations_sums_to_one():
    assert math.isclose(sum(world._likelihood(cues, "zest") for cues in all_cues()), 1.0)


@pytest.mark.parametrize("task", ["FI-2", "EmoSet-8", "WebEmo-25"])
def test_the_posterior_is_what_counting_samples_gives(task):
    rng = random.Random(7)
    right = 0
    stated = []
    for _ in range(6000):
        label, cues = world.sample(task, rng)
        probability = world.posterior(task, cues)
        assert math.isclose(sum(probability.values()), 1.0)
        best = max(probability, key=probability.get)
        stated.append(probability[best])
        right += best == label
    # Both estimate the Bayes rate; 6,000 samples have a standard error below 0.7 points.
    assert right / 6000 == pytest.approx(world.best_possible_accuracy(task), abs=0.025)
    assert sum(stated) / 6000 == pytest.approx(world.best_possible_accuracy(task), abs=0.02)


def test_the_taught_confidence_is_overconfident_on_average():
    rng = random.Random(1)
    gaps = []
    for _ in range(2000):
        label, cues = world.sample("EmoSet-8", rng)
        confidence = taught_confidence("EmoSet-8", label, cues, rng)
        assert 0.05 <= confidence <= 0.99
        gaps.append(confidence - world.posterior("EmoSet-8", cues)[label])
    assert sum(gaps) / len(gaps) > 0.05


@pytest.mark.parametrize("task", TASKS)
def test_a_chain_of_thought_has_five_steps_and_answers_its_label(task):
    rng = random.Random(task)
    for _ in range(50):
        label, cues = world.sample(task, rng)
        response = chain_of_thought(task, label, cues, rng)
        assert list(reasoning_steps(response)) == list(REASONING_STEPS)
        assert read_response(response, TASKS[task].labels).label == label


@pytest.mark.parametrize("style", ["plain", "abstract", "art", "unbiased"])
def test_each_cue_changes_the_picture(style):
    base = {cue: values[0] for cue, values in world.CUES.items()}
    first = draw_scene(base, style, random.Random(0))
    assert first.size == (SIZE, SIZE) and first.mode == "RGB"
    for cue, values in world.CUES.items():
        for value in values[1:]:
            assert draw_scene({**base, cue: value}, style, random.Random(0)).tobytes() != first.tobytes()


def test_test_records_are_valid_and_cover_all_tasks_alike(toy_data):
    records = list(read_records(toy_data))
    assert Counter(record.task for record in records) == {task: 4 for task in TASKS}
    for record in records:
        assert record.candidates == list(TASKS[record.task].labels)
        assert "toy world" in record.raw["notice"]
        with Image.open(toy_data.parent / record.image) as image:
            assert image.size == (SIZE, SIZE)


def test_generation_depends_neither_on_processes_nor_on_the_number_asked_for(tmp_path):
    def digest(folder):
        files = sorted(path for path in folder.rglob("*.png"))
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    for name, count, processes in (("a", 30, 1), ("b", 20, 2)):
        run(
            "-m", "scripts.toy_world.generate", "--output_dir", tmp_path / name, "--stage2", count,
            "--processes", processes, "--seed", "5",
        )  # fmt: skip
    rows_a, rows_b = (read_jsonl(tmp_path / name / "stage2.jsonl") for name in "ab")
    assert [row["messages"] for row in rows_a[:20]] == [row["messages"] for row in rows_b]
    assert digest(tmp_path / "a")[:20] == digest(tmp_path / "b")


def test_training_files_show_no_out_of_distribution_task(tmp_path):
    run(
        "-m",
        "scripts.toy_world.generate",
        "--output_dir",
        tmp_path,
        "--stage1",
        "60",
        "--stage2",
        "60",
        "--stage3",
        "60",
    )
    for stage in ("stage1", "stage2", "stage3"):
        rows = read_jsonl(tmp_path / f"{stage}.jsonl")
        assert {TASKS[row["task"]].group for row in rows} <= {"ID VER", "ID VSA"}
        roles = [message["role"] for message in rows[0]["messages"]]
        assert roles == (["user"] if stage == "stage3" else ["user", "assistant"])
        assert ("<confidence>" in rows[0]["messages"][-1]["content"]) == (stage != "stage1")


def test_the_shipped_checkpoint_is_small_safe_and_labelled():
    size = sum(path.stat().st_size for path in TOY_CHECKPOINT.iterdir())
    assert size < 5_000_000
    assert not list(TOY_CHECKPOINT.glob("*.bin")) and not list(TOY_CHECKPOINT.glob("*.py"))
    assert (TOY_CHECKPOINT / "notice.txt").read_text().startswith("toy model")
    text = (TOY_CHECKPOINT / "config.json").read_text()
    assert json.loads(text)["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert "_name_or_path" not in text  # the folder that it was trained in is nobody's business


def test_the_tokenizer_writes_any_text_and_has_one_token_a_tag():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOY_CHECKPOINT)
    for text in ("<think><element>é 😀\n\t</element>", "the quick brown fox", "0.85"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    for tag in ("<think>", "</confidence>", "<|image_pad|>"):
        assert len(tokenizer(tag)["input_ids"]) == 1
    config = json.loads((TOY_CHECKPOINT / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == len(tokenizer)


def test_the_report_refuses_results_that_are_not_from_the_toy_world(tmp_path):
    golden = REPO / "tests" / "golden" / "records.jsonl"
    run_forked("-m", "inference.evaluate", "--input_file", golden, "--output_dir", tmp_path, "--no_plots", "--quiet")
    done = run_forked("-m", "scripts.toy_world.report", "--output_path", tmp_path, check=False)
    assert done.returncode != 0
    assert "expected toy-world results" in done.stderr
