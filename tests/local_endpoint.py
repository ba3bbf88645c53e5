"""A chat-completions endpoint for tests of what surrounds one: real HTTP, an answer that depends on the request alone.

    with serve(seconds=0.05) as url: ...

It is no model and stands in for none: tests of vLLM's own server start that (``test_endpoint``).
"""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LABELS = ("amusement", "anger", "awe", "fear", "joy", "positive", "negative", "sadness", "surprise")


def response_to(body: bytes) -> str:
    """A well-formed response that the request's bytes decide."""
    digest = hashlib.sha256(body).digest()
    steps = "".join(f"<{step}>{step} {digest.hex()[:8]}</{step}>" for step in
                    ("element", "human", "context", "interaction", "analysis"))  # fmt: skip
    confidence = 0.05 + 0.9 * digest[1] / 255
    answer = LABELS[digest[0] % len(LABELS)]
    return f"<think>{steps}</think><answer>{answer}</answer><confidence>{confidence:.2f}</confidence>"


class Endpoint(BaseHTTPRequestHandler):
    """Answers every POST, ``seconds`` after it came."""

    protocol_version = "HTTP/1.1"
    seconds = 0.0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.seconds)
        self.reply(200, completion(response_to(body)))

    def reply(self, status: int, answer: dict) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def completion(text: str) -> dict:
    """The JSON object of one finished chat completion."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "1", "object": "chat.completion", "created": 0, "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }  # fmt: skip


@contextmanager
def serve(seconds: float = 0.0, handler: type[Endpoint] = Endpoint):
    """The base URL of a server on this machine, which ends with the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"seconds": seconds}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
