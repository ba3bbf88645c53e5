"""Statements of a response against the facts of its record: the toy world's sentences, odd texts, bad fields."""

import json
import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.reasoning_facts import read_facts, statements
from inference.data.records import BrokenRecord, read_records
from inference.data.response import read_response
from inference.data.vecbench import TASKS
from inference.metrics.prediction_table import prediction_table
from inference.metrics.results import read_file
from scripts.toy_world.text import chain_of_thought, reasoning_facts
from scripts.toy_world.world import CUES, PROTOTYPES, emotions_behind
from tests.helpers.commands import write_jsonl

SECTION_OF = {"colour": "element", "mouth": "human", "brows": "human", "scene": "context", "figure": "interaction"}
FACT = {"section": "human", "true": ["wide smile", "grin"], "false": ["open mouth", "frown"]}
EVIDENCE = {"section": "analysis", "true": ["rain"], "false": ["confetti"], "answers": ["Sadness", "fear"]}

scenes = st.fixed_dictionaries({cue: st.sampled_from(values) for cue, values in CUES.items()})


def verdicts(response, answer="sadness", *facts):
    found = statements(response, answer, read_facts({"reasoning_facts": list(facts)}))
    return [(each.section, each.verdict) for each in found]


@given(st.sampled_from(sorted(TASKS)), scenes, scenes, st.randoms(use_true_random=False), st.data())
def test_what_is_written_about_one_scene_is_true_of_another_where_their_cues_agree(task, shown, said, rng, data):
    label = data.draw(st.sampled_from(TASKS[task].labels))
    response = chain_of_thought(task, label, said, rng)
    expected = Counter()
    for cue in CUES:
        expected[SECTION_OF[cue], "true" if said[cue] == shown[cue] else "false"] += 1
        speaks = {scene: any(PROTOTYPES[e][cue] == value for e in emotions_behind(task)[label])
                  for scene, value in (("shown", shown[cue]), ("said", said[cue]))}  # fmt: skip
        if speaks["said"]:
            expected["analysis", "true" if said[cue] == shown[cue] else "false"] += 1
        elif speaks["shown"]:
            expected["analysis", "missing"] += 1
    facts = read_facts({"reasoning_facts": reasoning_facts(task, shown)})
    found = list(statements(response, read_response(response, TASKS[task].labels).label, facts))
    assert Counter((each.section, each.verdict) for each in found) == expected


def test_every_sentence_of_the_toy_world_names_its_own_values_alone():
    rng, sentences = random.Random(0), set()
    for i in range(3000):
        scene = {cue: rng.choice(values) for cue, values in CUES.items()}
        response = chain_of_thought("EmoSet-8", "awe", scene, random.Random(i))
        found = list(statements(response, "awe", read_facts({"reasoning_facts": reasoning_facts("EmoSet-8", scene)})))
        assert {each.verdict for each in found} == {"true"}
        sentences |= set(re.findall(r"<(?:element|human|context|interaction)>(.*?)</", response))
    assert len(sentences) == 16 + 32 + 16 + 6  # all there are


def test_evidence_that_is_there_but_speaks_for_another_answer_is_false():
    response = "<think><analysis>This suggests awe: rain.</analysis></think><answer>awe</answer>"
    assert verdicts(response, "awe", EVIDENCE) == [("analysis", "false")]
    assert verdicts(response, "sadness", EVIDENCE) == [("analysis", "true")]
    assert verdicts(response.replace("rain", "mood"), "awe", EVIDENCE) == []
    assert verdicts(response.replace("rain", "mood"), "fear", EVIDENCE) == [("analysis", "missing")]


def test_without_an_answer_nothing_is_said_of_evidence():
    response = "<think><human>A grin.</human><analysis>Confetti.</analysis></think>"
    assert verdicts(response, "unknown", FACT, EVIDENCE) == [("human", "true")]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A WIDE  Smile!", "true"),
        ("grin", "true"),
        ("a grinning, frowning face", "missing"),
        ("a wide, wide smile", "true"),
        ("wide. Smile", "missing"),
        ("a wide smile or a frown", "false"),
        ("no words at all", "missing"),
        ("", "missing"),
    ],
)
def test_names_are_whole_words_and_one_wrong_name_makes_a_statement_false(text, verdict):
    assert verdicts(f"<think><human>{text}</human></think>", "sadness", FACT) == [("human", verdict)]


@pytest.mark.parametrize("response", ["", "wide smile", "<human>wide smile</human>", "<think><human>wide smile"])
def test_a_section_that_is_not_there_states_nothing(response):
    assert verdicts(response, "sadness", FACT) == [("human", "missing")]


def record(**more):
    content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Which emotion?"}]
    return {"id": "a", "conversations": [{"role": "user", "content": content}], "ground_truth": "positive",
            "candidates": ["positive", "negative"], "task": "FI-2", **more}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "field", "expected"),
    [
        ({}, "reasoning_facts", "a list of objects"),
        (["x"], "reasoning_facts[0]", 'an object with "section" one of element, human'),
        ([FACT, {**FACT, "section": "mood"}], "reasoning_facts[1]", 'an object with "section" one of'),
        ([{"section": "human", "true": ["x"]}], "reasoning_facts[0].false", "a list of words"),
        ([{**FACT, "true": []}], "reasoning_facts[0].true", "at least one name"),
        ([{**FACT, "true": ["Frown"]}], "reasoning_facts[0].true", 'none that is in "false"'),
        ([{**FACT, "false": [" "]}], "reasoning_facts[0].false", "a list of words"),
        ([{**FACT, "answers": [1]}], "reasoning_facts[0].answers", "a list of words"),
    ],
)
def test_a_bad_field_is_named_with_file_and_line_in_data_and_in_results(tmp_path, facts, field, expected):
    path = write_jsonl(tmp_path / "r.jsonl", [record(reasoning_facts=facts, response="<answer>positive</answer>")])
    (item,) = read_records(path)
    assert isinstance(item, BrokenRecord)
    (failed,) = read_file(path).failed
    for error in (item.error, failed["error"]):
        assert error.startswith(f"{path}, line 1, field '{field}': expected ") and expected in error


def test_rows_without_facts_and_with_replaced_images_are_not_scored():
    response = "<think><human>A grin.</human></think><answer>positive</answer>"
    rows = [record(response=response), record(response=response, reasoning_facts=[FACT]),
            record(response=response, reasoning_facts=[FACT], replace_images="grey")]  # fmt: skip
    table = prediction_table(json.loads(json.dumps(rows)))
    assert [known and [tuple(each) for each in known] for known in table["statements"]] == [
        None, [("human", "true", ("grin",), ("wide smile", "grin"))], None,
    ]  # fmt: skip
