"""Requests that are not ready yet: the real engines go on with what they have, and nothing is lost."""

import dataclasses
import os
import threading
import time
from pathlib import Path

import pytest

from inference.data.images import ImageSource
from inference.data.loader import ImageLoader
from inference.data.prompts import chat_messages
from inference.engines.base import EngineFailed, EngineSettings, Request
from inference.engines.load import load_engine
from inference.runs.shards import ShardWriter, finished_samples, shard_path
from inference.runs.worker import Worker, share_of
from tests.helpers.commands import TOY_CHECKPOINT, read_jsonl

SETTINGS = EngineSettings(
    str(TOY_CHECKPOINT), "toy", temperature=0, max_new_tokens=160, min_pixels=3136, max_pixels=12544, max_num_seqs=8
)
PATIENCE = 120  # seconds until a test gives up on an engine that stands still


@pytest.fixture(scope="module", params=["vllm", "transformers"])
def engine(request):
    """An engine in this process; what it sets in the environment is taken back for the tests after it."""
    before = dict(os.environ)
    yield load_engine(dataclasses.replace(SETTINGS, engine=request.param))
    os.environ.clear()
    os.environ.update(before)


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
    return [Request(record.sample_id, chat_messages(record), source.load(record.image)) for record in records]


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
    requests.insert(7, Request("too long", too_long, requests[0].image))

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
