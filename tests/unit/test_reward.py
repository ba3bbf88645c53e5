"""Stage 3's reward: the paper's numbers, any input survived, a proper scoring rule, inside verl."""

import importlib.util
import math
import shutil
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.maintenance.benchmark.reward import published_procedure
from tests.helpers.commands import REPO, run
from train.cus_reward import MALFORMED, STEPS, compute_score

probabilities = st.floats(0.001, 0.999)


def response(answer="awe", confidence="0.8", steps=STEPS):
    thought = "".join(f"<{step}>\nx\n</{step}>" for step in steps)
    return f"<think>{thought}</think>\n<answer>{answer}</answer>\n<confidence>{confidence}</confidence>"


def test_a_right_answer_by_hand():
    result = compute_score(response(), "awe")
    assert result["score"] == pytest.approx(1 + 2 * math.log(0.8) + 1)
    assert result == {
        "score": result["score"],
        "format_score": 1.0,
        "confidence_score": pytest.approx(2 * math.log(0.8)),
        "correctness": 1.0,
        "brier_score": pytest.approx(-0.04),
        "confidence": 0.8,
    }


def test_a_wrong_answer_by_hand():
    result = compute_score(response(answer="fear"), "awe")
    assert result["score"] == pytest.approx(1 + 2 * math.log(0.2))
    assert (result["correctness"], result["brier_score"]) == (0.0, pytest.approx(-0.64))


@pytest.mark.parametrize("answer", ["Awe", " awe. ", "«awe»".replace("«", "[").replace("»", "]"), "\nAWE!\n", "a'we"])
def test_case_and_punctuation_do_not_matter(answer):
    assert compute_score(response(answer=answer), "Awe")["correctness"] == 1.0


@pytest.mark.parametrize("answer", ["awe fear", "", "awesome", "an awe"])
def test_an_answer_must_be_exactly_the_one_word(answer):
    result = compute_score(response(answer=answer), "awe")
    assert (result["correctness"], result["format_score"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    "confidence", ["0", "1", "1.0", "-0.5", "1.2", "85%", "high", "", "nan", "inf", "0.8 0.9", "1e-400"]
)
def test_a_confidence_outside_the_open_interval_is_malformed(confidence):
    assert compute_score(response(confidence=confidence), "awe") == MALFORMED


@pytest.mark.parametrize("step", STEPS)
def test_a_missing_step_is_malformed(step):
    assert compute_score(response(steps=[s for s in STEPS if s != step]), "awe") == MALFORMED
    outside = response(steps=[s for s in STEPS if s != step]) + f"<{step}>x</{step}>"
    assert compute_score(outside, "awe") == MALFORMED


@pytest.mark.parametrize("tag", ["think", "answer", "confidence"])
def test_a_missing_tag_is_malformed(tag):
    assert compute_score(response().replace(f"</{tag}>", ""), "awe") == MALFORMED


strange = st.none() | st.integers() | st.binary() | st.lists(st.text()) | st.floats()
pieces = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<confidence>", "</confidence>", "awe", "0.5"]
)
texts = st.lists(pieces | st.text(max_size=4), max_size=20).map("".join)


@given(
    strange | texts | st.just("x" * 10**6) | st.floats(0, 1).map(lambda c: response(confidence=repr(c))),
    strange | st.text(),
)
def test_every_input_gives_the_same_keys_and_finite_floats(solution, truth):
    result = compute_score(solution, truth, "emocaliber", {"index": 1})
    assert result.keys() == MALFORMED.keys()
    assert all(type(value) is float and math.isfinite(value) for value in result.values())


@given(probabilities, probabilities, st.sampled_from(["log", "brier"]))
def test_it_is_a_proper_scoring_rule(probability, stated, rule):
    """The expected score is highest when the stated confidence is the probability of being right."""

    def expected(confidence):
        right = compute_score(response(confidence=repr(confidence)), "awe", rule=rule)["score"]
        wrong = compute_score(response(confidence=repr(confidence), answer="fear"), "awe", rule=rule)["score"]
        return probability * right + (1 - probability) * wrong

    assert expected(probability) >= expected(stated) - 1e-12


PIECES = st.sampled_from(
    [f"<{slash}{tag}>" for tag in ("think", "answer", "confidence", *STEPS) for slash in ("", "/")]
    + ["awe", " AWE.", "fear", "0.85", "1", "0.", "\n", "x"]
)


@given(st.lists(PIECES, max_size=30).map("".join) | st.builds(response, answer=st.text(), confidence=st.text()))
def test_it_gives_what_the_published_procedure_gives(solution):
    """Tags in any order, nested, repeated, unclosed; any answer and confidence."""
    ours, published = compute_score(solution, "awe"), published_procedure(solution, "awe")
    assert ours.keys() == published.keys()
    for key, value in published.items():
        assert ours[key] == pytest.approx(value), key


