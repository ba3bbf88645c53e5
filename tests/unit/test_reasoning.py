"""Accuracy and confidence beside false statements: plain means, intervals against theory, runs, the files."""

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from inference.evaluate import evaluate
from inference.metrics import reasoning
from inference.metrics.prediction_table import prediction_table
from inference.report.tables import tables_html
from scripts.toy_world import reasoning as command
from scripts.toy_world.report import toy_predictions, toy_table
from tests.helpers.commands import write_jsonl
from tests.helpers.results import results_in_memory, results_of
from tests.helpers.toy_responses import misreading


def rows_by_name(rows, n_resamples=0):
    return {row.name: row for row in reasoning.rows_of(prediction_table(rows), n_resamples)}


def plain(rows):
    """(verdicts by section, whether each response has a false one) counted from the statements one by one."""
    table = prediction_table(rows)
    counts, false = {}, []
    for known in table["statements"]:
        for each in known:
            counts[each.section, each.verdict] = counts.get((each.section, each.verdict), 0) + 1
        false.append("false" in [each.verdict for each in known])
    return table, counts, np.array(false)


def test_shares_and_means_are_those_that_counting_gives():
    rows = misreading(40)
    table, counts, false = plain(rows)
    found = rows_by_name(rows)
    for section in ("element", "human", "context", "interaction", "analysis"):
        of_section = {verdict: counts.get((section, verdict), 0) for verdict in ("true", "false", "missing")}
        assert found[section].metrics["n_statements"] == sum(of_section.values())
        for verdict, count in of_section.items():
            assert found[section].metrics[f"{verdict}_statements"] == count / sum(of_section.values())
    right = (table["label"] == table["truth"]).to_numpy()
    for name, some in (("WebEmo-7", table["task"] == "WebEmo-7"), ("OOD VER", table["group"] == "OOD VER"),
                       ("Overall", table["task"].notna())):  # fmt: skip
        metrics, some = found[name].metrics, some.to_numpy()
        assert metrics["false_responses"] == false[some].mean()
        for metric, values in (("accuracy", right), ("mean_confidence", table["confidence"].to_numpy())):
            sides = values[some & false].mean(), values[some & ~false].mean()
            assert metrics[f"{metric}_if_false"] == pytest.approx(sides[0])
            assert metrics[f"{metric}_if_none_false"] == pytest.approx(sides[1])
            assert metrics[f"{metric}_difference"] == pytest.approx(sides[0] - sides[1])
    assert list(found)[-6:] == ["Overall", "element", "human", "context", "interaction", "analysis"]


def test_the_intervals_are_those_of_two_independent_samples():
    rows = misreading(150, ["EmoSet-8"])
    table, _, false = plain(rows)
    row = rows_by_name(rows, 2000)["Overall"]
    right = (table["label"] == table["truth"]).to_numpy(dtype=float)
    for metric, values in (("accuracy", right), ("mean_confidence", table["confidence"].to_numpy())):
        # Welch's interval, an independent formula
        welch = stats.ttest_ind(values[false], values[~false], equal_var=False).confidence_interval(0.95)
        low, high = row.intervals[f"{metric}_difference"]
        assert (low, high) == pytest.approx((welch.low, welch.high), abs=0.15 * (welch.high - welch.low))


def test_images_that_two_tasks_share_are_drawn_together():
    rows = misreading(60, ["EmoSet-8"])
    twice = [{**row, "sample_id": f"{row['sample_id']}-{copy}"} for row in rows for copy in range(4)]
    once, again = (rows_by_name(some, 1000)["Overall"].intervals["accuracy_difference"] for some in (rows, twice))
    assert again[1] - again[0] == pytest.approx(once[1] - once[0], rel=0.15)


