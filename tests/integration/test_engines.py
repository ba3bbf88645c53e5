"""The real engines on the toy checkpoint: vLLM and transformers, sampling, pixel budget, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from inference.data.response import read_response
from inference.inference_vllm import main
from inference.runs.shards import read_results, shard_path
from tests.helpers.commands import REPO, TOY_CHECKPOINT, TOY_PIXELS, lines_in, read_jsonl, run, wait_until, write_jsonl
from tests.helpers.cuda_recorder import CudaRecorder
from tests.helpers.forked import run_forked
from tests.helpers.results import LOG_PROBABILITIES, same_but_for_log_probabilities


def infer_command(data, output, *more):
    return [
        "-m", "inference.inference_vllm", "--data_path", data, "--output_path", output,
        "--checkpoint", TOY_CHECKPOINT, "--max_new_tokens", "160", *more,
    ]  # fmt: skip


def responses(output, index=0, n_shards=1):
    return {result["sample_id"]: result for result in read_results(shard_path(output, index, n_shards))}


@pytest.fixture(scope="module")
def cuda(tmp_path_factory):
    """Notes what the runs of ``greedy`` ask CUDA."""
    return CudaRecorder(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="module")
def greedy(toy_data, tmp_path_factory, cuda):
    """engine → the results of a greedy run over the toy records."""
    results = {}
    for engine in ("vllm", "transformers"):
        output = tmp_path_factory.mktemp(engine)
        words = infer_command(toy_data, output, "--engine", engine, "--temperature", "0", *TOY_PIXELS)
        done = run(*words, env=cuda.environment)
        assert "read 36 = predicted 36 (0 of them before) + failed 0" in done.stderr.splitlines()[-1]
        results[engine] = responses(output)
    return results


def without(result, names):
    return {key: value for key, value in result.items() if key not in names}


def test_greedy_responses_of_vllm_and_transformers_are_equal(greedy):
    assert len(greedy["vllm"]) == 36
    for key, result in greedy["vllm"].items():
        assert without(result, LOG_PROBABILITIES) == without(greedy["transformers"][key], LOG_PROBABILITIES)


def test_vllm_is_started_without_a_question_to_cuda(greedy, cuda):
    """Those before the import of vLLM are in ``test_cuda_questions``; these come up to its engine."""
    assert cuda.before("reached LLM") == []


def test_log_probabilities_of_vllm_and_transformers_agree(greedy):
    """Batches of different sizes, kernels of different libraries: float32's last digits are their own."""
    for key, result in greedy["vllm"].items():
        for name in LOG_PROBABILITIES:
            assert result.get(name) == pytest.approx(greedy["transformers"][key].get(name), abs=1e-3)
            assert name not in result or result[name] <= 0
    known = [result for result in greedy["vllm"].values() if "answer_log_probability" in result]
    assert len(known) >= 0.9 * 36
    assert len({result["answer_log_probability"] for result in known}) > 10


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_log_probabilities_are_the_models_own_at_any_temperature(greedy, toy_data, tmp_path, engine):
    """At a temperature near 0 most of greedy's tokens are sampled again, each with a probability of nearly 1."""
    more = ["--engine", engine, "--temperature", "0.01", "--limit", "8", *TOY_PIXELS]
    run_forked(*infer_command(toy_data, tmp_path, *more))
    pairs = [(result, greedy[engine][key]) for key, result in responses(tmp_path).items()]
    same = [(result, other) for result, other in pairs if result["response"] == other["response"]]
    assert len(pairs) == 8 and len(same) >= 4
    for result, other in same:
        assert result["mean_log_probability"] == pytest.approx(other["mean_log_probability"], abs=1e-5)
        assert result["mean_log_probability"] < -0.01


