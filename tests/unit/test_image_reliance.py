"""Runs with replaced images beside the run with its own: gaps against plain means, intervals, what is refused."""

import sys

import numpy as np
import pytest

from inference.compare import check_replaced, compare_replaced, main
from inference.metrics.image_reliance import GAP, image_reliance
from inference.metrics.paired_comparison import ComparisonError, aligned_runs
from inference.metrics.prediction_table import prediction_table
from tests.helpers.commands import write_jsonl
from tests.helpers.results import THREE_TASKS, answer, results_in_memory, results_of


def seen(rows, how, right=0.2, confidence=(0.4, 0.6), seed=1):
    """The same samples with replaced images: right at random, another confidence."""
    random = np.random.default_rng(seed)
    return [
        {
            **row,
            "replace_images": how,
            "response": answer(row["ground_truth"] if random.random() < right else "unsure", random.choice(confidence)),
        }
        for row in rows
    ]


def by_key(found):
    return {(item.row, item.images, item.metric): item for item in found}


def tables(**runs):
    return {name: prediction_table(rows) for name, rows in runs.items()}


def test_gaps_are_the_differences_of_plain_means_in_every_row():
    own = results_of(THREE_TASKS, 60)
    runs = tables(own=own, grey=seen(own, "grey"), noise=seen(own, "noise", seed=2))
    found = by_key(image_reliance(runs, 200))
    for row in ("FI-2", "ID VER", "Overall"):
        means = {}
        for name, table in runs.items():
            part = table if row == "Overall" else table[(table["task"] == row) | (table["group"] == row)]
            means[name] = (part["label"] == part["truth"]).mean(), part["confidence"].mean()
        for name in ("grey", "noise"):
            for i, metric in enumerate(("accuracy", "mean_confidence")):
                assert found[row, name, metric].value == pytest.approx(means[name][i])
                gap = found[row, name, GAP + metric]
                assert gap.value == pytest.approx(means["own"][i] - means[name][i])
                assert gap.low <= gap.value <= gap.high
    assert ("Overall", "own", GAP + "accuracy") not in found


def test_the_interval_of_a_gap_is_that_of_paired_differences():
    own = results_of(["EmoSet-8"], 400)
    runs = tables(own=own, grey=seen(own, "grey"))
    gap = by_key(image_reliance(runs, 1000))["Overall", "grey", GAP + "mean_confidence"]
    differences = (runs["own"]["confidence"] - runs["grey"]["confidence"]).to_numpy()
    half = 1.96 * differences.std() / np.sqrt(len(differences))
    assert gap.high - gap.low == pytest.approx(2 * half, rel=0.1)


def test_a_model_that_does_not_look_has_no_gap():
    own = results_of(THREE_TASKS, 40)
    found = image_reliance(tables(own=own, grey=[{**row, "replace_images": "grey"} for row in own]), 100)
    gaps = [item for item in found if item.metric.startswith(GAP)]
    assert gaps and all((item.value, item.low, item.high) == (0, 0, 0) for item in gaps)


def test_no_right_answer_at_all_is_not_an_accuracy_of_zero_for_sure():
    own = results_of(["EmoSet-8"], 30)
    item = by_key(image_reliance(tables(own=own, grey=seen(own, "grey", right=0)), 400))["EmoSet-8", "grey", "accuracy"]
    assert (item.value, item.low) == (0, 0) and 0.03 < item.high < 0.2


def test_confidences_are_of_the_samples_that_have_one_in_every_run_and_accuracies_of_all():
    own = results_of(["EmoSet-8"], 40)
    grey = seen(own, "grey")
    for row in grey[:10]:
        row["response"] = answer(row["ground_truth"])
    runs = tables(own=own, grey=grey)
    found = by_key(image_reliance(runs, 100))
    assert (found["Overall", "own", "accuracy"].n, found["Overall", "own", "mean_confidence"].n) == (40, 30)
    assert found["Overall", "own", "mean_confidence"].value == pytest.approx(runs["own"]["confidence"][10:].mean())
    rights = (runs["grey"]["label"] == runs["grey"]["truth"]).mean()
    assert found["Overall", "grey", "accuracy"].value == pytest.approx(rights)


def test_runs_are_brought_to_the_samples_that_all_have_and_into_one_order():
    own = results_of(THREE_TASKS, 10)
    runs = {"own": own[1:], "grey": seen(own, "grey")[::-1], "noise": seen(own[:-1], "noise")}
    aligned = aligned_runs({name: results_in_memory(rows) for name, rows in runs.items()})
    expected = [row["sample_id"] for row in own[1:-1]]
    assert all(list(run.table["sample_id"]) == expected for run in aligned.values())
    with pytest.raises(ComparisonError, match="no sample in common"):
        aligned_runs({"own": results_in_memory(own[:5]), "grey": results_in_memory(seen(own[5:], "grey"))})