def with_false(n_false, n, right=lambda i: True):
    """n responses that are one-word readings of a colour; the first n_false of them are wrong about it."""
    rows = []
    for i in range(n):
        said = "red" if i < n_false else "blue"
        answer = "awe" if right(i) else "fear"
        response = f"<think><element>{said}</element></think><answer>{answer}</answer><confidence>0.8</confidence>"
        facts = [{"section": "element", "true": ["blue"], "false": ["red"]}]
        row = {"task": "EmoSet-8", "ground_truth": "awe", "candidates": ["awe", "fear"], "response": response}
        rows.append({**row, "sample_id": str(i), "image": f"{i}.png", "reasoning_facts": facts})
    return rows


@pytest.mark.parametrize(("n_false", "n"), [(9, 60), (51, 60), (0, 60), (60, 60)])
def test_too_few_responses_on_one_side_have_no_interval(n_false, n):
    row = rows_by_name(with_false(n_false, n), 200)["Overall"]
    assert row.intervals == {}
    assert ("accuracy_difference" in row.metrics) == (0 < n_false < n)


def test_ten_wrong_of_ten_are_not_wrong_for_sure():
    row = rows_by_name(with_false(10, 60, right=lambda i: i >= 10), 1000)["Overall"]
    assert row.metrics["accuracy_difference"] == -1
    low, high = row.intervals["accuracy_difference"]
    assert low == -1 and -0.9 < high < -0.6


def test_confidences_are_those_of_the_responses_that_state_one():
    rows = with_false(20, 60)
    for row in rows[:12]:
        row["response"] = row["response"].partition("<confidence>")[0]
    row = rows_by_name(rows, 200)["Overall"]
    assert row.metrics["mean_confidence_if_false"] == pytest.approx(0.8)
    assert "accuracy_difference" in row.intervals and "mean_confidence_difference" not in row.intervals


def test_the_change_between_two_runs_is_the_difference_of_their_differences_with_a_paired_interval():
    runs = {"before": misreading(60, ["EmoSet-8"], doubt=0.05), "after": misreading(60, ["EmoSet-8"], seed=1)}
    tables = {name: prediction_table(rows) for name, rows in runs.items()}
    (row,) = reasoning.changes(tables, 1000)
    differences = [rows_by_name(rows)["Overall"].metrics["mean_confidence_difference"] for rows in runs.values()]
    assert row.name == "before -> after"
    assert row.metrics["mean_confidence_difference"] == pytest.approx(differences[1] - differences[0])
    low, high = row.intervals["mean_confidence_difference"]
    assert low < row.metrics["mean_confidence_difference"] < high < 0
    # A plain bootstrap of the images, both runs on the same draw
    random, sides = np.random.default_rng(1), {}
    for name, rows in runs.items():
        table, _, sides[name] = plain(rows)
        sides[name] = sides[name], table["confidence"].to_numpy()
    drawn = []
    for _ in range(2000):
        chosen = random.integers(60, size=60)
        gaps = [c[chosen][f[chosen]].mean() - c[chosen][~f[chosen]].mean() for f, c in sides.values()]
        drawn.append(gaps[1] - gaps[0])
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.02)


def test_a_change_with_too_few_responses_on_a_side_of_either_run_has_no_interval():
    tables = [prediction_table(with_false(n_false, 60)) for n_false in (20, 9)]
    for before, after in (tables, tables[::-1]):
        (row,) = reasoning.changes({"before": before, "after": after}, 100)
        assert row.metrics["accuracy_difference"] == 0 and row.intervals == {}


def test_a_run_beside_itself_has_not_changed():
    table = prediction_table(misreading(20))
    (row,) = reasoning.changes({"a": table, "b": table}, 100)
    assert set(row.metrics.values()) == {0.0} and set(row.intervals.values()) == {(0.0, 0.0)}


