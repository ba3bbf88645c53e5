"""The endpoint engine against a real ``vllm serve`` on loopback, with and without faults in between."""

import http.client
import json
import os
import shutil
import sys
import threading
import time
from collections import Counter
from http.server import ThreadingHTTPServer
from typing import ClassVar

import pytest

from inference.data.images import ImageSource
from inference.data.prompts import chat_messages
from inference.engines.base import EngineSettings, Request
from inference.engines.load import load_engine
from inference.engines.vllm_cpu import cpu_variables
from inference.runs.shards import read_results, shard_path
from inference.runs.worker import share_of
from tests.helpers.commands import TOY_CHECKPOINT, TOY_PIXELS, free_port, read_jsonl, run, serving, write_jsonl
from tests.helpers.endpoint_server import JsonHandler, completion
from tests.helpers.forked import run_forked
from tests.helpers.results import LOG_PROBABILITIES

KEY = "a-key-that-must-not-be-written"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The port of a vLLM server with the toy checkpoint, under the key KEY.

    The model has ways of sampling of its own, as released ones have: the server's defaults.
    """
    port = free_port()
    folder = tmp_path_factory.mktemp("server")
    log, checkpoint = folder / "serve.log", shutil.copytree(TOY_CHECKPOINT, folder / "toy")
    settings = json.loads((checkpoint / "generation_config.json").read_text())
    own = {"repetition_penalty": 1.5, "top_p": 0.01, "top_k": 1, "min_p": 0.99}
    (checkpoint / "generation_config.json").write_text(json.dumps(settings | own))
    command = [
        # Not `vllm serve`, which asks for a package of the name vllm: the one for CPUs has another.
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint),
        "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "toy", "--api-key", KEY,
        "--dtype", "float32", "--enforce-eager", "--max-model-len", "4096", "--max-num-seqs", "16",
        "--max-num-batched-tokens", "65536", "--limit-mm-per-prompt", '{"image": 2, "video": 0}',
    ]  # fmt: skip
    environment = {**cpu_variables(), "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}  # a server runs its engine in a process
    with serving(command, f"http://127.0.0.1:{port}/health", log, 400, environment):
        yield port


class Proxy(JsonHandler):
    """Stands before the server at the port ``target``; a subclass says what it does to requests."""

    target = 0

    def pass_on(self, body):
        """(body, status) of the server's reply, as ``reply`` takes them."""
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=120)
        headers = {name: self.headers[name] for name in ("Content-Type", "Authorization")}
        connection.request("POST", self.path, body, headers)
        reply = connection.getresponse()
        return reply.read(), reply.status


class Faults(Proxy):
    """Greets each request's first tries with a fault, then passes it on."""

    tries: ClassVar[Counter] = Counter()
    under_way = most_under_way = 0
    lock = threading.Lock()
    kinds = ("429", "500", "drop", "none")

    def do_POST(self):
        body = self.read_body()
        with self.lock:
            key = hash(body)
            first_time = key not in self.tries
            self.tries[key] += 1
            kind = self.kinds[len(self.tries) % len(self.kinds)] if first_time else "none"
            type(self).under_way += 1
            type(self).most_under_way = max(self.most_under_way, self.under_way)
        try:
            if kind == "drop":
                self.close_connection = True
                return
            if kind != "none":
                self.reply({"error": {"message": "made-up fault"}}, int(kind))
                return
            self.reply(*self.pass_on(body))
        finally:
            with self.lock:
                type(self).under_way -= 1


class NoLogprobs(Proxy):
    """Takes no log-probabilities: refuses who asks for them, or (``quiet``) leaves them out of the reply."""

    quiet = False
    refused = 0

    def do_POST(self):
        body = self.read_body()
        asked = "logprobs" in json.loads(body)
        if asked and not self.quiet:
            type(self).refused += 1
            self.reply({"error": {"message": "logprobs is not supported with this model"}}, 400)
            return
        reply, status = self.pass_on(body)
        told = json.loads(reply)
        for choice in told["choices"]:
            assert (choice.pop("logprobs") is not None) == asked
        self.reply(told, status)


class Closed(JsonHandler):
    """A closed model's endpoint: refuses by name what its interface does not have."""

    def do_POST(self):
        asked = json.loads(self.read_body())
        unknown = sorted({"top_k", "min_p", "repetition_penalty"} & asked.keys())
        if unknown:
            self.reply({"error": {"message": f"Unrecognized request arguments supplied: {', '.join(unknown)}"}}, 400)
        elif "logprobs" in asked:
            self.reply({"error": {"message": "You are not allowed to request logprobs from this model"}}, 400)
        else:
            self.reply(completion("<answer>awe</answer>"))


