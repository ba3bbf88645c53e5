"""EmObserver's protocol: predictions and means against an independent computation, what is absent, the files."""

import json
import re
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.response import read_response
from inference.data.vecbench import TASKS
from inference.evaluate import evaluate
from inference.metrics import emobserver
from inference.metrics.paired_comparison import comparison_text, differences
from inference.metrics.paired_comparison import paired_table as paired_tables
from inference.metrics.prediction_table import prediction_table
from inference.report.tables import tables_html
from tests.helpers.commands import REPO, read_jsonl
from tests.helpers.results import THREE_TASKS, a_result, answer, results_in_memory, results_of

LABELS = ["joy", "awe", "Fear"]
GROUPS = {
    "ID VER": ["EmoSet-8", "FI-8", "WebEmo-25", "WebEmo-7"],
    "ID VSA": ["FI-2", "WebEmo-2"],
    "OOD VER": ["UnbiasedEmo-6", "Abstract-8", "Artphoto-8"],
}
TAGS = ["<answer>", "</answer>", "<ANSWER>", "</Answer>", "<think>", "</think>", "</Think>"]
pieces = st.sampled_from([*TAGS, "\n", " ", "joy", "AWE", "fear", "0.5"])
responses = st.lists(pieces | st.text(st.characters(max_codepoint=127), max_size=4), max_size=20).map("".join)


def prediction(response, candidates=tuple(LABELS)):
    reading = read_response(response, candidates)
    return reading.emobserver_label, reading.emobserver_named


def by_definition(response, candidates):
    whole = re.findall(r"(?is)<answer>(.*?)</answer>", response)
    text = whole[0] if whole else re.split(r"(?i)<answer>|</think>", response)[-1]
    named = [candidate for candidate in candidates if candidate.casefold() in text.casefold()]
    return (named or candidates)[0], bool(named)


@given(responses, st.permutations(LABELS))
def test_the_prediction_is_that_of_the_definition(response, candidates):
    assert prediction(response, candidates) == by_definition(response, candidates)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("<answer>awe</answer>", ("awe", True)),
        ("<Answer>\nawe\n</ANSWER>", ("awe", True)),
        ("<answer>awe, not joy</answer>", ("joy", True)),  # the record's order, not the text's
        ("<answer>awesome</answer>", ("awe", True)),  # part of a word
        ("<answer>fear</answer>", ("Fear", True)),
        ("<answer></answer> awe", ("joy", False)),  # an empty answer is one
        ("<answer>sad</answer><answer>awe</answer>", ("joy", False)),
        ("joy <think>joy</think> awe", ("awe", True)),
        ("joy <answer> awe", ("awe", True)),
        ("<answer>joy</think> awe", ("awe", True)),
        ("</think> joy <answer> awe", ("awe", True)),
        ("</answer>awe<answer>", ("joy", False)),
        ("it is awe", ("awe", True)),
        ("", ("joy", False)),
        ("İİİ</think>awe", ("joy", False)),  # lower case is one character longer for each: cut into "awe"
        ("<anſwer>awe</anſwer> joy", ("awe", True)),  # ſ is an s in another case
    ],
)
def test_a_prediction_by_hand(response, expected):
    assert prediction(response) == expected


def test_the_label_is_compared_as_it_is_written():
    rows = [a_result(truth=truth, response=answer("awe")) for truth in ("awe", "Awe")]
    assert prediction_table(rows)["emobserver_right"].tolist() == [True, False]


def test_without_candidates_the_prediction_is_empty():
    assert prediction("<answer>awe</answer>", []) == ("", False)


def test_a_long_response_without_an_end_takes_linear_time():
    start = time.perf_counter()
    prediction("<answer>" * 100_000)
    assert time.perf_counter() - start < 1


def by_counting(rows):
    """task, group or Overall → accuracy as a fraction, from predictions by the definition."""
    counts = {}
    for row in rows:
        right = by_definition(row["response"], row["candidates"])[0] == row["ground_truth"]
        task = row["task"].replace("UnbaisedEmo-6", "UnbiasedEmo-6")
        counts.setdefault(task, []).append(int(right))
    tasks = {name: Fraction(sum(rights), len(rights)) for name, rights in counts.items() if name in TASKS}
    groups = {}
    for group, names in GROUPS.items():
        if there := [tasks[name] for name in names if name in tasks]:
            groups[group] = sum(there) / len(there)
    return tasks | groups | {"Overall": sum(groups.values()) / len(groups)}


@pytest.mark.parametrize("tasks", [list(TASKS), THREE_TASKS, ["FI-2", "WebEmo-25", "WebEmo-7"]])
def test_rows_are_means_over_tasks_and_then_over_groups(tasks):
    rows = [row for i, task in enumerate(tasks) for row in results_of([task], 7 + 5 * i, seed=i)]
    expected = by_counting(rows)
    found = {row.name: row for row in emobserver.rows_of(prediction_table(rows))}
    assert {name: row.metrics["accuracy"] for name, row in found.items() if row.metrics} == pytest.approx(expected)
    assert found["Overall"].n_samples == len(rows)


