"""A shard that is cut or damaged anywhere: what is whole is kept, the rest is inferred again, and counts add up."""

import pytest
from PIL import Image

from inference.common.json_lines import to_line
from inference.data.images import ImageSource
from inference.engines.base import EngineSettings, Output
from inference.evaluate import checked_against_data
from inference.metrics.results import read_shards
from inference.runs.shards import ShardWriter, read_results, shard_path
from inference.runs.worker import infer_share, share_of
from tests.helpers.commands import write_jsonl

N = 4
RESPONSE = "<think>naïve 😀 “é”</think><answer>awe</answer><confidence>0.8</confidence>"


class Repeats:
    """An engine that gives every request the same response and writes down whom it was asked for."""

    def __init__(self):
        self.asked = []

    def run(self, requests):
        for request in requests:
            if request is not None:
                self.asked.append(request.sample_id)
                yield Output(request.sample_id, RESPONSE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    Image.new("RGB", (28, 28), "navy").save(folder / "i.png")
    common = {"image": "i.png", "ground_truth": "awe", "candidates": ["awe", "fear"], "task": "FI-8"}
    return write_jsonl(folder / "data.jsonl", [{"id": f"é😀{number}", **common} for number in range(N)])


def infer(data, output):
    """One start of a worker, in this process; returns whom the engine was asked for, None when it was not started."""
    engines = []

    def start():
        engines.append(Repeats())
        return engines[-1]

    settings = EngineSettings(engine="openai", base_url="http://unused", model_name="m")
    with ShardWriter(output, 0, 1) as writer:
        infer_share(share_of(data, 0, 1, None), writer, settings, start, ImageSource([data.parent]))
    return sorted(engines[0].asked) if engines else None


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The bytes of an uninterrupted run's shard."""
    output = tmp_path_factory.mktemp("whole")
    assert infer(data, output) == [f"é😀{number}" for number in range(N)]
    return shard_path(output, 0, 1).read_bytes()


def counted(data, output):
    """(ids in the evaluation's table, ids that it calls not inferred)."""
    results = read_shards(output)
    assert results.failed == []
    return list(results.table["sample_id"]), [row["sample_id"] for row in checked_against_data(results, data)[0]]


def test_a_shard_cut_at_any_byte_of_its_last_line_costs_that_sample_alone(data, whole, tmp_path):
    ids = [f"é😀{number}" for number in range(N)]
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    shard = shard_path(tmp_path, 0, 1)
    places = range(last, len(whole) + 1)
    assert len(places) > 200 and any(byte > 127 for byte in whole[last:])
    for place in places:
        complete = place >= len(whole) - 1  # only the line break is missing, or nothing
        shard.write_bytes(whole[:place])
        assert counted(data, tmp_path) == ((ids, []) if complete else (ids[:-1], ids[-1:])), place
        assert infer(data, tmp_path) == (None if complete else ids[-1:]), place
        assert shard.read_bytes() == whole, place
    assert N - len(counted(data, tmp_path)[0]) == 0


DAMAGE = {
    "empty": b"",
    "zeros, as after a power cut": b"\0" * 300,
    "bytes": bytes(range(128, 256)).replace(b"\n", b""),
    "half a line": None,  # the line's first half, run together with the next line
    "a list": b"[1, 2]",
    "a number": b"7",
    "nothing known": b"{}",
    "no response": '{"sample_id": "é😀1", "position": 1}'.encode(),
    "no position": to_line(
        {"sample_id": "é😀1", "response": "x", "task": "FI-8", "candidates": ["awe"], "ground_truth": "awe"}
    ).encode(),
    "an id of another type": b'{"sample_id": 1, "position": 1, "response": "x"}',
    "a position of another type": '{"sample_id": "é😀1", "position": "1", "error": "x"}'.encode(),
    "deep": b"[" * 100_000,
    "a byte-order mark in mid-file": b"\xef\xbb\xbf{}",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_line_in_the_middle_costs_what_it_damages_alone(data, whole, tmp_path, kind):
    lines = whole.splitlines(keepends=True)
    damaged = DAMAGE[kind]
    lost = [1] if damaged is not None else [1, 2]
    lines[1] = lines[1][:150] if damaged is None else damaged + b"\n"
    shard = shard_path(tmp_path, 0, 1)
    shard.write_bytes(b"".join(lines))
    kept = [f"é😀{number}" for number in range(N) if number not in lost]
    again = [f"é😀{number}" for number in lost]
    assert counted(data, tmp_path) == (kept, again)
    assert [result["sample_id"] for result in read_results(shard)] == kept
    assert infer(data, tmp_path) == again
    assert shard.read_bytes() == whole
    assert N - len(counted(data, tmp_path)[0]) == 0


def test_a_kill_between_the_sorted_copy_and_its_name_leaves_nothing_behind(data, whole, tmp_path):
    """The copy has the killed process's name; the next start clears it away and sorts again."""
    shard = shard_path(tmp_path, 0, 1)
    shard.write_bytes(b"".join(whole.splitlines(keepends=True)[::-1]))
    left = tmp_path / f".{shard.name}.4194305.tmp"
    left.write_bytes(whole[:100])
    assert infer(data, tmp_path) is None
    assert shard.read_bytes() == whole
    assert not left.exists()
