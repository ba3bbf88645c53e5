"""The two recipes for a confidence side by side: which results the table is made from, and what it holds them to."""

import pytest

from scripts.toy_world import recipes
from scripts.toy_world.world import NOTICE, posterior
from tests.helpers.commands import write_jsonl

CUES = {"colour": "blue", "scene": "rain", "mouth": "frown", "brows": "slanted", "figure": "friend"}
POSTERIOR = posterior("EmoSet-8", CUES)  # mostly sadness


def results(stated, found=None):
    """Two right answers and a wrong one, each with its stated confidence and the one at its first mention."""
    lines = []
    for i, (answer, confidence) in enumerate(zip(("sadness", "sadness", "awe"), stated, strict=True)):
        line = {"sample_id": str(i), "task": "EmoSet-8", "ground_truth": "sadness", "candidates": list(POSTERIOR),
                "cues": CUES, "label_distribution": POSTERIOR, "notice": NOTICE, "image": f"{i}.png",
                "response": f"<answer>{answer}</answer><confidence>{confidence}</confidence>"}  # fmt: skip
        if found:
            rest = (1 - found[i]) / (len(POSTERIOR) - 1)
            line["candidate_probabilities"] = {name: found[i] if name == answer else rest for name in POSTERIOR}
            line["candidate_place"] = "first_mention"
        lines.append(line)
    return lines


@pytest.fixture
def folders(tmp_path):
    """(the claim's folder, a work folder of the second recipe): its confidence is the posterior to three digits."""
    claim, work = tmp_path / "claim", tmp_path / "recipes" / "seed_3"
    p = [round(POSTERIOR[name], 3) for name in ("sadness", "sadness", "awe")]
    for folder, lines in (
        (claim / "seed_3/results/cold_start", results([0.95, 0.5, 0.9])),
        (claim / "seed_3/results/emocaliber", results([0.7, 0.6, 0.7])),
        (work / "results/cold_start", results([0.95, 0.5, 0.9], p)),
    ):
        folder.mkdir(parents=True)
        write_jsonl(folder / "merged.jsonl", lines)
    return claim, work


def test_the_second_recipe_is_judged_by_its_confidence_at_the_first_mention(folders):
    claim, work = folders
    table = recipes.recipes_table(recipes.recipe_tables([work], claim))
    assert list(table.index) == [("seed_3", name) for name in ("cold start", "paper's recipe", "first mention")]
    assert table["accuracy"].tolist() == pytest.approx([2 / 3] * 3)
    assert table.loc[("seed_3", "first mention"), "confidence_error"] < 0.001
    assert table.loc[("seed_3", "cold start"), "confidence_error"] > 0.2
    assert table["roc_auc"].tolist() == pytest.approx([0.5, 0.25, 1.0])
    assert [holds for holds, _ in recipes.verdicts(table)] == [True, True, True, True]


@pytest.mark.parametrize(
    ("column", "value", "broken"),
    [("confidence_error", 0.9, 0), ("roc_auc", 0.1, 1), ("ece", 0.06, 2), ("p_right", 0.5, 3)],
)
def test_each_part_fails_by_itself_in_a_single_seed(folders, column, value, broken):
    claim, work = folders
    table = recipes.recipes_table(recipes.recipe_tables([work], claim))
    table.loc[("seed_3", "first mention"), column] = value
    held = [holds for holds, _ in recipes.verdicts(table)]
    assert held == [part != broken for part in range(4)]


def test_the_command_prints_the_table_and_names_results_that_are_missing_or_lack_the_confidence(
    folders, monkeypatch, capsys
):
    claim, work = folders
    plot = work.parent / "recipes.png"
    monkeypatch.setattr("sys.argv", ["x", str(work), "--claim", str(claim), "--plot", str(plot)])
    assert recipes.main() == 0
    printed = capsys.readouterr().out
    assert NOTICE in printed and "| 3 | first mention | 66.7 |" in printed and printed.count("holds") == 4
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert (work.parent / "recipes.csv").read_text().count("\n") == 4
    write_jsonl(work / "results/cold_start/merged.jsonl", results([0.95, 0.5, 0.9]))
    for expected in (
        "merged.jsonl: expected results with --candidate_place first_mention",
        "merged.jsonl: no such file",
    ):
        with pytest.raises(SystemExit) as ended:
            recipes.main()
        assert ended.value.code == 2
        assert expected in capsys.readouterr().err
        (work / "results/cold_start/merged.jsonl").unlink(missing_ok=True)
