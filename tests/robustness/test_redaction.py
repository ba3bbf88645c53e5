"""Secrets do not get into what is written."""

import http.server
import json
import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.redaction import HIDDEN, redact
from tests.helpers.commands import run


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "CLIENT_SECRET", "db_password"])
def test_value_of_a_secret_variable_is_hidden(monkeypatch, name):
    monkeypatch.setenv(name, "sk-abcdef123456")
    assert redact("401: Incorrect API key provided: sk-abcdef123456.") == f"401: Incorrect API key provided: {HIDDEN}."


def test_other_variables_and_short_values_are_left_alone(monkeypatch):
    monkeypatch.setenv("DEBUG_KEY", "toy")
    monkeypatch.setenv("KEYBOARD", "toy_world_toy_world")
    assert redact("toy_world_toy_world") == "toy_world_toy_world"


def test_longer_secret_is_hidden_whole_when_another_is_its_beginning(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "abcdefgh")
    monkeypatch.setenv("B_TOKEN", "abcdefghijkl")
    assert redact("abcdefghijkl") == HIDDEN


def test_secret_is_hidden_in_every_spelling(monkeypatch):
    monkeypatch.setenv("MY_SECRET", 'p"ss/w rd\\é')
    assert redact(r'{"key": "p\"ss/w rd\\\u00e9"}') == f'{{"key": "{HIDDEN}"}}'
    assert redact("?key=p%22ss%2Fw%20rd%5C%C3%A9") == f"?key={HIDDEN}"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://me:pw@host:8000/v1", "http://***@host:8000/v1"),
        ("of https://me@host", "of https://***@host"),
        ("redis://:p@ss@10.0.0.1/0?x=a@b", "redis://***@10.0.0.1/0?x=a@b"),
        ("two: http://a:b@c and http://d:e@f.", "two: http://***@c and http://***@f."),
        ("http://host/path@v2 mail a@b.c", "http://host/path@v2 mail a@b.c"),
        ("sent Authorization: Basic dXNlcjpwYXNzd29yZDE= there", "sent Authorization: Basic *** there"),
        ("Basic emotions and Basic needs", "Basic emotions and Basic needs"),
    ],
)
def test_user_and_password_of_an_address_are_hidden(text, hidden):
    assert redact(text) == hidden


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="/?#\"'<>", exclude_categories=["Z", "C"])))
def test_no_password_of_an_address_survives(before, password):
    assert redact(f"{before}http://user:{password}@host/") == redact(before + "http://") + f"{HIDDEN}@host/"


@given(st.text())
def test_text_without_a_secret_is_untouched(text):
    if "@" not in text:
        assert redact(text) == text


# The real worker, and what it leaves behind

SECRETS = {
    "OPENAI_API_KEY": "sk-key-of-the-endpoint",
    "HF_TOKEN": "hf_tokenOfTheHub",
    "WANDB_API_KEY": "0123456789abcdef",
}


ENCODED = "dXNlcjpwYXNzd29yZDE="  # user:password1


class Tattler(http.server.BaseHTTPRequestHandler):
    """An endpoint whose every error message repeats what it was sent, and more."""

    status = 400

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        told = f"not with {self.headers['Authorization']} {' '.join(SECRETS.values())} at http://me:hunter22@here/v1"
        body = json.dumps({"error": {"message": f"{told}\n\x1b[2J second line"}}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def tattler():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tattler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


@pytest.mark.parametrize("status", [400, pytest.param(401, marks=pytest.mark.security)])
def test_no_secret_gets_into_anything_that_a_run_leaves_though_the_endpoint_tells_it(
    tattler, toy_data, tmp_path, status
):
    Tattler.status = status
    output = tmp_path / "run"
    settings = {
        "python": sys.executable, "engine": "openai", "base_url": f"http://user:password1@127.0.0.1:{tattler}/v1",
        "model_name": "m", "data_path": toy_data, "limit": 2, "output_path": output, "n_gpu": 1,
        "inference_args": "--max_retries 0",
    }  # fmt: skip
    environment = {**os.environ, **SECRETS, **{name: str(value) for name, value in settings.items()}}
    done = run("bash", "inference/infer_and_eval_example.sh", env=environment, check=False)
    written = {
        path.name: path.read_text(errors="replace") for path in output.rglob("*") if path.suffix not in (".png",)
    }
    if status == 400:
        assert done.returncode == 1 and {"error.jsonl", "metrics.json", "worker_0.log"} <= written.keys()
        errors = [json.loads(line)["error"] for line in written["error.jsonl"].splitlines()]
        assert len(errors) == 2 and all(f"http://{HIDDEN}@127.0.0.1" in text for text in errors)
        assert all(
            f"not with Basic {HIDDEN} {HIDDEN} {HIDDEN} {HIDDEN} at http://{HIDDEN}@here" in text for text in errors
        )
    else:
        assert done.returncode == 1 and "refused the key in OPENAI_API_KEY" in written["worker_0.log"]
    for name, text in {**written, "stdout": done.stdout, "stderr": done.stderr}.items():
        for secret in (*SECRETS.values(), "password1", "hunter22", ENCODED):
            assert secret not in text, name
    assert "\x1b" not in written["worker_0.log"] + done.stdout + done.stderr


def test_single_images_and_a_log_keep_secrets_too(tattler, toy_data, tmp_path):
    Tattler.status = 400
    image = next((toy_data.parent / "images").rglob("*.png"))
    url = f"http://user:password1@127.0.0.1:{tattler}/v1"
    command = ("-m", "inference.predict", image, "--engine", "openai", "--base_url", url, "--model_name", "m")
    for more in ((), ("--json",)):
        done = run(*command, "--max_retries", "0", *more, check=False, env={**os.environ, **SECRETS})
        assert done.returncode == 1 and HIDDEN in done.stderr
        for secret in (*SECRETS.values(), "password1", "hunter22", ENCODED):
            assert secret not in done.stderr + done.stdout
