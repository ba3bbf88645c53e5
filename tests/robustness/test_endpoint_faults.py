"""What an endpoint can do wrong, by a server that does it: answered in the end, or one sample's error, never a hang."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from inference.engines.openai import choice_log_probabilities, read_completion
from inference.runs.shards import finished_samples, shard_path
from tests.helpers.commands import REPO, lines_in, read_jsonl, run, wait_until, write_jsonl
from tests.helpers.endpoint_runs import command, records
from tests.helpers.endpoint_server import CASES, completion, parsed, serve

# What the record of a sample without an answer says, by case.
ERRORS = {
    "always-500": "InternalServerError: Error code: 500",
    "always-429-long": "RateLimitError: Error code: 429",
    "always-silent": "Request timed out. (no whole answer within 2 s)",
    "always-slow": "Request timed out. (no whole answer within 2 s)",
    "400": "BadRequestError: Error code: 400",
    "403": "PermissionDeniedError: Error code: 403",
    "page-404": "NotFoundError: Error code: 404",
    "redirect": "redirects",
    "empty": "expected one JSON object, Expecting value at column 1, got ''",
    "garbage": "expected UTF-8 text, invalid start byte at byte 128",
    "partial": "expected one JSON object, Expecting value at column 71, got",
    "page": "expected one JSON object, Expecting value at column 1, got '<!doctype html>",
    "event-stream": "expected one JSON object",
    "deep": "expected one JSON object, got more than 100 levels of lists and objects",
    "huge": "an answer of more than 33554432 bytes",
    "list": "field 'choices': expected a list of answers, got [1, 2]",
    "error-200": "expected a list of answers, got {'error': {'message': 'made-up error under 200'}}",
    "no-choices": "expected a list of answers, got {'choices': []}",
    "null-choices": "expected a list of answers, got {'choices': None}",
    "text-choices": "expected a list of answers, got {'choices': ['awe']}",
    "no-message": "field 'message.content': expected a text, got {",
    "null-content": "'finish_reason': 'content_filter'",
    "list-content": "field 'message.content': expected a text",
}
FINISHED = {"length": "length", "filtered-text": "content_filter", "reasoning-apart-cut": "length"}
ANSWERED = [case for case in CASES if case not in ERRORS]


@pytest.fixture(scope="module")
def misbehaved(tmp_path_factory):
    """A run over every case at once, and the next start, when the endpoint has recovered."""
    folder = tmp_path_factory.mktemp("endpoint")
    data = records(folder, [f"Which emotion? case:{case}" for case in CASES])
    output = folder / "run"
    with serve() as server:
        bounds = ["--timeout", "2", "--max_retries", "2"]
        begin = time.monotonic()
        first = run(*command(data, output, server, *bounds), timeout=120)
        seconds = time.monotonic() - begin
        lines = {case: line for case, line in zip(CASES, read_jsonl(shard_path(output, 0, 1)), strict=True)}
        tries = dict(server.tries)
        server.healthy = True
        second = run(*command(data, output, server, *bounds), timeout=120)
    return {
        "first": first, "second": second, "lines": lines, "tries": tries, "seconds": seconds,
        "after": read_jsonl(shard_path(output, 0, 1)), "data": data, "output": output,
    }  # fmt: skip


def test_every_sample_ends_as_a_response_or_an_error_and_the_run_ends_well(misbehaved):
    read, failed = len(CASES), len(ERRORS)
    assert f"read {read} = predicted {read - failed} (0 of them before) + failed {failed}" in misbehaved["first"].stderr
    assert "Traceback" not in misbehaved["first"].stderr
    assert {case for case, line in misbehaved["lines"].items() if "error" in line} == set(ERRORS)


@pytest.mark.parametrize("case", ERRORS)
def test_the_error_says_what_was_wrong_in_one_short_line(misbehaved, case):
    error = misbehaved["lines"][case]["error"]
    assert ERRORS[case] in error
    assert "\n" not in error and len(error) <= 520
    assert re.match(r"line \d+: http://127\.0\.0\.1:", error)


@pytest.mark.parametrize("case", ANSWERED)
def test_a_passing_fault_or_an_odd_answer_costs_no_response(misbehaved, case):
    line = misbehaved["lines"][case]
    assert line["response"].startswith("<think><element>")
    assert line.get("finish_reason") == FINISHED.get(case, "stop")
    assert "mean_log_probability" not in line


WRITTEN = (
    "<think><element>a <answer>\u00e9</answer></element></think>\n\n<answer>awe</answer><confidence>0.8</confidence>"
)


@pytest.mark.parametrize(
    ("reply", "response"),
    [
        (parsed(WRITTEN, "reasoning_content"), WRITTEN),
        (parsed(WRITTEN, "reasoning"), WRITTEN),
        (completion(WRITTEN, {"reasoning_content": None}), WRITTEN),
        (completion(WRITTEN, {"reasoning_content": ""}), WRITTEN),
        (completion(WRITTEN, {"reasoning_content": "before the asked-for one"}), WRITTEN),
        (completion("<answer>awe</answer>", {"reasoning": "<think>x"}), "<think>x</think><answer>awe</answer>"),
        (completion(None, {"reasoning_content": "half a"}, finish_reason="length"), "<think>half a"),
        (completion("", {"reasoning_content": "half a"}, finish_reason="length"), "<think>half a"),
    ],
)
def test_reasoning_that_a_server_split_off_is_put_back_as_the_model_wrote_it(reply, response):
    choice, _ = read_completion(json.dumps(reply).encode())
    assert choice["message"]["content"] == response


def with_log_probabilities(reply, text):
    """The reply with one token per character of ``text``, -0.5 each, and -2 in the last answer of it."""
    place = text.rindex("<answer>") + len("<answer>")
    inside = range(place, text.index("</answer>", place))
    tokens = [{"token": char, "logprob": -2.0 if index in inside else -0.5} for index, char in enumerate(text)]
    reply["choices"][0]["logprobs"] = {"content": tokens}
    return read_completion(json.dumps(reply).encode())[0]


def test_log_probabilities_are_those_of_the_responses_answer_wherever_the_reasoning_is_served():
    plain = WRITTEN.replace("<answer>\u00e9</answer>", "")  # an answer in the reasoning would be the first
    content = plain.partition("</think>")[2]
    for tokens in (plain, content):  # servers list the reasoning's tokens, or leave them out
        _, answer = choice_log_probabilities(with_log_probabilities(parsed(plain, "reasoning_content"), tokens))
        assert answer == -6.0
    thought = "<answer>fear</answer> is one of them</think>"
    reply = completion(plain, {"reasoning_content": "<answer>fear</answer> is one of them"})
    mean, answer = choice_log_probabilities(with_log_probabilities(reply, thought + plain))
    assert mean is not None and answer is None


def test_each_try_is_bounded_as_a_whole(misbehaved):
    """Three tries of 2 s and two short pauses: a server that sends a byte now and then gets no more."""
    assert misbehaved["tries"]["always-slow"] == misbehaved["tries"]["always-silent"] == 3
    assert misbehaved["seconds"] < 50  # it would go on for 60 s a try


def test_the_next_start_at_a_healthy_endpoint_completes_everything(misbehaved):
    read, failed = len(CASES), len(ERRORS)
    assert f"read {read} = predicted {read} ({read - failed} of them before) + failed 0" in misbehaved["second"].stderr
    assert len(misbehaved["after"]) == read and not any("error" in line for line in misbehaved["after"])
    kept = [line for line in misbehaved["lines"].values() if "error" not in line]
    assert [line for line in misbehaved["after"] if line in kept] == kept
    assert read - len(misbehaved["after"]) == 0


@pytest.mark.faults
def test_evaluation_counts_what_failed(misbehaved, tmp_path):
    """The shard as it was after the first start."""
    write_jsonl(shard_path(tmp_path, 0, 1), misbehaved["lines"].values())
    done = run("-m", "inference.evaluate", "--output_path", tmp_path, "--data_path", misbehaved["data"],
               "--no_plots", "--quiet", "--n_resamples", "0")  # fmt: skip
    read, failed = len(CASES), len(ERRORS)
    assert f"read {read} = predicted {read - failed} + failed {failed}" in done.stdout


# --- kill -9 at random moments ----------------------------------------------------------------

KILLS = 8


def test_a_worker_killed_at_random_moments_ends_with_the_file_of_an_uninterrupted_run(tmp_path):
    """Each kill waits for a drawn number of further lines, or for none at all, then a drawn time."""
    data = records(tmp_path, [f"Which emotion does picture {number} evoke?" for number in range(120)])
    chance = random.Random(8)
    with serve(seconds=0.02) as server:
        server.healthy = True
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        run(*command(data, whole, server, "--max_num_seqs", "4"), timeout=60)
        shard = shard_path(broken, 0, 1)
        words = [sys.executable, *map(str, command(data, broken, server, "--max_num_seqs", "4"))]
        states = []
        for kill in range(KILLS):
            wanted = lines_in(shard) + chance.randrange(0, 14)
            worker = subprocess.Popen(words, cwd=REPO, stderr=subprocess.DEVNULL, start_new_session=True)
            if kill % 4:
                wait_until(lambda: lines_in(shard) >= wanted, worker, seconds=60, pause=0.001)  # noqa: B023  at once
            time.sleep(chance.random() * (0.02 if kill % 4 else 1.2))  # every fourth while it starts
            os.killpg(worker.pid, signal.SIGKILL)
            assert worker.wait() == -signal.SIGKILL
            states.append(lines_in(shard))
        assert len(states) == KILLS and len(set(states)) > 3 and max(states) < 120
        done = run(*words, timeout=60)
    assert f"read 120 = predicted 120 ({states[-1]} of them before) + failed 0" in done.stderr
    assert shard.read_bytes() == shard_path(whole, 0, 1).read_bytes()
    assert json.loads(shard.read_text().splitlines()[0])["sample_id"] == "sample 0: naïve 😀"
    assert sorted(path.name for path in broken.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert 120 - len(finished_samples(broken)) == 0
