"""The real engines under a worker: requests that are not ready yet, records of two images; nothing is lost."""

import dataclasses
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from inference.data.images import FACTOR, ImageSource
from inference.data.loader import ImageLoader
from inference.data.prompts import chat_messages
from inference.data.response import ANSWER, PLACES
from inference.engines.base import EngineFailed, EngineSettings, Request
from inference.engines.load import load_engine
from inference.runs.shards import ShardWriter, finished_samples, shard_path
from inference.runs.worker import Worker, infer_share, share_of
from tests.helpers.commands import TOY_CHECKPOINT, read_jsonl, write_jsonl

SETTINGS = EngineSettings(
    str(TOY_CHECKPOINT), "toy", temperature=0, max_new_tokens=160, min_pixels=3136, max_pixels=12544, max_num_seqs=8,
    max_images=2,
)  # fmt: skip
PATIENCE = 120  # seconds until a test gives up on an engine that stands still


@pytest.fixture(scope="module", params=["vllm", "transformers"])
def engine(request):
    """An engine in this process; what it sets in the environment is taken back for the tests after it."""
    before = dict(os.environ)
    yield load_engine(dataclasses.replace(SETTINGS, engine=request.param))
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("engine", ["vllm"], indirect=True)
def test_scoring_candidates_leaves_sampled_responses_as_they_are(engine, place, toy_data, monkeypatch):
    """Each request keeps its own seed beside the requests that only score."""
    found = {}
    for scored in (False, True):
        more = {"candidate_probabilities": True, "candidate_place": place} if scored else {}
        settings = dataclasses.replace(SETTINGS, temperature=0.7, **more)
        monkeypatch.setattr(engine, "settings", settings)
        requests = [
            dataclasses.replace(request, candidates=record.candidates)
            for record in share_of(toy_data, 0, 1, 24)
            for request in requests_of([record], toy_data.parent)
        ]
        found[scored] = {output.sample_id: output for output in engine.run(iter(requests))}
    assert {name: output.response for name, output in found[True].items()} == {
        name: output.response for name, output in found[False].items()
    }
    known = [output for output in found[True].values() if output.candidate_probabilities]
    assert len(known) >= 20
    assert {output.candidate_place for output in known} == {None if place == ANSWER else place}


@dataclasses.dataclass
class SlowSource(ImageSource):
    """An image source that reads the image ``slow`` only when ``gate`` is open."""

    slow: str = ""
    gate: threading.Event = dataclasses.field(default_factory=threading.Event)

    def load(self, reference):
        if reference == self.slow:
            assert self.gate.wait(PATIENCE), "nobody opened the gate"
        return super().load(reference)


def requests_of(records, folder):
    source = ImageSource([folder], SETTINGS.budget)
    return [Request(record.sample_id, chat_messages(record), [source.load(record.image)]) for record in records]


def test_an_engine_that_gets_none_goes_on_with_what_it_has(engine, toy_data):
    """The second request comes only after the first one's output: who waits for it waits for ever."""
    first, second = requests_of(share_of(toy_data, 0, 1, 2), toy_data.parent)
    finished = []

    def requests():
        yield None  # nothing at all yet
        yield first
        deadline = time.monotonic() + PATIENCE
        while not finished:
            assert time.monotonic() < deadline, "the engine did not go on"
            yield None
        yield second
        yield None

    for output in engine.run(requests()):
        finished.append(output.sample_id)
    assert finished == [first.sample_id, second.sample_id]


def test_pauses_between_requests_neither_lose_nor_change_a_response(engine, toy_data):
    requests = requests_of(share_of(toy_data, 0, 1, 20), toy_data.parent)
    too_long = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "emotion " * 5000}]}]
    requests.insert(7, Request("too long", too_long, requests[0].images))

    def with_pauses():
        for index, request in enumerate(requests):
            yield from [None] * (index % 4)
            yield request

    def found(outputs):
        return sorted((output.sample_id, output.response, output.error) for output in outputs)

    together, apart = found(engine.run(requests)), found(engine.run(with_pauses()))
    assert apart == together
    assert [sample_id for sample_id, _, _ in apart] == sorted(request.sample_id for request in requests)
    assert [sample_id for sample_id, _, error in apart if error] == ["too long"]


