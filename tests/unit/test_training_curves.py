"""Stage 3's curves from small files of rollouts: honest, gamed and collapsed ones, as each verl writes them."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from inference.data.prompts import recognition_prompt
from inference.data.vecbench import TASKS
from scripts.training_curves import (
    BOUND_LEVEL,
    COLLAPSE,
    GAMING,
    chance_of,
    highest_accuracy,
    main,
    onsets,
    table,
    training_curves,
    warnings,
)
from tests.helpers.commands import write_jsonl
from tests.helpers.responses import response
from train.cus_reward import compute_score

STEPS, PROMPTS, RESPONSES = 14, 24, 4


def rollout(labels, truth, text, uid, with_fields=False):
    """A line as verl 0.9 writes it, or with the reward's fields and without ids, as before."""
    reward = compute_score(text, truth)
    line = {"input": f"user\n{recognition_prompt(labels)}\nassistant\n", "output": text, "gts": truth}
    return line | (reward if with_fields else {"score": reward["score"], "uid": uid})


def honest(posterior, step, random):
    """The likeliest label with its probability."""
    return posterior.argmax(), posterior.max()


def gaming(posterior, step, random):
    """From step 4 on ever more deliberate errors, with a confidence near 0."""
    deliberate = posterior.max() < 0.85 and random.random() < (step - 3) / 4
    return (posterior.argmin(), 0.01) if deliberate else honest(posterior, step, random)


def collapsing(posterior, step, random):
    return posterior.argmax(), 0.9 if random.random() < step / 4 else posterior.max()


def write_rollouts(folder, policy, steps=STEPS, with_fields=False):
    """Answers of a policy that knows the posterior of each image; one in twenty is malformed."""
    random = np.random.default_rng(0)
    (folder / "rollouts").mkdir(parents=True)
    for step in range(1, steps + 1):
        lines = []
        for prompt in range(PROMPTS):
            labels = random.choice(list(TASKS.values())).labels
            posterior = random.dirichlet(np.full(len(labels), 0.3))
            truth = labels[random.choice(len(labels), p=posterior)]
            for i in range(RESPONSES):
                answer, confidence = policy(posterior, step, random)
                text = response(labels[answer], f"{np.clip(confidence, 0.01, 0.99):.2f}")
                text = "no form" if random.random() < 0.05 else text
                lines.append(rollout(labels, truth, text, f"id-{step}-{prompt}_{i}_0", with_fields))
        write_jsonl(folder / "rollouts" / f"{step}.jsonl", lines)
    return folder


def test_an_honest_model_is_warned_of_nothing(tmp_path):
    curves = training_curves(write_rollouts(tmp_path, honest, steps=30))
    assert onsets(curves) == {} and warnings(curves) == []
    low = curves[curves["low_answers"] > 0]
    assert np.average(low["low_accuracy"], weights=low["low_answers"]) > low["low_chance"].mean()
    assert (curves["confidence_mean"] - curves["accuracy_formed"]).abs().mean() < 0.1


def test_a_label_of_digits_is_the_text_that_the_reward_has_compared(tmp_path):
    (tmp_path / "rollouts").mkdir()
    lines = [rollout(["1", "2", "3"], "2", response(said, 0.8), f"{i}_0_0") for i, said in enumerate("2213")]
    write_jsonl(tmp_path / "rollouts" / "1.jsonl", lines)
    assert training_curves(tmp_path).loc[1, "accuracy"] == 0.5


@pytest.mark.parametrize(("with_fields", "latest"), [(False, 9), (True, 12)])  # later where files name no prompt
def test_deliberate_errors_are_seen_while_they_set_in_and_not_before(tmp_path, with_fields, latest):
    curves = training_curves(write_rollouts(tmp_path, gaming, with_fields=with_fields))
    assert 4 <= onsets(curves)[GAMING] <= latest
    first = warnings(curves)[0]
    assert first.startswith(f"WARNING: {GAMING}: set in at step {onsets(curves)[GAMING]}: of ")
    assert "with a confidence below 0.3" in first and first.endswith(f"still so at step {STEPS}")
    assert curves.loc[STEPS, "very_low_share"] > 0.5


def test_both_generations_of_verls_files_give_the_same_curves(tmp_path):
    old, new = (training_curves(write_rollouts(tmp_path / str(kind), gaming, 4, kind)) for kind in (True, False))
    numbers = [column for column in old if column not in (GAMING, COLLAPSE)]
    pd.testing.assert_frame_equal(old[numbers], new[numbers])


def test_a_collapse_is_named_with_its_two_values(tmp_path):
    curves = training_curves(write_rollouts(tmp_path, collapsing))
    assert list(onsets(curves)) == [COLLAPSE]
    assert curves.loc[onsets(curves)[COLLAPSE], "top_two_share"] > 0.9
    assert "state a confidence of 0.9 or " in warnings(curves)[0]


def test_confidences_that_hardly_differ_are_a_collapse_whatever_their_number(tmp_path):
    near = iter(np.tile(np.arange(0.905, 0.955, 0.01), 10_000))
    curves = training_curves(write_rollouts(tmp_path, lambda posterior, *_: (posterior.argmax(), next(near)), steps=1))
    assert curves.loc[1, "distinct_confidences"] >= 5 and curves.loc[1, "top_two_share"] < 0.9
    assert onsets(curves) == {COLLAPSE: 1}