def log_probabilities_by_loss(record, folder, head_of_response, closing):
    """candidate → (mean, sum) over its tokens between the two texts: minus the model's own loss on them."""
    processor = AutoProcessor.from_pretrained(TOY_CHECKPOINT, min_pixels=3136, max_pixels=12544)
    model = AutoModelForImageTextToText.from_pretrained(TOY_CHECKPOINT, dtype=torch.float32).eval()
    picture, text = record["conversations"][0]["content"]
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text["text"]}]}]
    head = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + head_of_response
    image = Image.open(folder / picture["image"])
    n_before = len(processor.tokenizer(head.rstrip(" "))["input_ids"])
    found = {}
    for candidate in record["candidates"]:
        inputs = processor(text=[f"{head}{candidate}{closing}"], images=[image], return_tensors="pt")
        n_image = (inputs["input_ids"] == processor.image_token_id).sum().item() - 1
        labels = torch.full_like(inputs["input_ids"], -100)
        labels[0, n_before + n_image : -1] = inputs["input_ids"][0, n_before + n_image : -1]  # the closing is one token
        with torch.inference_mode():
            mean = -model(**inputs, labels=labels).loss.item()
        found[candidate] = mean, mean * (labels != -100).sum().item()
    return found


@pytest.mark.parametrize(
    ("engine", "place"),
    [
        ("vllm", "first_mention"),
        ("transformers", "answer"),
        pytest.param("vllm", "answer", marks=pytest.mark.long),
        pytest.param("transformers", "first_mention", marks=pytest.mark.long),
    ],
)
def test_candidate_probabilities_are_what_the_models_own_loss_says(greedy, toy_data, tmp_path, engine, place):
    """And a response is the same with and without them."""
    more = ["--engine", engine, "--temperature", "0", "--limit", "9", "--candidate_probabilities", *TOY_PIXELS]
    run_forked(*infer_command(toy_data, tmp_path, *more, "--candidate_place", place))
    found = responses(tmp_path)
    assert len(found) == 9
    names = [*LOG_PROBABILITIES, "candidate_probabilities", "candidate_place"]
    for key, result in found.items():
        assert without(result, names) == without(greedy[engine][key], names)
        answered = "</answer>" in result["response"]
        assert ("candidate_probabilities" in result) == answered
        assert result.get("candidate_place") == (place if answered and place == "first_mention" else None)
        if answered:
            assert list(result["candidate_probabilities"]) == result["candidates"]
    record = next(row for row in read_jsonl(toy_data) if row["task"] == "WebEmo-7")
    result = found[record["id"]]
    response = result["response"]
    answer = response[response.index("<answer>") + len("<answer>") : response.index("</answer>")]
    where = response.index("<answer>") + len("<answer>") if place == "answer" else response.index(answer)
    assert place == "answer" or where < response.index("</think>")
    closing = "</answer>" if place == "answer" else response[where + len(answer)]
    by_loss = log_probabilities_by_loss(record, toy_data.parent, response[:where], closing)
    scores = [mean if place == "answer" else total for mean, total in by_loss.values()]
    expected = torch.tensor(scores).softmax(0).tolist()
    assert list(result["candidate_probabilities"].values()) == pytest.approx(expected, abs=1e-4)
    assert max(expected) < 0.999  # not all or nothing


@pytest.mark.parametrize("engine", [pytest.param("vllm", marks=pytest.mark.long), "transformers"])
def test_a_response_without_an_answer_has_no_candidate_probabilities(toy_data, tmp_path, engine):
    more = ["--engine", engine, "--limit", "2", "--candidate_probabilities", "--max_new_tokens", "5", *TOY_PIXELS]
    run_forked(*infer_command(toy_data, tmp_path, *more))
    assert ["candidate_probabilities" in result for result in responses(tmp_path).values()] == [False, False]


def test_a_result_keeps_the_records_keys_and_adds_what_inference_knows(greedy, toy_data):
    for record in read_jsonl(toy_data):
        result = greedy["vllm"][record["id"]]
        assert {key: result[key] for key in record} == record
        assert result["image_tokens"] == 9  # 84 × 84 pixels
        assert result["prompt_tokens"] > result["image_tokens"]
        assert result["output_tokens"] > 20
        assert result["finish_reason"] == "stop"
        assert result["model"] == "checkpoint"
        assert result["model_notice"].startswith("toy model")


