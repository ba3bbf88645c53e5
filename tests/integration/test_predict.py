"""One image at a time: the command on real engines, and what it prints."""

import json
import re
import shutil

import numpy as np
import pytest

from inference.data.response import REASONING_STEPS, read_response
from inference.data.vecbench import MIKELS_8, TASKS
from inference.engines.base import EngineSettings, toy_limits
from inference.predict import main, to_json, to_text
from inference.predictor import Prediction, Predictor, check_candidates
from inference.recalibration import Recalibration, fit_recalibration, load_recalibration, save_recalibration
from inference.runs.shards import read_results, shard_path
from tests.helpers.commands import REPO, TOY_CHECKPOINT, run, write_jsonl
from tests.helpers.forked import run_forked


@pytest.fixture(scope="module")
def images(toy_data):
    """Three scenes."""
    return sorted((toy_data.parent / "images").rglob("*.png"))[:3]


def predict(*arguments, check=True):
    # vLLM's log goes to the stdout that was there when it was imported: it has to be a new process's.
    start = run if "vllm" in arguments else run_forked
    return start("-m", "inference.predict", *arguments, check=check)


def json_lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def mixed(images, tmp_path_factory):
    """A run over good and bad images: (the bad ones, the finished command)."""
    folder = tmp_path_factory.mktemp("bad images")
    text = folder / "text.png"
    text.write_text("no image")
    missing = folder / "missing.png"
    return (text, missing), predict(images[0], text, images[1], missing, images[0], "--json", check=False)


def test_a_bad_image_is_named_the_others_go_on_and_the_status_is_1(mixed, images):
    (text, missing), done = mixed
    assert done.returncode == 1
    lines = json_lines(done)
    assert [line["image"] for line in lines] == [str(path) for path in (images[0], text, images[1], missing, images[0])]
    assert lines[1]["error"].startswith(f"image {text}: cannot identify: expected JPEG, PNG")
    assert lines[3]["error"] == f"image {missing}: no such file"
    assert [f"error: {line['error']}" in done.stderr for line in lines if "error" in line] == [True, True]
    assert all("answer" not in line for line in lines if "error" in line)
    assert lines[0] == lines[4]  # the same image again


def test_the_answer_is_that_of_the_inference_run(mixed, images, tmp_path):
    """The same question, pixel budget and length, though no option names them."""
    records = [
        {"image": str(path), "candidates": list(MIKELS_8), "ground_truth": "awe", "task": "EmoSet-8"}
        for path in images[:2]
    ]
    data = write_jsonl(tmp_path / "data.jsonl", records)
    run_forked(
        "-m", "inference.inference_vllm", "--data_path", data, "--output_path", tmp_path, "--checkpoint",
        TOY_CHECKPOINT, "--engine", "transformers", "--temperature", "0", "--min_pixels", "3136",
        "--max_pixels", "12544", "--max_new_tokens", "192", "--image_root", images[0].parent,
    )  # fmt: skip
    results = {result["image"]: result for result in read_results(shard_path(tmp_path, 0, 1))}
    lines = [line for line in json_lines(mixed[1]) if "error" not in line]
    assert {line["image"] for line in lines} == set(results)
    for line in lines:
        result = results[line["image"]]
        reading = read_response(result["response"], MIKELS_8)
        assert (line["response"], line["answer"], line["confidence"]) == (
            result["response"], reading.label, reading.confidence,
        )  # fmt: skip
        assert line["answer"] in MIKELS_8 and 0 <= line["confidence"] <= 1
        assert list(line["reasoning"]) == list(REASONING_STEPS)
        for name in ("mean_log_probability", "answer_log_probability"):
            assert line[name] == pytest.approx(result[name], abs=1e-5)
        assert line["model_notice"].startswith("toy model")


def test_the_text_names_answer_confidence_and_all_five_steps_and_that_it_is_a_toy(mixed, images):
    done = predict(images[0])
    expected = json_lines(mixed[1])[0]
    lines = done.stdout.splitlines()
    assert lines[0] == f"NOTE: {expected['model_notice']}"
    assert str(images[0]) in lines
    assert re.search(rf"^  answer +{expected['answer']}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^  confidence +{expected['confidence']:.2f}  █", done.stdout, re.MULTILINE)
    for step in REASONING_STEPS:
        assert re.search(rf"^  {step} +{re.escape(expected['reasoning'][step][:40])}", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.long)])