@pytest.mark.parametrize("engine", ["vllm"], indirect=True)
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_a_response_is_the_text_that_vllm_itself_decodes(engine, toy_data, monkeypatch, temperature):
    """At 1.5 many are special tokens, and bytes that are no UTF-8."""
    monkeypatch.setattr(engine, "settings", dataclasses.replace(SETTINGS, temperature=temperature))
    requests = requests_of(share_of(toy_data, 0, 1, 16), toy_data.parent)
    ours = {output.sample_id: output.response for output in engine.run(iter(requests))}
    prompts, sampling = zip(*map(engine.prepare, requests), strict=True)
    for params in sampling:
        params.detokenize = True
    theirs = engine.llm.generate(list(prompts), list(sampling), use_tqdm=False)
    assert list(ours.values()) != [""] * 16
    assert {request.sample_id: result.outputs[0].text for request, result in zip(requests, theirs, strict=True)} == ours


def test_requests_that_never_come_leave_an_engine_with_nothing(engine):
    assert list(engine.run(iter([None, None, None]))) == []


def test_a_slow_image_holds_no_other_sample_up(engine, toy_data, tmp_path):
    """It is the second of 16, and can be read only when all the others have been answered and written."""
    records = share_of(toy_data, 0, 1, 16)
    source = SlowSource([Path(toy_data).parent], SETTINGS.budget, slow=records[1].image)

    class Watched(Worker):
        def finish(self, output):
            super().finish(output)
            if self.predicted == 15:
                source.gate.set()

    with ShardWriter(tmp_path, 0, 1) as writer, ImageLoader(source, workers=2, ahead=4) as loader:
        Watched(writer, SETTINGS).run(engine, loader.load(records), len(records))
        order = [line["sample_id"] for line in read_jsonl(writer.path)]
    assert order[-1] == records[1].sample_id
    assert sorted(order) == sorted(record.sample_id for record in records)
    # In the data's order once the shard is closed.
    assert [line["sample_id"] for line in read_jsonl(writer.path)] == [record.sample_id for record in records]


def test_an_engine_that_dies_in_the_middle_loses_no_finished_line(engine, toy_data, tmp_path, monkeypatch):
    """The model's call raises once eight samples are written; what was under way is inferred by the next start."""
    records = share_of(toy_data, 0, 1, 16)

    def infer(output, died=None):
        """Infer what is missing; with ``died``, the engine's own call raises when eight lines are there."""
        with ShardWriter(output, 0, 1) as writer:
            known = finished_samples(output)
            missing = [record for record in records if record.sample_id not in known]
            worker = Worker(writer, SETTINGS)
            model, name = (
                (engine.model, "generate")
                if hasattr(engine, "model")
                else (engine.llm.llm_engine.engine_core, "get_output")
            )
            call = getattr(model, name)

            def failing(*arguments, **options):
                if died and worker.predicted >= 8:
                    raise RuntimeError(died)
                return call(*arguments, **options)

            source = ImageSource([Path(toy_data).parent], SETTINGS.budget)
            with monkeypatch.context() as patch, ImageLoader(source, in_order=True) as loader:
                patch.setattr(model, name, failing)
                worker.run(engine, loader.load(missing), len(missing))
        return shard_path(output, 0, 1).read_bytes()

    whole = infer(tmp_path / "whole")
    with pytest.raises(EngineFailed, match="RuntimeError: no memory left"):
        infer(tmp_path / "broken", "no memory left")
    assert 8 <= len(finished_samples(tmp_path / "broken")) < 16
    if not hasattr(engine, "model"):  # a new process would have a new engine
        engine.llm.llm_engine.abort_request([record.sample_id for record in records])
    assert infer(tmp_path / "broken") == whole


SIZES = {"a": (84, 84), "b": (112, 56)}  # 9 and 8 image tokens
QUESTION = "First <image>, then <image>. Which emotion?"