def test_responses_of_the_toy_checkpoint_are_well_formed(greedy):
    well_formed = [read_response(r["response"], r["candidates"]).well_formed for r in greedy["vllm"].values()]
    assert sum(well_formed) >= 0.9 * len(well_formed)


def test_another_records_image_is_answered_as_if_it_were_the_records_own(toy_data, tmp_path):
    """In its place, and from a data file that names it."""
    greedy = ["--engine", "transformers", "--temperature", "0", "--limit", "6", *TOY_PIXELS]
    run_forked(*infer_command(toy_data, tmp_path / "other", "--replace_images", "other", *greedy))
    other = responses(tmp_path / "other")
    assert len(other) == 6 and {result["replace_images"] for result in other.values()} == {"other"}
    rows = read_jsonl(toy_data)
    for row in rows[:6]:
        item = row["conversations"][0]["content"][0]
        shown = other[row["id"]]["image_shown"]
        assert shown != item["image"]
        item["image"] = str(toy_data.parent / shown)
    data = write_jsonl(tmp_path / "swapped.jsonl", rows)
    swapped = infer_command(data, tmp_path / "swapped", *greedy)
    run_forked(*swapped, "--image_root", toy_data.parent)
    for key, result in responses(tmp_path / "swapped").items():
        assert result["response"] == other[key]["response"]


# --- interrupted and resumed -----------------------------------------------------------


