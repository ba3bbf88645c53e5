"""The command that compares two runs."""

import csv

from tests.helpers.commands import write_jsonl
from tests.helpers.forked import run_forked
from tests.helpers.results import THREE_TASKS, answer, improved, results_of


def test_one_run_is_compared_with_itself_by_two_of_its_confidences(tmp_path):
    rows = results_of(THREE_TASKS, 30)
    for row in rows:  # of the first response's answer, sure where it is right
        right = row["response"].split("<answer>")[1].split("</answer>")[0] == row["ground_truth"]
        row["answer_log_probability"] = -0.01 if right else -5.0
    del rows[0]["answer_log_probability"]
    write_jsonl(tmp_path / "merged.jsonl", rows)
    more = ("--n_resamples", "100", "--confidence", "verbalized")
    done = run_forked("-m", "inference.compare", tmp_path, tmp_path, *more, "answer probability")
    assert f"{tmp_path}, answer probability" in done.stdout
    assert done.stdout.count("NOTE: 89 of 90 samples have both confidences; metrics of confidence are over these") == 1
    with open(next(tmp_path.glob("compared_with_*")) / "comparison.tsv", encoding="utf-8") as handle:
        overall = {line["figure"]: line for line in csv.DictReader(handle, delimiter="\t") if line["row"] == "Overall"}
    assert float(overall["accuracy"]["difference"]) == 0.0
    assert float(overall["roc_auc"]["b"]) == 1.0 > float(overall["roc_auc"]["a"])
    done = run_forked("-m", "inference.compare", tmp_path, tmp_path, *more, "majority vote", check=False)
    assert done.returncode == 1
    expected = "expected a run with the confidence 'majority vote', has: verbalized, answer probability"
    assert done.stderr.strip() == f"cannot compare: {tmp_path}: {expected}"
    done = run_forked("-m", "inference.compare", tmp_path, "--published", *more, "answer probability", check=False)
    assert done.returncode == 2 and "--confidence needs a second run" in done.stderr


def test_the_command_counts_what_only_one_run_has_and_writes_a_table(tmp_path):
    rows = results_of(THREE_TASKS, 30)
    unsure = {**rows[2], "response": answer(rows[2]["ground_truth"])}
    for name, kept in (("a", rows[:-1]), ("b", [unsure, *improved(rows[3:])])):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "merged.jsonl", [{**row, "notice": "made up"} for row in kept])
    done = run_forked("-m", "inference.compare", tmp_path / "a", tmp_path / "b", "--n_resamples", "100",
               "--formats", "png", "svg")  # fmt: skip
    assert "NOTE: made up" in done.stdout
    assert "87 samples in both runs; left out: 2 only in A, 1 only in B" in done.stdout
    assert "NOTE: metrics of confidence are over each run's valid confidences: 87 of A, 86 of B, 86" in done.stdout
    written = tmp_path / "b" / "compared_with_a"
    with open(written / "comparison.tsv", encoding="utf-8") as handle:
        lines = list(csv.DictReader(handle, delimiter="\t"))
    overall = next(line for line in lines if (line["row"], line["figure"]) == ("Overall", "accuracy"))
    assert float(overall["b"]) == 1.0
    assert (written / "comparison.png").stat().st_size > 10_000
    assert "made up" in (written / "comparison.svg").read_text(encoding="utf-8")