def test_the_files_of_an_evaluation_have_a_table_where_facts_are_known(tmp_path):
    rows = [*misreading(12), *results_of(["FI-2"], 5)]
    summary = evaluate(results_in_memory(rows), tmp_path, n_resamples=50)
    log = (tmp_path / "metric_conf.log").read_text()
    assert "Reasoning held against the facts of the records" in log
    assert "NOTE: 5 responses are left out" in log
    written = json.loads((tmp_path / "metrics.json").read_text())["reasoning"]
    assert written == json.loads(json.dumps(summary["reasoning"]))
    (overall,) = (row for row in written["metric"] if row["kind"] == "overall")
    assert overall["n_samples"] == 108
    assert math.isclose(sum(overall[f"{name}_statements"] for name in ("true", "false", "missing")), 1)
    html = tables_html(summary)
    assert "Reasoning held against the facts of the records" in html and "Acc with − without" in html


def test_an_evaluation_of_photographs_says_nothing_of_the_reasoning(tmp_path):
    summary = evaluate(results_in_memory(results_of(["FI-2"], 5)), tmp_path)
    assert "reasoning" not in summary
    assert "Reasoning held" not in (tmp_path / "metric_conf.log").read_text()


def folder_of(path, rows):
    path.mkdir()
    write_jsonl(path / "merged.jsonl", rows)
    return path


def told(monkeypatch, capsys, *runs):
    monkeypatch.setattr(sys, "argv", ["reasoning", *map(str, runs), "--n_resamples", "100"])
    command.main()
    return capsys.readouterr().out


def test_the_command_scores_older_records_by_their_cues_and_says_what_changes(tmp_path, monkeypatch, capsys):
    before = folder_of(tmp_path / "before", misreading(20, doubt=0.0, facts=False))
    after = folder_of(tmp_path / "after", misreading(20, seed=1)[:-3])
    printed = told(monkeypatch, capsys, before, after)
    assert printed.startswith("toy world: generated scenes, not VECBench")
    own = reasoning.evaluate(prediction_table(misreading(20, doubt=0.0)), 100).text
    assert f"{before}\n{own}" in printed
    assert f"{before} -> {after}" in printed.splitlines()[-1] and " 177 " in printed.splitlines()[-1]
    alone = told(monkeypatch, capsys, before)
    assert "Change of the difference" not in alone


def test_the_command_refuses_runs_without_a_common_sample_or_without_their_own_images(tmp_path, monkeypatch, capsys):
    folder = folder_of(tmp_path / "a", misreading(3, ["FI-2"]))
    other = folder_of(tmp_path / "b", misreading(3, ["EmoSet-8"]))
    grey = folder_of(tmp_path / "c", [{**row, "replace_images": "grey"} for row in misreading(3, ["FI-2"])])
    for runs, why in (((folder, other), "no scored sample in common"), ((grey,), "all of them were replaced"),
                      ((tmp_path / "d",), "merged.jsonl")):  # fmt: skip
        with pytest.raises(SystemExit, match=why):
            told(monkeypatch, capsys, *runs)


def test_the_toy_report_has_the_share_of_responses_with_a_false_statement(tmp_path):
    rows = misreading(15, ["FI-2", "EmoSet-8"])
    folder = folder_of(tmp_path / "run", rows)
    table, _, false = plain(rows)
    shown = toy_table(toy_predictions(folder / "merged.jsonl"))["false_responses"]
    assert shown["FI-2"] == false[(table["task"] == "FI-2").to_numpy()].mean()
    assert shown["all"] == false.mean()


def test_runs_of_other_scenes_under_the_same_ids_are_not_compared():
    table = pd.DataFrame(
        {"sample_id": ["1", "2"], "task": "FI-2", "truth": ["positive", "negative"], "statements": [(), ()],
         "posterior": [{"positive": 0.9}, {"positive": 0.2}]}
    )  # fmt: skip
    same = command.common_samples({"before": table, "after": table.iloc[::-1]})
    assert list(same["after"]["sample_id"]) == ["1", "2"]
    other = table.assign(posterior=[{"positive": 0.9}, {"positive": 0.3}])
    with pytest.raises(ValueError, match="after: sample 2 is another scene than in before"):
        command.common_samples({"before": table, "after": other})