@pytest.mark.faults
def test_a_run_killed_in_the_middle_and_resumed_equals_an_uninterrupted_one(toy_data, tmp_path):
    """Two responses each at 0.7, a few at a time, kill -9 while some are done and some under way."""
    data = tmp_path / "data.jsonl"
    rows = read_jsonl(toy_data)
    for row in rows:
        image = row["conversations"][0]["content"][0]
        image["image"] = str(toy_data.parent / image["image"])
    write_jsonl(data, [{**row, "id": f"{row['id']}-{copy}"} for copy in range(2) for row in rows])
    one = ["--temperature", "0.7", "--seed", "3", "--max_num_seqs", "8", "--image_root", toy_data.parent, *TOY_PIXELS]
    more = [*one, "--n_responses", "2"]

    whole = tmp_path / "whole"
    run_forked(*infer_command(data, whole, *more))
    assert len(responses(whole)) == 72
    assert all(len(result["other_responses"]) == 1 for result in responses(whole).values())

    # The first response does not depend on how many there are.
    single = tmp_path / "single"
    run_forked(*infer_command(data, single, *one, "--limit", "18"))
    assert len(responses(single)) == 18
    first = [without(responses(whole)[key], ["other_responses"]) for key in responses(single)]
    same_but_for_log_probabilities(responses(single).values(), first)

    broken = tmp_path / "broken"
    command = [str(word) for word in (sys.executable, *infer_command(data, broken, *more))]
    worker = subprocess.Popen(
        command, cwd=REPO, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    shard = shard_path(broken, 0, 1)
    wait_until(lambda: lines_in(shard) >= 10, worker, seconds=240)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    done_before = len(responses(broken))
    assert 10 <= done_before < 72
    with open(shard, "ab") as handle:  # as if the kill had hit the middle of a write
        handle.write(b'{"sample_id": "toy-torn", "resp')

    again = run_forked(*infer_command(data, broken, *more))
    assert f"read 72 = predicted 72 ({done_before} of them before) + failed 0" in again.stderr
    assert list(responses(broken)) == list(responses(whole))
    same_but_for_log_probabilities(responses(broken).values(), responses(whole).values())


@pytest.mark.long
def test_neither_further_responses_nor_log_probabilities_change_the_first_one_of_transformers(toy_data, tmp_path):
    more = ["--engine", "transformers", "--temperature", "0.7", "--limit", "3", *TOY_PIXELS]
    run_forked(*infer_command(toy_data, tmp_path / "one", *more, "--no_logprobs"))
    run_forked(*infer_command(toy_data, tmp_path / "three", *more, "--n_responses", "3"))
    one, three = responses(tmp_path / "one"), responses(tmp_path / "three")
    assert one == {key: without(result, ["other_responses", *LOG_PROBABILITIES]) for key, result in three.items()}
    assert len(one) == 3
    assert all("mean_log_probability" in result for result in three.values())
    texts = [{result["response"], *result["other_responses"]} for result in three.values()]
    assert max(map(len, texts)) == 3  # different seeds


@pytest.mark.parametrize("temperature", ["0", "1"])
def test_the_checkpoint_s_own_way_of_generating_changes_nothing(toy_data, tmp_path, temperature):
    """It names another end of a turn, too: the tokenizer's counts, as with vLLM."""
    checkpoint = shutil.copytree(TOY_CHECKPOINT, tmp_path / "changed")
    own = {"min_p": 0.99, "top_k": 1, "no_repeat_ngram_size": 2, "repetition_penalty": 1.5, "num_beams": 2}
    text = json.dumps({**own, "do_sample": True, "eos_token_id": 842, "pad_token_id": 842, "max_new_tokens": 160})
    (checkpoint / "generation_config.json").write_text(text)
    results = []
    for folder in (TOY_CHECKPOINT, checkpoint):
        output = tmp_path / f"of {folder.name}"
        more = ["--engine", "transformers", "--temperature", temperature, "--limit", "2", "--model_name", "toy"]
        run_forked(*infer_command(toy_data, output, *more, *TOY_PIXELS, "--checkpoint", folder))
        results.append(responses(output))
    assert results[0] == results[1] and len(results[0]) == 2
    assert {result["finish_reason"] for result in results[0].values()} == {"stop"}


def test_a_finished_share_starts_no_engine(greedy, toy_data, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    with open(shard_path(output, 0, 1), "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(result) + "\n" for result in greedy["vllm"].values())
    # It would fail if it were loaded.
    done = run_forked(*infer_command(toy_data, output, "--checkpoint", "/nowhere", "--resume_anyway"))
    assert "36 samples in this share, 0 of them still to infer" in done.stderr


# --- bad input ---------------------------------------------------------------------------


def test_bad_records_and_images_become_error_lines_and_every_share_is_inferred(toy_data, tmp_path):
    """11 good samples, 7 bad ones and 2 shares: whatever n is, nothing is lost and nothing is done twice."""
    rows = read_jsonl(toy_data)[:11]
    for row in rows:
        image = row["conversations"][0]["content"][0]
        image["image"] = str(toy_data.parent / image["image"])
    (tmp_path / "torn.png").write_bytes((toy_data.parent / "images/test/000/000000.png").read_bytes()[:200])
    no_image = json.loads(json.dumps(rows[0]).replace(rows[0]["conversations"][0]["content"][0]["image"], "gone.png"))
    torn = json.loads(json.dumps(no_image).replace("gone.png", "torn.png"))
    # A literal image token in the text: the engine would be promised two images and get one (vLLM would die of it).
    second_image = json.loads(json.dumps(rows[3]))
    second_image["conversations"][0]["content"][1]["text"] += " <|vision_start|><|image_pad|><|vision_end|>"
    long = [json.loads(json.dumps(row)) for row in rows[:2]]  # of each worker's images
    for row in long:
        row["conversations"][0]["content"][1]["text"] += " emotion" * 5000
    lines = [json.dumps(row) for row in rows]
    lines[2:2] = ["{not json", json.dumps({**no_image, "id": "no image"}), json.dumps({**torn, "id": "torn"})]
    for index, bad in enumerate((*long, second_image, second_image)):
        lines.append(json.dumps({**bad, "id": f"bad prompt {index}"}))
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(lines), encoding="utf-8")

    output = tmp_path / "run"
    for index, engine in enumerate(("vllm", "transformers")):
        more = ["--index", index, "--n_shards", 2, "--engine", engine, "--temperature", "0", *TOY_PIXELS]
        run_forked(*infer_command(data, output, *more, "--image_root", toy_data.parent, "--resume_anyway"))
    done = run("-m", "inference.evaluate", "--output_path", output, "--data_path", data, "--no_plots")
    assert "read 18 = predicted 11 + failed 7" in done.stdout
    errors = {row["sample_id"]: row["error"] for row in read_jsonl(output / "error.jsonl")}
    assert f"{data}, line 3, field '(line)'" in errors["line-3"]
    assert "line 4, field 'image': image gone.png: no such file" in errors["no image"]
    assert "line 5, field 'image': image torn.png: cannot be read" in errors["torn"]
    assert "vLLM refused the request" in errors["bad prompt 0"] and "longer than" in errors["bad prompt 0"]
    assert "transformers refused the request: a prompt of" in errors["bad prompt 1"]
    for line in (17, 18):
        place = f"{data}, line {line}, field 'conversations[0].content[1]'"
        assert errors[f"line-{line}"].startswith(f"{place}: expected text without <|image_pad|>")
    assert [row["id"] for row in read_jsonl(output / "merged.jsonl")] == [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "2", "--n_shards", "2"], "expected 0 <= --index < --n_shards"),
        (["--engine", "openai"], "needs --base_url and --model_name"),
        (["--temperature", "-1"], "expected --temperature >= 0"),
        (["--temperature", "nan"], "argument --temperature: expected a finite number, got 'nan'"),
        (["--temperature", "Infinity"], "argument --temperature: expected a finite number, got 'Infinity'"),
        (["--timeout", "soon"], "argument --timeout: expected a finite number, got 'soon'"),
        (["--temperature", "0", "--n_responses", "3"], "n_responses 3 needs a temperature above 0"),
        (["--n_responses", "0"], "expected n_responses >= 1, got 0"),
        (["--min_pixels", "10", "--max_pixels", "5"], "min_pixels <= max_pixels"),
        (["--data_path", "/nowhere.jsonl"], "no such file: /nowhere.jsonl"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(toy_data, tmp_path, arguments, message, monkeypatch, capsys):
    _, *command = infer_command(toy_data, tmp_path / "run", *arguments)
    monkeypatch.setattr("sys.argv", [str(word) for word in command])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code != 0
    said = capsys.readouterr().err or stopped.value.code
    assert message in said.splitlines()[-1]


# --- real photographs --------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    run("-m", "scripts.data.photographs", "--output_dir", folder)
    return folder / "test.jsonl"


@pytest.mark.long
def test_many_responses_to_photographs_end_no_engine(photographs, tmp_path):
    """Their prompts are long enough for vLLM to share cached blocks, which its attention on CPU does not take.

    With prefix caching on, twelve responses to each end the engine; three do not.
    """
    more = ["--limit", "3", "--n_responses", "12", "--max_new_tokens", "8"]
    run_forked(*infer_command(photographs, tmp_path, *more))
    assert [len(result["other_responses"]) for result in responses(tmp_path).values()] == [11] * 3


def test_photographs_reach_vllm_within_the_published_pixel_budget(photographs, tmp_path):
    """Image token counts lie in 256..576 and are those of the processor's own grid on the original files."""
    from transformers import AutoProcessor

    run_forked(*infer_command(photographs, tmp_path, "--temperature", "0", "--max_new_tokens", "8"))
    results = responses(tmp_path)
    assert len(results) >= 20

    processor = AutoProcessor.from_pretrained(TOY_CHECKPOINT, min_pixels=200704, max_pixels=451584)
    for result in results.values():
        path = photographs.parent / result["conversations"][0]["content"][0]["image"]
        with Image.open(path) as image:
            grid = processor.image_processor(images=[image.convert("RGB")], return_tensors="pt")["image_grid_thw"][0]
        assert result["image_tokens"] == int(grid.prod()) // 4
        assert 256 <= result["image_tokens"] <= 576
        assert "placeholder labels" in result["notice"]
    widths = {result["image_tokens"] for result in results.values()}
    assert len(widths) > 3  # small and large photographs really differ