def test_several_responses_give_their_agreement_on_labels_of_ones_own(images, engine, tmp_path):
    """The seed comes from the pixels: a copy elsewhere is answered alike. stdout is JSON only, whatever vLLM logs."""
    copy = shutil.copy(images[1], tmp_path / "copy.png")
    done = predict(
        images[1], copy, images[2], "--engine", engine, "--labels", "positive, negative", "--temperature", "0.7",
        "--n_responses", "3", "--candidate_probabilities", "--candidate_place", "first_mention", "--json",
    )  # fmt: skip
    first, again, _ = lines = json_lines(done)
    assert {**first, "image": ""} == {**again, "image": ""}
    for line in lines:
        assert line["candidates"] == ["positive", "negative"]
        texts = [line["response"], *line["other_responses"]]
        labels = [read_response(text, line["candidates"]).label for text in texts]
        assert len(labels) == 3
        assert line["agreement"] == labels.count(line["answer"]) / 3
        assert line["answers"] == {label: labels.count(label) for label in labels}
        assert list(line["candidate_probabilities"]) == ["positive", "negative"]
        assert sum(line["candidate_probabilities"].values()) == pytest.approx(1)
        assert line["candidate_place"] == "first_mention"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "calm"], "--labels: expected 2 to 100 labels, got 1"),
        (["--labels", "calm, Calm"], "--labels: expected each label once, got calm, Calm"),
        (["--labels", "calm, Unknown"], "--labels: expected another name for the label 'unknown', as which a response"),
        (["--labels", "calm," + "x" * 61], "--labels: expected labels of 1 to 60 characters"),
        (["--task", "EmoSet-9"], "invalid choice: 'EmoSet-9'"),
        (["--checkpoint", "/nowhere"], "/nowhere: no such folder: expected a model folder"),
        (["--n_responses", "3"], "n_responses 3 needs a temperature above 0, for instance 0.7"),
        (["--min_pixels", "20000"], "expected 0 < min_pixels <= max_pixels, got 20000 and 12544"),
        (["--candidate_place", "first_mention"], "--candidate_place first_mention needs --candidate_probabilities"),
        (["--engine", "openai"], "--engine openai needs --base_url and --model_name"),
        (
            ["--engine", "openai", "--base_url", "http://localhost", "--model_name", "m", "--candidate_probabilities"],
            "--candidate_probabilities needs the engine vllm, transformers or ray: endpoints score no text",
        ),
    ],
)
def test_options_that_cannot_work_are_refused_in_one_line(images, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["predict", str(images[0]), *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def recalibration(tmp_path_factory):
    """A file of maps as ``inference.recalibration`` saves it: of an overconfident model."""
    random = np.random.default_rng(0)
    stated = random.choice([0.6, 0.7, 0.8, 0.9, 0.95], 400)
    fitted = fit_recalibration("platt", stated, (random.random(400) < stated - 0.2).astype(int))
    path = tmp_path_factory.mktemp("maps") / "recalibration.json"
    save_recalibration({"Overall": fitted, "OOD VER": Recalibration("identity", 0)}, path, {})
    return path


@pytest.fixture(scope="module")
def predictor(recalibration):
    """The toy model in this process, its confidence recalibrated."""
    settings = EngineSettings(
        str(TOY_CHECKPOINT), engine="transformers", temperature=0, max_new_tokens=192, min_pixels=3136, max_pixels=12544
    )
    return Predictor(settings, recalibration=load_recalibration(recalibration))


def test_stated_and_recalibrated_confidence_stand_side_by_side(predictor, recalibration, images):
    (prediction,) = predictor.predict([images[0]], TASKS["EmoSet-8"].labels)
    expected = float(load_recalibration(recalibration).apply([prediction.confidence])[0])
    assert prediction.confidence - 0.4 < expected < prediction.confidence - 0.05
    assert prediction.recalibrated_confidence == expected
    (of_group,) = predictor.predict([prediction.image], MIKELS_8, "OOD VER")
    assert of_group.recalibrated_confidence == of_group.confidence
    assert json.loads(to_json(prediction))["recalibrated_confidence"] == expected
    assert re.search(rf"^  recalibrated +{expected:.2f}  █", to_text(prediction), re.MULTILINE)


def test_a_label_that_spells_an_image_token_is_this_images_error(predictor, images):
    (prediction,) = predictor.predict([images[0]], ["calm", "<|image_pad|>"])
    assert prediction.error.startswith(f"image {images[0]}: transformers refused the request: the prompt has 2 image")


def test_no_image_no_prediction(predictor):
    assert predictor.predict([], ["calm", "tense"]) == []


def test_labels_are_trimmed():
    assert check_candidates([" calm ", "deeply  moved\n"]) == ["calm", "deeply moved"]


def test_a_response_without_an_answer_is_shown_as_it_is():
    text = to_text(Prediction("a.png", ["calm", "tense"], answer="unknown", response="I cannot say."))
    assert "answer        none of the labels" in text
    assert "confidence    none stated" in text
    assert "response      I cannot say." in text
    assert text.count("(missing)") == 5


def test_what_a_model_writes_cannot_steer_the_terminal():
    reasoning = {"element": "red\x1b[2J\x07 tones\u202e"}
    text = to_text(Prediction("a\x1b.png", ["calm"], answer="calm", reasoning=reasoning, response=""))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "red\ufffd[2J\ufffd tones\ufffd" in text


def test_a_toy_model_names_its_limits_and_another_model_has_none(tmp_path):
    limits = toy_limits(str(TOY_CHECKPOINT))
    assert limits == {"min_pixels": 3136, "max_pixels": 12544, "max_new_tokens": 192}
    main_job = (REPO / "inference" / "infer_and_eval_example.sh").read_text()
    assert {name: f'{name}="${{{name}:-{value}}}"' in main_job for name, value in limits.items()} == dict.fromkeys(
        limits, True
    )
    other = tmp_path / "of transformers 5"
    other.mkdir()
    for name in ("notice.txt", "generation_config.json"):
        shutil.copy(TOY_CHECKPOINT / name, other)
    size = {"shortest_edge": 3136, "longest_edge": 12544}
    (other / "processor_config.json").write_text(json.dumps({"image_processor": {"size": size}}))
    assert toy_limits(str(other)) == limits
    assert toy_limits(str(tmp_path)) == {}
    (tmp_path / "notice.txt").write_text("toy")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json: expected the numbers min_pixels and max_pixels"):
        toy_limits(str(tmp_path))