@given(st.permutations(STEPS), st.sampled_from(["awe", "Awe.", "fear"]), probabilities)
def test_well_formed_responses_score_as_published(steps, answer, confidence):
    solution = response(answer=answer, confidence=str(confidence), steps=steps)
    published = published_procedure(solution, "awe")
    assert published["format_score"] == 1
    assert compute_score(solution, "awe") == pytest.approx(published)


def test_the_known_edge_a_sure_mistake_costs_more_than_breaking_the_format():
    edge = 1 - math.exp(-3)
    for confidence, below in ((edge - 1e-6, False), (edge + 1e-6, True)):
        result = compute_score(response(answer="fear", confidence=repr(confidence)), "awe")
        assert (result["score"] < MALFORMED["score"]) == below


def test_clipping_bounds_the_penalty_but_reports_the_stated_confidence():
    sure = response(answer="fear", confidence="0.9999")
    clipped = compute_score(sure, "awe", clip=0.05)
    assert clipped["score"] == pytest.approx(1 + 2 * math.log(0.05))
    assert clipped["confidence"] == 0.9999
    assert compute_score(sure, "awe")["score"] < clipped["score"]


@pytest.mark.parametrize("setting", [{"rule": "spherical"}, {"clip": 0.5}, {"clip": -0.1}])
def test_a_setting_that_makes_no_sense_is_refused(setting):
    with pytest.raises(ValueError, match="expected rule"):
        compute_score(response(), "awe", **setting)


def test_long_responses_take_linear_time():
    start = time.process_time()
    for text in ("<think>" * 10**6, response() * 10**4, "<think><element>" * 10**5):
        compute_score(text, "awe")
    assert time.process_time() - start < 5


def test_the_reward_file_stands_alone():
    """No import but the standard library's: it leaves home and lives inside verl."""
    run(
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"exec(open({str(REPO / 'train/cus_reward.py')!r}).read()); print(compute_score(None, 'x'))",
    )


# --- inside verl -------------------------------------------------------------------------


def test_verls_custom_reward_path_loads_it():
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    named = {"path": str(REPO / "train" / "cus_reward.py"), "name": "compute_score", "reward_kwargs": {"rule": "brier"}}
    reward = get_custom_reward_fn(OmegaConf.create({"custom_reward_function": named}))
    result = reward(data_source="emocaliber", solution_str=response(), ground_truth="awe", extra_info={})
    assert result["confidence_score"] == pytest.approx(-2 * 0.04)


@pytest.fixture
def verl_copy(tmp_path):
    source = importlib.util.find_spec("verl").submodule_search_locations[0]
    shutil.copytree(f"{source}/utils/reward_score", tmp_path / "verl" / "utils" / "reward_score")
    return tmp_path


def install(*arguments, check=True):
    return run("bash", REPO / "scripts" / "install_reward.sh", *arguments, check=check)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_installed_into_verl_its_default_reward_calls_it_and_undo_restores_every_byte(verl_copy, line_end):
    folder = verl_copy / "verl" / "utils" / "reward_score"
    before = (folder / "__init__.py").read_bytes().replace(b"\n", line_end)
    (folder / "__init__.py").write_bytes(before)
    install(verl_copy)
    once = (folder / "__init__.py").read_bytes()
    install(verl_copy)
    assert (folder / "__init__.py").read_bytes() == once != before

    # verl's own reward module, loaded from the changed copy under its own name.
    code = (
        "import importlib.util, sys, verl.utils\n"
        f"spec = importlib.util.spec_from_file_location('verl.utils.reward_score', {str(folder / '__init__.py')!r},"
        f" submodule_search_locations=[{str(folder)!r}])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['verl.utils.reward_score'] = module\n"
        "spec.loader.exec_module(module)\n"
        f"result = module.default_compute_score('emocaliber', {response()!r}, 'awe')\n"
        "assert result['correctness'] == 1.0 and result['confidence'] == 0.8, result\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    install("--undo", verl_copy)
    assert (folder / "__init__.py").read_bytes() == before
    assert not (folder / "cus_reward.py").exists()


def test_an_unknown_verl_is_refused_and_left_as_it_was(verl_copy):
    folder = verl_copy / "verl" / "utils" / "reward_score"
    path = folder / "__init__.py"
    path.write_text(path.read_text().replace('data_source == "openai/gsm8k"', "data_source in GSM8K"))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = install(verl_copy, check=False)
    assert done.returncode == 2
    assert "is not the verl that is known here (0.4 to 0.9): expected a line" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_installing_where_no_verl_is_says_so(tmp_path):
    done = install(tmp_path, check=False)
    assert done.returncode == 2
    assert "expected verl/utils/reward_score/__init__.py" in done.stderr