class Switches(Proxy):
    """Notes the chat template's variables that it was asked with."""

    seen: ClassVar[list] = []

    def do_POST(self):
        body = self.read_body()
        self.seen.append(json.loads(body).get("chat_template_kwargs"))
        self.reply(*self.pass_on(body))


def ask(data, output, port, *more, key=KEY, check=True):
    return run(
        "-m", "inference.inference_vllm", "--engine", "openai", "--base_url", f"http://127.0.0.1:{port}/v1",
        "--model_name", "toy", "--data_path", data, "--output_path", output, "--temperature", "0",
        "--max_new_tokens", "160", *TOY_PIXELS, *more, check=check, env={**os.environ, "OPENAI_API_KEY": key},
    )  # fmt: skip


def results_of(output):
    return {result["sample_id"]: result for result in read_results(shard_path(output, 0, 1))}


@pytest.fixture(scope="module")
def offline(toy_data, tmp_path_factory):
    output = tmp_path_factory.mktemp("offline")
    run_forked(
        "-m", "inference.inference_vllm", "--data_path", toy_data, "--output_path", output, "--checkpoint",
        TOY_CHECKPOINT, "--temperature", "0", "--max_new_tokens", "160", *TOY_PIXELS,
    )  # fmt: skip
    return results_of(output)


def test_a_served_model_answers_as_the_offline_engine_does(server, offline, toy_data, tmp_path):
    """Equal prompt lengths show that the pixel budget holds on the server as well."""
    ask(toy_data, tmp_path, server)
    served = results_of(tmp_path)
    assert len(served) == 36
    for key, result in offline.items():
        for field in ("response", "prompt_tokens", "output_tokens", "finish_reason"):
            assert served[key][field] == result[field]
        for field in LOG_PROBABILITIES:
            assert served[key].get(field) == pytest.approx(result.get(field), abs=1e-3)
    assert sum("answer_log_probability" in result for result in offline.values()) > 30


def test_a_served_model_is_shown_two_images_in_their_order(server, toy_data, tmp_path):
    """The same two, swapped, make another log-probability: each is that of transformers offline."""
    names = [row["conversations"][0]["content"][0]["image"] for row in read_jsonl(toy_data)[:2]]
    common = {"ground_truth": "awe", "candidates": ["awe", "fear"], "task": "FI-8"}
    turns = [{"role": "user", "content": "Before <image>, after <image>: which emotion?"}]
    rows = [{**common, "id": str(i), "images": names[:: 1 - 2 * i], "conversations": turns} for i in range(2)]
    data = write_jsonl(tmp_path / "pairs.jsonl", rows)
    ask(data, tmp_path / "served", server, "--max_images", 2, "--image_root", toy_data.parent)
    settings = EngineSettings(
        str(TOY_CHECKPOINT), engine="transformers", temperature=0, max_new_tokens=160, min_pixels=3136,
        max_pixels=12544, max_images=2,
    )  # fmt: skip
    source = ImageSource([toy_data.parent], settings.budget)
    requests = [
        Request(record.sample_id, chat_messages(record), [source.load(image) for image in record.images])
        for record in share_of(data, 0, 1, None, max_images=2)
    ]
    served = results_of(tmp_path / "served")
    for output in load_engine(settings).run(requests):
        result = served[output.sample_id]
        assert output.image_tokens == 18 and output.response
        for field in ("response", "prompt_tokens", "output_tokens"):
            assert result[field] == getattr(output, field)
        assert result["mean_log_probability"] == pytest.approx(output.mean_log_probability, abs=1e-4)
    means = [served[name]["mean_log_probability"] for name in "01"]
    assert means[0] != pytest.approx(means[1], abs=1e-3)


