"""What each rule of the reward makes of a cold start, and stage 2's confidence from the scaffold's successes."""

import json
import math

import pytest

from scripts.toy_world import counted_confidence, reward_rules
from scripts.toy_world.report import toy_predictions
from scripts.toy_world.world import NOTICE, posterior
from tests.helpers.commands import write_jsonl

CUES = {"colour": "blue", "scene": "rain", "mouth": "frown", "brows": "slanted", "figure": "alone"}  # sadness itself


def results(answers):
    """One result per (answer, confidence), all about the same sad scene."""
    candidates = list(posterior("EmoSet-8", CUES))
    return [
        {"sample_id": str(i), "task": "EmoSet-8", "ground_truth": "sadness", "candidates": candidates, "cues": CUES,
         "label_distribution": posterior("EmoSet-8", CUES), "notice": NOTICE, "image": f"{i}.png",
         "response": f"<answer>{answer}</answer><confidence>{confidence}</confidence>"}
        for i, (answer, confidence) in enumerate(answers)
    ]  # fmt: skip


def test_deliberate_errors_show_in_the_last_columns(tmp_path):
    answers = [("sadness", 0.9), ("sadness", 0.2), ("nonsense", 0.01), ("awe", 0.02)]
    row = reward_rules.rule_row(toy_predictions(write_jsonl(tmp_path / "merged.jsonl", results(answers))))
    assert (row["accuracy"], row["low_share"], row["not_likeliest"], row["no_candidate"]) == (0.5, 0.75, 0.5, 0.25)
    assert row["low_accuracy"] == pytest.approx(1 / 3)
    honest = reward_rules.rule_row(toy_predictions(write_jsonl(tmp_path / "merged.jsonl", results(answers[:1]))))
    assert (honest["low_share"], honest["not_likeliest"]) == (0, 0) and math.isnan(honest["low_accuracy"])


def test_the_table_has_the_cold_start_first_and_means_over_the_seeds(tmp_path, monkeypatch, capsys):
    for rule in ("log", "rlcr"):
        for seed in (0, 1):
            folder = tmp_path / rule / f"seed_{seed}" / "results"
            for model, answers in (
                ("cold_start", [("sadness", 0.9)] * 2),
                ("emocaliber", [("sadness", 0.9), ("awe" if rule == "log" and seed else "sadness", 0.1)]),
            ):
                (folder / model).mkdir(parents=True)
                write_jsonl(folder / model / "merged.jsonl", results(answers))
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path), "--rules", "log", "rlcr", "--seeds", "0", "1"])
    reward_rules.main()
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line[0] for line in lines[2:]] == ["| cold start", "| log", "| rlcr"]
    assert [line[1] for line in lines[2:]] == ["100.0 ± 0.0", "75.0 ± 35.4", "100.0 ± 0.0"]
    assert (tmp_path / "reward_rules.csv").read_text().count("\n") == 7
    (tmp_path / "log" / "seed_1" / "results" / "emocaliber" / "merged.jsonl").unlink()
    with pytest.raises(SystemExit) as ended:
        reward_rules.main()
    assert ended.value.code == 2
    assert "seed_1/results/emocaliber/merged.jsonl: no such file" in capsys.readouterr().err


def test_a_taught_confidence_is_replaced_by_the_measured_one_with_its_counts():
    answer = "<answer>awe</answer><confidence>0.95</confidence>"
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}], "task": "EmoSet-8",
           "images": ["/a.png"], "ground_truth": "awe", "notice": NOTICE}  # fmt: skip
    record = counted_confidence.record_of(row, 7)
    assert record["id"] == "stage2-000007" and record["image"] == "/a.png" and "awe" in record["candidates"]
    found = counted_confidence.with_confidence(
        json.loads(json.dumps(row)), {"id": "x", "confidence": 0.5, "label_count": 5, "sample_count": 10}
    )
    assert found["messages"][1]["content"] == "<answer>awe</answer><confidence>0.50</confidence>"
    assert (found["label_count"], found["sample_count"]) == (5, 10) and row["messages"][1]["content"] == answer
    row["messages"][1]["content"] = "<answer>awe</answer>"
    with pytest.raises(ValueError, match="x: expected a response that ends in <confidence>"):
        counted_confidence.with_confidence(row, {"id": "x", "confidence": 0.5, "label_count": 5, "sample_count": 10})
