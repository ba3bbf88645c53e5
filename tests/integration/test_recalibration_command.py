"""The command that recalibrates: what it prints, saves and refuses."""

import pytest

from inference.metrics.calibration import expected_calibration_error
from inference.metrics.recalibration import fit_recalibration
from inference.recalibration import load_recalibration
from tests.helpers.commands import write_jsonl
from tests.helpers.forked import run_forked
from tests.helpers.results import a_result, answer, overconfident, score


def test_the_command_prints_before_and_after_and_saves_the_chosen_method(tmp_path):
    confidence, right = overconfident(300)
    results = [
        a_result(response=answer("awe" if y else "fear", c), image=f"{i}.jpg", model="tiny", model_notice="tiny model")
        for i, (c, y) in enumerate(zip(confidence, right, strict=True))
    ]
    write_jsonl(tmp_path / "merged.jsonl", results)
    done = run_forked("-m", "inference.recalibration", "--output_path", tmp_path, "--method", "temperature")
    assert "NOTE: tiny model" in done.stdout
    assert "-- ID VER (300 answers with a confidence)\nas stated " in done.stdout
    loaded = load_recalibration(tmp_path / "recalibration.json")
    assert loaded.maps["ID VER"] == fit_recalibration("temperature", confidence, right)
    assert list(loaded.maps) == ["ID VER", "Overall"]
    assert loaded.facts["notices"] == ["tiny model"]
    assert loaded.facts["responses_with_a_confidence"]["ID VER"] == 300
    scores = loaded.facts["cross_fitted"]["scores"]["ID VER"]
    assert scores["temperature"]["ece"] < scores["as stated"]["ece"]
    stated = score(expected_calibration_error, confidence, right)
    assert scores["as stated"]["ece"] == pytest.approx(stated)
    assert f"{100 * stated:.2f}" in done.stdout


def test_answers_that_all_name_one_image_are_recalibrated_by_folds_of_answers_and_it_is_said(tmp_path):
    confidence, right = overconfident(100)
    results = [
        a_result(response=answer("awe" if y else "fear", c), image="placeholder.jpg")
        for c, y in zip(confidence, right, strict=True)
    ]
    write_jsonl(tmp_path / "merged.jsonl", results)
    done = run_forked("-m", "inference.recalibration", "--output_path", tmp_path)
    assert "NOTE: 100 samples share an image" in done.stdout
    scores = load_recalibration(tmp_path / "recalibration.json").facts["cross_fitted"]["scores"]["Overall"]
    assert scores["isotonic"]["ece"] < scores["as stated"]["ece"]


def test_a_run_without_confidences_is_one_clear_line(tmp_path):
    write_jsonl(tmp_path / "merged.jsonl", [a_result()])
    done = run_forked("-m", "inference.recalibration", "--output_path", tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"cannot recalibrate: none of the 1 responses in {tmp_path} states a confidence\n"


def test_a_folder_without_results_is_one_clear_line(tmp_path):
    done = run_forked("-m", "inference.recalibration", "--output_path", tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot recalibrate: {tmp_path}: expected result shards")