def test_answers_are_given_out_while_no_further_request_is_ready(server, toy_data, monkeypatch):
    """The second request comes only after the first one's answer: who waits for it waits for ever."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    settings = EngineSettings(
        model_name="toy", engine="openai", base_url=f"http://127.0.0.1:{server}/v1", temperature=0, max_new_tokens=16
    )
    source = ImageSource([toy_data.parent], settings.budget)
    first, second = (
        Request(record.sample_id, chat_messages(record), [source.load(record.image)])
        for record in share_of(toy_data, 0, 1, 2)
    )
    finished = []

    def requests():
        yield None
        yield first
        deadline = time.monotonic() + 120
        while not finished:
            assert time.monotonic() < deadline, "the engine did not go on"
            yield None
        yield second

    for output in load_engine(settings).run(requests()):
        assert output.error is None
        finished.append(output.sample_id)
    assert finished == [first.sample_id, second.sample_id]


def test_further_responses_come_after_the_same_first_one(server, toy_data, tmp_path):
    for n in (1, 3):
        ask(toy_data, tmp_path / str(n), server, "--limit", "4", "--temperature", "0.7", "--n_responses", n)
    one, three = results_of(tmp_path / "1"), results_of(tmp_path / "3")
    assert {key: result["response"] for key, result in one.items()} == {k: r["response"] for k, r in three.items()}
    assert all(len(result["other_responses"]) == 2 for result in three.values())
    assert max(len({result["response"], *result["other_responses"]}) for result in three.values()) == 3


@pytest.mark.parametrize("quiet", [False, True], ids=["refused", "left out"])
def test_an_endpoint_without_log_probabilities_costs_nothing_but_the_figures(
    server, offline, toy_data, tmp_path, quiet
):
    NoLogprobs.target, NoLogprobs.quiet, NoLogprobs.refused = server, quiet, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), NoLogprobs) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        ask(toy_data, tmp_path, proxy.server_port, "--max_num_seqs", "3")
        proxy.shutdown()
    served = results_of(tmp_path)
    assert {key: result["response"] for key, result in served.items()} == {k: r["response"] for k, r in offline.items()}
    assert not any(set(LOG_PROBABILITIES) & set(result) for result in served.values())
    # Remembered: only what was already under way asks again.
    assert (NoLogprobs.refused == 0) if quiet else (1 <= NoLogprobs.refused <= 6)


def test_an_endpoint_that_does_not_know_how_to_sample_otherwise_is_asked_without(toy_data, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as endpoint:
        threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        done = ask(toy_data, tmp_path, endpoint.server_port, "--limit", "4", "--max_num_seqs", "1")
        endpoint.shutdown()
    assert "predicted 4" in done.stderr
    assert [line.partition(" refuses ")[2] for line in done.stderr.splitlines() if " refuses " in line] == [
        "min_p, repetition_penalty, top_k: asking without",
        "logprobs: asking without",
    ]


def test_thinking_is_switched_by_a_variable_of_the_server_s_chat_template(server, toy_data, tmp_path):
    Switches.target = server
    with ThreadingHTTPServer(("127.0.0.1", 0), Switches) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        for name, more in (("off", ["--thinking", "off"]), ("as it is", [])):
            ask(toy_data, tmp_path / name, proxy.server_port, "--limit", "1", *more)
        proxy.shutdown()
    assert Switches.seen == [{"enable_thinking": False}, None]


def test_faults_are_retried_with_bounded_concurrency_and_nothing_is_lost(server, offline, toy_data, tmp_path):
    Faults.target = server
    with ThreadingHTTPServer(("127.0.0.1", 0), Faults) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        ask(toy_data, tmp_path, proxy.server_port, "--max_num_seqs", "6")
        proxy.shutdown()
    served = results_of(tmp_path)
    assert {key: result["response"] for key, result in served.items()} == {k: r["response"] for k, r in offline.items()}
    assert max(Faults.tries.values()) == 2  # faults were met, and each was survived
    assert sum(count == 2 for count in Faults.tries.values()) >= 20
    assert 2 <= Faults.most_under_way <= 6


def test_what_still_fails_becomes_an_error_line_and_the_next_start_tries_it_again(server, toy_data, tmp_path):
    done = ask(toy_data, tmp_path, free_port(), "--limit", "3", "--max_retries", "0")  # nobody listens there
    assert "read 3 = predicted 0 (0 of them before) + failed 3" in done.stderr
    assert all("Connection error" in result["error"] for result in results_of(tmp_path).values())
    done = ask(toy_data, tmp_path, server, "--limit", "3")
    assert "read 3 = predicted 3 (0 of them before) + failed 0" in done.stderr


def test_a_wrong_key_ends_the_run_in_one_line_and_no_key_is_ever_written(server, toy_data, tmp_path):
    done = ask(toy_data, tmp_path, server, key="wrong-key", check=False)
    assert done.returncode == 1
    assert "refused the key in OPENAI_API_KEY" in done.stderr
    good = ask(toy_data, tmp_path, server, "--limit", "2")
    written = good.stderr + good.stdout + "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in written