def test_a_run_that_is_not_what_it_is_taken_for_is_refused(tmp_path):
    own = results_of(["FI-2"], 6)
    grey, mixed = seen(own, "grey"), [*own[:3], *seen(own[3:], "grey")]
    runs = {name: results_in_memory(rows) for name, rows in (("own", own), ("grey", grey), ("mixed", mixed))}
    assert check_replaced("own", ["grey"], [runs["own"], runs["grey"]]) == ["grey"]
    for first, second, named in (
        ("grey", "grey", "grey: expected a run that saw its own images"),
        ("mixed", "grey", "mixed: expected a run that saw its own images"),
        ("own", "own", "own: expected a run of one replace_images (grey, noise, other) alone"),
        ("own", "mixed", "mixed: expected a run of one replace_images (grey, noise, other) alone"),
    ):
        with pytest.raises(ComparisonError) as refused:
            check_replaced(first, [second], [runs[first], runs[second]])
        assert str(refused.value) == named


def write_runs(folder, **runs):
    for name, rows in runs.items():
        (folder / name).mkdir()
        write_jsonl(folder / name / "merged.jsonl", rows)


def test_the_command_prints_a_table_per_group_and_writes_every_number(tmp_path, monkeypatch, capsys):
    own = results_of(THREE_TASKS, 20)
    write_runs(tmp_path, true=own, a=seen(own, "grey"), b=seen(own[1:], "other", confidence=(0.9, 0.95)))
    words = ["compare", tmp_path / "true", "--replaced", tmp_path / "a", tmp_path / "b", "--n_resamples", 200]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    main()
    printed = capsys.readouterr().out
    assert f"grey: {tmp_path / 'a'}, mid-grey of the same size" in printed
    assert "59 samples that every run answered; left out: 1 of own, 1 of grey, 0 of other" in printed
    assert printed.count("\nown  ") == 4 and printed.count("\ngrey  ") == 4  # three groups and Overall
    text, tsv = compare_replaced(tmp_path / "true", [tmp_path / "a", tmp_path / "b"], 200, 0)
    assert text in printed and (tmp_path / "true" / "image_reliance.tsv").read_text() == tsv
    lines = [line.split("\t") for line in tsv.splitlines()]
    assert lines[0] == ["row", "kind", "images", "n_samples", "figure", "value", "low", "high"]
    assert ["FI-2", "task", "grey"] in [line[:3] for line in lines]
    assert {line[4] for line in lines[1:]} == {
        "accuracy",
        "mean_confidence",
        "gap_of_accuracy",
        "gap_of_mean_confidence",
    }


def test_two_runs_of_one_kind_are_told_apart_by_their_folders(tmp_path):
    own = results_of(["FI-2"], 10)
    write_runs(tmp_path, true=own, a=seen(own, "grey"), b=seen(own, "grey", seed=2))
    text, _ = compare_replaced(tmp_path / "true", [tmp_path / "a", tmp_path / "b"], 100, 0)
    assert f"grey (b): {tmp_path / 'b'}" in text
    with pytest.raises(ComparisonError, match="expected each run once"):
        compare_replaced(tmp_path / "true", [tmp_path / "a", tmp_path / "b", tmp_path / "b"], 100, 0)


def test_a_folder_that_is_there_twice_is_refused(tmp_path, monkeypatch, capsys):
    own = results_of(["FI-2"], 10)
    write_runs(tmp_path, true=own, grey=seen(own, "grey"))  # named as its kind is
    again = tmp_path / "true" / ".." / "grey"
    monkeypatch.setattr(
        sys, "argv", ["compare", *map(str, (tmp_path / "true", "--replaced", tmp_path / "grey", again))]
    )
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert capsys.readouterr() == ("", f"cannot compare: {again}: expected each run of --replaced once\n")
    assert not (tmp_path / "true" / "image_reliance.tsv").exists()


def test_a_comparison_of_two_runs_says_which_of_them_saw_other_images(tmp_path, monkeypatch, capsys):
    own = results_of(["FI-2"], 20)
    write_runs(tmp_path, true=own, a=seen(own, "grey", confidence=(0.1, 0.2)))
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "true"), str(tmp_path / "a"), "--n_resamples", "200"])
    main()
    printed = capsys.readouterr().out
    assert "NOTE: run B: in place of each image the model saw mid-grey" in printed
    block = printed[printed.index("Mean confidence (neither is better)") :]
    assert " lower" in block and "worse" not in block