@pytest.fixture(scope="module")
def pairs(toy_data, tmp_path_factory):
    """A file of records with two images, two toy images of different shapes, and some that cannot be used."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, record in zip(SIZES, share_of(toy_data, 0, 1, 2), strict=True):
        with Image.open(toy_data.parent / record.image) as image:
            image.convert("RGB").resize(SIZES[name]).save(folder / f"{name}.png")
    common = {"ground_truth": "awe", "candidates": ["amusement", "awe", "fear"], "task": "FI-8"}
    turns = {"conversations": [{"role": "user", "content": QUESTION}]}
    rows = [
        {"id": "ab", "images": ["a.png", "b.png"], **turns},
        {"id": "ba", "images": ["b.png", "a.png"], **turns},
        {"id": "one", "image": "a.png"},
        {"id": "bare", "image": ["a.png", "b.png"]},
        {"id": "missing", "images": ["a.png", "none.png"], **turns},
        {"id": "three", "images": ["a.png", "b.png", "a.png"]},
        {"id": "aa", "images": ["a.png", "a.png"], **turns},
    ]
    return write_jsonl(folder / "pairs.jsonl", [{**common, **row} for row in rows])


@pytest.fixture(scope="module")
def by_the_model_alone(pairs):
    """id → (response, prompt tokens): transformers' own processor and ``generate``, one record at a time."""
    processor = AutoProcessor.from_pretrained(TOY_CHECKPOINT, min_pixels=3136, max_pixels=12544)
    model = AutoModelForImageTextToText.from_pretrained(TOY_CHECKPOINT, dtype=torch.float32).eval()
    mark, found = "<|vision_start|><|image_pad|><|vision_end|>", {}
    for record in share_of(pairs, 0, 1, None, max_images=2):
        if record.sample_id not in ("ab", "ba", "bare", "aa"):
            continue
        text = QUESTION.replace("<image>", mark)
        if record.sample_id == "bare":  # the released model's question
            text = mark * 2 + chat_messages(record)[0]["content"][-1]["text"]
        turns = [{"role": "user", "content": text}]
        prompt = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        images = [Image.open(pairs.parent / name) for name in record.images]
        inputs = processor(text=[prompt], images=images, return_tensors="pt")
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=160, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        found[record.sample_id] = (
            processor.decode(tokens, skip_special_tokens=True),
            inputs["input_ids"].shape[1],
        )
    return found


def test_records_of_two_images_are_answered_as_by_the_model_alone(
    engine, pairs, by_the_model_alone, tmp_path, monkeypatch
):
    """The first image is the first place's; who names a missing image, or too many, is an error of its own."""
    settings = dataclasses.replace(SETTINGS, candidate_probabilities=True)
    monkeypatch.setattr(engine, "settings", settings)
    source = ImageSource([pairs.parent], SETTINGS.budget)
    with ShardWriter(tmp_path, 0, 1) as writer:
        infer_share(share_of(pairs, 0, 1, None, max_images=2), writer, settings, lambda: engine, source)
    results = {line["id"]: line for line in read_jsonl(shard_path(tmp_path, 0, 1))}
    assert len(results) == 7
    for name, (response, prompt_tokens) in by_the_model_alone.items():
        assert (results[name]["response"], results[name]["prompt_tokens"]) == (response, prompt_tokens)
        assert sum(results[name].get("candidate_probabilities", {"": 1}).values()) == pytest.approx(1)
    assert sum("candidate_probabilities" in result for result in results.values()) >= 2
    tokens = {name: width * height // FACTOR**2 for name, (width, height) in SIZES.items()}
    assert tokens == {"a": 9, "b": 8}
    for name in ("ab", "ba", "aa"):
        assert results[name]["image_tokens"] == sum(tokens[image] for image in name)
    assert results["bare"]["image_tokens"] == 17 and results["one"]["image_tokens"] == 9
    means = [results[name]["mean_log_probability"] for name in ("ab", "ba")]
    assert means[0] != pytest.approx(means[1], abs=1e-3)
    error = results["missing"]["error"]
    assert error.startswith("line 5, field 'image': image none.png: no such file") and error.endswith("(image 2 of 2)")
    assert "line 6, field 'images': expected 1 to 2 images (max_images), got 3" in results["three"]["error"]


@pytest.mark.parametrize("engine", ["vllm"], indirect=True)
def test_more_images_than_a_model_takes_are_that_requests_error_and_the_others_go_on(engine, pairs):
    """What vLLM says of a family that takes one image, here of the two that this engine was started for."""
    records = [item for item in share_of(pairs, 0, 1, None, max_images=3) if item.sample_id in ("three", "ab")]
    source = ImageSource([pairs.parent], SETTINGS.budget)
    requests = [
        Request(record.sample_id, chat_messages(record), [source.load(image) for image in record.images])
        for record in records
    ]
    found = {output.sample_id: output.error for output in engine.run(iter(requests))}
    assert found.keys() == {"three", "ab"} and found["ab"] is None
    assert found["three"].startswith("vLLM refused the request: At most 2 image(s) may be provided in one prompt")
    assert "\n" not in found["three"]