def test_the_golden_records_give_what_counting_gives():
    rows = [row for row in read_jsonl(REPO / "tests" / "golden" / "records.jsonl")]
    found = {row["name"]: row["accuracy"] for row in emobserver.evaluate(prediction_table(rows)).json["metric"]}
    assert found == pytest.approx(by_counting(rows))
    # What EmObserver's evaluator itself prints for these records: id_ver_acc, id_vsa_acc, ood_ver_acc, total_acc
    printed = {"ID VER": "0.5019", "ID VSA": "0.7600", "OOD VER": "0.5698", "Overall": "0.6106"}
    assert {name: f"{found[name]:.4f}" for name in printed} == printed


def test_absent_and_other_tasks_and_answers_without_a_candidate_are_said():
    rows = results_of(["FI-2", "EmoSet-8"], 10)
    rows += [{**rows[0], "task": "Mine", "sample_id": "mine"}, {**rows[10], "task": "UnbaisedEmo-6", "sample_id": "un"}]
    rows[1] |= {"response": "no idea", "ground_truth": rows[1]["candidates"][0]}
    rows[2] |= {"response": "no idea", "ground_truth": rows[2]["candidates"][1]}
    found = emobserver.evaluate(prediction_table(rows))
    absent, other, first = found.json["notes"]
    names = [name for name in TASKS if name not in ("FI-2", "EmoSet-8", "UnbiasedEmo-6")]
    assert absent.startswith(f"no sample of {', '.join(names)}: the means are over the tasks that are there")
    assert other == "1 samples of other tasks are left out: Mine"
    assert first == "2 answers name no candidate and count as the record's first one, 1 of them as right"
    accuracy = {row["name"]: row.get("accuracy") for row in found.json["metric"]}
    zero = found.json["counting_absent_as_zero"]
    assert zero["ID VSA"] == pytest.approx(accuracy["FI-2"] / 2)
    assert zero["ID VER"] == pytest.approx(accuracy["EmoSet-8"] / 4)
    assert zero["OOD VER"] == pytest.approx(accuracy["UnbiasedEmo-6"] / 3)
    assert zero["Overall"] == pytest.approx(sum(zero[group] for group in GROUPS) / 3)
    assert accuracy["ID VSA"] == accuracy["FI-2"] and f"Overall {100 * zero['Overall']:.2f}" in absent
    assert all(f"NOTE: {note}\n" in found.table for note in found.json["notes"])
    assert "Mine" not in accuracy and found.json["metric"][-1]["n_samples"] == 21


def test_a_group_without_a_sample_and_a_file_without_vecbenchs_tasks_have_no_number():
    found = emobserver.evaluate(prediction_table(results_of(["FI-2"], 5)), 50)
    assert re.search(r"^OOD VER +N/A +0$", found.table, re.MULTILINE)
    rows = [{**row, "task": "Mine"} for row in results_of(["FI-2"], 5)]
    found = emobserver.evaluate(prediction_table(rows), 50)
    assert found.json["notes"][0] == "no sample of any task of VECBench"
    assert re.search(r"^Overall +N/A +0$", found.table, re.MULTILINE)


def test_intervals_are_those_of_means_of_shares():
    rows = results_of(list(TASKS), 60)
    found = {row.name: row for row in emobserver.rows_of(prediction_table(rows), 1000)}
    variance = {name: float(p * (1 - p)) / 60 for name, p in by_counting(rows).items() if name in TASKS}
    expected = {group: sum(variance[name] for name in names) / len(names) ** 2 for group, names in GROUPS.items()}
    expected |= {"Overall": sum(expected.values()) / 9, "FI-2": variance["FI-2"]}
    for name, of_mean in expected.items():
        low, high = found[name].intervals["accuracy"]
        assert high - low == pytest.approx(2 * 1.96 * of_mean**0.5, rel=0.15), name


def test_the_evaluation_writes_log_json_and_report(tmp_path):
    summary = evaluate(results_in_memory(results_of(list(TASKS), 8)), tmp_path, n_resamples=50)
    log = (tmp_path / "metric_emobserver.log").read_text()
    assert log.startswith("72 samples read = 72 predicted + 0 failed\n\nAccuracy, EmObserver's protocol")
    assert "Overall the mean of the groups" in log
    written = json.loads((tmp_path / "metrics.json").read_text())["emobserver"]["metric"]
    (overall,) = (row for row in written if row["kind"] == "overall")
    assert re.search(rf"^Overall +{100 * overall['accuracy']:.2f} \[", log, re.MULTILINE)
    assert "EmObserver&#39;s protocol" in tables_html(summary)


def test_two_runs_are_compared_under_this_protocol_too():
    a, b = results_of(THREE_TASKS, 60, seed=1), results_of(THREE_TASKS, 60, seed=2)
    for row, other in zip(a, b, strict=True):  # the same questions, other answers
        other["ground_truth"] = row["ground_truth"]
    found = differences(paired_tables(prediction_table(a), prediction_table(b)), 200)
    items = {item.row: item for item in found if item.metric == "emobserver_accuracy"}
    for name in ("FI-2", "ID VER", "Overall"):
        assert (items[name].a, items[name].b) == pytest.approx((by_counting(a)[name], by_counting(b)[name]))
        assert items[name].low <= items[name].difference <= items[name].high
    assert "Acc, EmObserver's protocol: Overall and groups are means over tasks (higher is better)" in comparison_text(
        found, "a", "b", 200
    )
