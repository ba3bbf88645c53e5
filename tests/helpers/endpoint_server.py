"""A small endpoint that speaks chat completions and misbehaves on demand; real HTTP, answers that repeat.

    with serve() as server: ...             # server.url, server.tries (case → requests so far), server.requests

A request whose text holds ``case:NAME`` gets what ``CASES`` says under that name; any other one is answered.
"""

import gzip
import hashlib
import json
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LABELS = ("awe", "fear", "anger", "sadness")


def answer_to(request):
    """A well-formed response that depends on the text, the image and the seed, with characters of several bytes."""
    digest = hashlib.sha256(json.dumps([request["messages"], request.get("seed")]).encode()).digest()
    parts = "".join(
        f"<{step}>{'naïve 😀 '[: 2 + digest[0] % 7]}{digest.hex()}</{step}>"
        for step in ("element", "human", "context", "interaction", "analysis")
    )
    confidence = f"<confidence>0.{10 + digest[2] % 90}</confidence>"
    return f"<think>{parts}</think><answer>{LABELS[digest[1] % 4]}</answer>{confidence}"


def parsed(text, name):
    """The completion as a server with a reasoning parser gives it."""
    reasoning, _, content = text.removeprefix("<think>").partition("</think>")
    return completion(content, {name: reasoning})


def completion(text, fields=(), **more):
    message = {"role": "assistant", "content": text, **dict(fields)}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}


class JsonHandler(BaseHTTPRequestHandler):
    """Reads a request's body and replies, silently; a subclass has ``do_POST``."""

    protocol_version = "HTTP/1.1"

    def read_body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def reply(self, body, status=200, content_type="application/json", **headers):
        """``body``: bytes as they are, or what becomes JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Endpoint(JsonHandler):
    def do_POST(self):
        request = json.loads(self.read_body())
        self.server.requests.append(request)
        match = re.search(r"case:([\w-]+)", json.dumps(request["messages"], ensure_ascii=False))
        case = match[1] if match else "good"
        with self.server.lock:
            self.server.tries[case] += 1
            first = self.server.tries[case] == 1
        time.sleep(self.server.seconds)
        if self.server.healthy:
            self.reply(completion(answer_to(request)))
        else:
            CASES[case](self, request, first)

    def good(self, request):
        self.reply(completion(answer_to(request)))

    def drip(self, head, until):
        """A byte now and then, for ever if need be: every single read is quick."""
        self.close_connection = True
        self.wfile.write(head)
        while time.monotonic() < until:
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.05)


def once(fault):
    """The fault on the first try, an answer afterwards."""
    return lambda self, request, first: fault(self) if first else self.good(request)


def always(fault):
    return lambda self, request, first: fault(self)


def status(number, **headers):
    return lambda self: self.reply({"error": {"message": f"made-up {number}"}}, number, **headers)


def body(content, content_type="application/json"):
    return lambda self: self.reply(content, content_type=content_type)


def drop(self):
    self.close_connection = True


def cut(self):
    """The connection ends in the middle of the announced body."""
    self.close_connection = True
    self.send_response(200)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", "1000")
    self.end_headers()
    self.wfile.write(b'{"choices": [{"index": 0, "mess')


def silent(self):
    self.close_connection = True
    self.server.stopping.wait(60)


def dripping(head):
    def fault(self):
        with suppress(OSError):  # the client has had enough
            self.drip(head, time.monotonic() + 60)

    return fault


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PAGE = b"<!doctype html><html>\n<body>" + b"<p>Bad gateway: caf\xc3\xa9</p>\n" * 5000 + b"</body></html>"
HUGE = gzip.compress(b'{"choices": "' + b"x" * (33 * 2**20) + b'"}', 1)
MESSAGE = {"role": "assistant", "content": "<answer>awe</answer>"}

CASES = {
    "good": lambda self, request, first: self.good(request),
    # Retried to success.
    "429": once(status(429)),
    "429-retry-after": once(status(429, Retry_After="1")),
    "500": once(status(500)),
    "503": once(status(503)),
    "408": once(status(408)),
    "page-502": once(lambda self: self.reply(PAGE, 502, "text/html")),
    "drop": once(drop),
    "cut": once(cut),
    "silent": once(silent),
    "slow-head": once(dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ")),
    "slow-body": once(dripping(HEAD + b"Content-Length: 100000\r\n\r\n")),
    # Answers that are taken as they are.
    "text-plain": lambda self, request, first: self.reply(completion(answer_to(request)), content_type="text/plain"),
    "length": lambda self, request, first: self.reply(completion(answer_to(request), finish_reason="length")),
    "filtered-text": lambda self, request, first: self.reply(
        completion(answer_to(request), finish_reason="content_filter")
    ),
    "odd-logprobs": lambda self, request, first: self.reply(
        completion(answer_to(request), logprobs={"content": [{"token": "a", "logprob": float("nan")}, {"token": 7}]})
    ),
    "odd-usage": lambda self, request, first: self.reply(
        {**completion(answer_to(request)), "usage": {"prompt_tokens": "many"}}
    ),
    "other-order": lambda self, request, first: self.reply(
        {"choices": [{"index": 1, "message": MESSAGE}, *completion(answer_to(request))["choices"]]}
    ),
    "reasoning-apart": lambda self, request, first: self.reply(parsed(answer_to(request), "reasoning_content")),
    "reasoning-apart-cut": lambda self, request, first: self.reply(
        completion(None, {"reasoning": answer_to(request).removeprefix("<think>")[:40]}, finish_reason="length")
    ),
    "reasoning-of-its-own": lambda self, request, first: self.reply(
        completion(answer_to(request), {"reasoning": "I am asked for a <think>, an <answer>fear</answer> and so on."})
    ),
    # Errors of that sample.
    "always-500": always(status(500)),
    "always-429-long": always(status(429, Retry_After="3600")),
    "always-silent": always(silent),
    "always-slow": always(dripping(HEAD + b"Content-Length: 100000\r\n\r\n")),
    "400": always(status(400)),
    "403": always(status(403)),
    "page-404": always(lambda self: self.reply(PAGE, 404, "text/html")),
    "redirect": always(status(307, Location="/v1/chat/completions")),
    "empty": always(body(b"")),
    "garbage": always(body(bytes(range(256)) * 40)),
    "partial": always(body(json.dumps(completion("x" * 100)).encode()[:70])),
    "page": always(body(PAGE, "text/html")),
    "event-stream": always(body(b'data: {"choices": []}\n\ndata: [DONE]\n\n', "text/event-stream")),
    "deep": always(body(b"[" * 200_000)),
    "huge": always(lambda self: self.reply(HUGE, Content_Encoding="gzip")),
    "list": always(body([1, 2])),
    "error-200": always(body({"error": {"message": "made-up error under 200"}})),
    "no-choices": always(body({"choices": []})),
    "null-choices": always(body({"choices": None})),
    "text-choices": always(body({"choices": ["awe"]})),
    "no-message": always(body({"choices": [{"index": 0, "finish_reason": "stop"}]})),
    "null-content": always(body(completion(None, finish_reason="content_filter"))),
    "list-content": always(body(completion([{"type": "text", "text": "awe"}]))),
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, seconds):
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.seconds, self.healthy = seconds, False
        self.tries, self.lock, self.stopping = Counter(), threading.Lock(), threading.Event()
        self.requests = []

    def handle_error(self, *_):
        """Says nothing: clients are killed in mid-request."""


@contextmanager
def serve(seconds=0.0):
    """The running server; each answer takes so many ``seconds``."""
    with Server(seconds) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