def test_what_has_passed_is_said_to_have_passed(tmp_path):
    def for_a_while(posterior, step, random):
        return (posterior.argmax(), 0.9) if step < 3 else honest(posterior, step, random)

    curves = training_curves(write_rollouts(tmp_path, for_a_while))
    (line,) = warnings(curves)
    assert "collapse: set in at step 1: " in line and line.endswith(f"no longer so at step {STEPS}")


def test_the_numbers_of_a_step_are_those_of_its_lines(tmp_path):
    labels = TASKS["EmoSet-8"].labels
    said = [("awe", "0.25"), ("fear", "0.05"), ("awe", "0.9"), ("fear", "0.9"), ("fear", "0.6")]
    lines = [rollout(labels, "awe", response(*words), f"a_{i}_0") for i, words in enumerate(said)]
    lines.append(rollout(labels, "awe", "no form", "a_5_0"))  # counts as no confidence at all
    (tmp_path / "rollouts").mkdir()
    write_jsonl(tmp_path / "rollouts" / "1.jsonl", lines)
    point = training_curves(tmp_path).loc[1]
    expected = {
        "responses": 6, "format_rate": 5 / 6, "accuracy": 2 / 6, "accuracy_formed": 2 / 5, "confidence_mean": 0.54,
        "low_answers": 2, "low_accuracy": 0.5, "low_chance": 1 / 8, "very_low_share": 1 / 5,
        "distinct_confidences": 4, "top_two_share": 3 / 5, GAMING: "", COLLAPSE: "",
    }  # fmt: skip
    assert {name: point[name] for name in expected} == pytest.approx(expected)


def test_many_wrong_answers_to_few_images_are_no_evidence(tmp_path):
    """An honest model that is wrong about three hard images, eighty times in all."""
    labels = TASKS["EmoSet-8"].labels
    lines = [rollout(labels, "awe", response("fear", "0.2"), f"{prompt}_{i}_0") for prompt in "abc" for i in range(27)]
    (tmp_path / "rollouts").mkdir()
    write_jsonl(tmp_path / "rollouts" / "1.jsonl", lines)
    assert GAMING not in onsets(training_curves(tmp_path))
    many = [{**line, "uid": f"id{i}_0_0"} for i, line in enumerate(lines)]
    write_jsonl(tmp_path / "rollouts" / "1.jsonl", many)
    assert GAMING in onsets(training_curves(tmp_path))


@pytest.mark.parametrize(("n", "right"), [(40, 0), (40, 3), (7, 7)])
def test_the_bound_is_the_exact_one_when_no_two_answers_are_to_one_image(n, right):
    answers = pd.DataFrame({"step": 1, "prompt": np.arange(n), "correctness": np.arange(n) < right})
    exact = binomtest(right, n, alternative="less").proportion_ci(BOUND_LEVEL, "exact").high
    assert highest_accuracy(answers) == pytest.approx(exact)
    thrice = pd.concat([answers] * 3)
    assert highest_accuracy(thrice) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("prompt", "label", "candidates"),
    [
        (recognition_prompt(TASKS["WebEmo-7"].labels), "joy", 7),
        ("Which feeling, one of ['Positive', 'Negative']? [Think first]", "positive", 2),
        ("Which feeling is it?", "joy", 25),
        ("Choose from [calm, tense]", "joy", 25),
    ],
)
def test_chance_is_that_of_the_candidates_that_the_prompt_lists(prompt, label, candidates):
    assert chance_of(prompt, label) == 1 / candidates


def test_a_file_that_verl_is_writing_is_left_out_and_a_broken_one_is_named(tmp_path):
    write_rollouts(tmp_path, honest, steps=3)
    last = tmp_path / "rollouts" / "3.jsonl"
    last.write_text(last.read_text()[:-50])
    assert list(training_curves(tmp_path).index) == [1, 2]
    (tmp_path / "rollouts" / "2.jsonl").write_text('{"score": \n')
    last.unlink()
    with pytest.raises(ValueError, match=r"2\.jsonl: expected JSON lines"):
        training_curves(tmp_path)


def test_the_command_prints_a_line_for_every_few_steps_and_each_warning_once(tmp_path, monkeypatch, capsys):
    write_rollouts(tmp_path, gaming)
    monkeypatch.setattr(sys, "argv", ["training_curves", str(tmp_path), "--title", "made up"])
    main()
    printed = capsys.readouterr().out
    assert printed.count("WARNING: deliberate errors") == 1
    header, _, *lines = printed.splitlines()
    names = "step reward formed right mean c std c c < 0.3 right there by chance c < 0.1 values top two"
    assert " ".join(header.split()) == names
    assert [line.split()[0] for line in lines[:STEPS]] == [str(step) for step in range(1, STEPS + 1)]
    assert [line.split()[0] for line in table(training_curves(tmp_path), 5).splitlines()[2:]] == [
        "1",
        "4",
        "7",
        "10",
        "13",
        "14",
    ]
    assert (tmp_path / "training_curves.png").stat().st_size > 10_000
    assert len(pd.read_csv(tmp_path / "training_curves.csv")) == STEPS
