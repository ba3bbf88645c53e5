"""The page in a real browser, served by the real command; and what it serves to others."""

import json
import re
import sys
import urllib.error
import urllib.request
import uuid
from urllib.parse import quote

import psutil
import pytest

from inference.demo import CONTENT_SECURITY_POLICY, to_html
from inference.predictor import Prediction
from tests.helpers.commands import REPO, free_port, run, serving


class Demo:
    """A running demo: its address, its process, and the file of what it prints."""

    def __init__(self, port, process, log):
        self.url, self.process, self.log = f"http://127.0.0.1:{port}/", process, log

    def get(self, path, data=None, headers=None):
        """(status, body) of a request to the server, without a browser."""
        request = urllib.request.Request(self.url + path, data, headers or {})  # noqa: S310  our own server
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    port = free_port()
    folder = tmp_path_factory.mktemp("demo")
    log = folder / "demo.log"
    command = [sys.executable, "-m", "inference.demo", "--port", port]
    environment = {"GRADIO_TEMP_DIR": str(folder / "uploads")}
    with serving(command, f"http://127.0.0.1:{port}/", log, 180, environment) as process:
        yield Demo(port, process, log)


@pytest.fixture
def page(browser, demo):
    """The opened page; at the end: nothing on the console was an error, nobody else was asked anything."""
    opened = browser.new_page()
    errors, asked = [], []

    def note(text):
        # The page breaks off its own event stream when it has all of an answer: that is no error.
        if not text.startswith("AbortError: signal is aborted"):
            errors.append(text)

    opened.on("console", lambda message: note(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: note(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(demo.url)
    opened.get_by_role("button", name="Ask").wait_for(timeout=60_000)
    yield opened
    opened.close()
    assert errors == []
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((demo.url, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def image(toy_data):
    return sorted((toy_data.parent / "images").rglob("*.png"))[5]


def upload(page, path):
    page.set_input_files("input[type=file]", path)
    page.locator(f"[data-testid=image] img[src*='{path.name}']").wait_for(timeout=30_000)


def ask(page):
    """What stands in the answer's place once the button was pressed."""
    page.get_by_role("button", name="Ask").click()
    found = page.locator("#prediction .answer, #prediction .problem")
    found.wait_for(timeout=60_000)
    return found.inner_text()


def own_labels(page, labels):
    page.get_by_label("Labels to choose from").click()
    page.get_by_role("option", name="labels of my own").click()
    page.get_by_label("Labels, separated by commas").fill(labels)


def test_the_page_says_what_the_command_says_and_that_it_is_a_toy(page, image):
    expected = json.loads(run("-m", "inference.predict", image, "--json").stdout)
    assert page.get_by_role("note").inner_text() == f"NOTE: {expected['model_notice']}"
    upload(page, image)
    assert ask(page) == expected["answer"]
    assert page.locator("#prediction .number").all_inner_texts() == [f"{expected['confidence']:.2f}"]
    width = page.locator("#prediction .fill").get_attribute("style")
    assert f"width: {100 * expected['confidence']:.1f}%" in width
    steps = page.locator("#prediction dt").all_inner_texts()
    texts = page.locator("#prediction dd").all_inner_texts()
    assert dict(zip(steps, texts, strict=True)) == expected["reasoning"]


def test_labels_of_ones_own_are_asked_for(page, image):
    own_labels(page, "negative, positive")
    upload(page, image)
    assert ask(page) in ("positive", "negative")


def test_a_text_file_is_told_to_be_no_image_and_the_page_goes_on(page, image, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    page.set_input_files("input[type=file]", text)
    page.locator("[data-testid=image] img[src*='text.png']").wait_for(state="attached", timeout=30_000)
    message = ask(page)
    assert message.startswith("image text.png: cannot identify")
    assert str(tmp_path) not in message and "uploads" not in message
    page.get_by_label("Remove Image").click()
    upload(page, image)
    page.locator("#prediction .problem").wait_for(state="detached", timeout=30_000)  # it was the last image's
    assert ask(page) != message


def test_without_an_image_the_page_says_what_to_do(page):
    assert ask(page) == "Choose an image first."


def test_a_script_in_the_labels_is_shown_and_does_not_run(page, image):
    label = '<img src=x onerror="window.ran = true">'
    own_labels(page, f"{label}, {label}, <script>window.ran = true</script>")
    upload(page, image)
    assert label in ask(page)
    page.wait_for_timeout(500)
    assert page.evaluate("window.ran") is None


def test_the_page_fits_a_phone(page, image):
    page.set_viewport_size({"width": 390, "height": 844})
    upload(page, image)
    ask(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


# --- without a browser -------------------------------------------------------------------


def test_what_a_model_writes_is_escaped():
    bad = "<script>alert(1)</script>"
    reasoning = dict.fromkeys(("element", "human"), bad)
    prediction = Prediction(
        "a.png", [bad], answer=bad, confidence=0.5, reasoning=reasoning, answers={bad: 2, "x": 1}, response=bad
    )
    for shown in (
        prediction,
        Prediction("a.png", [bad], answer="unknown", response=bad),
        Prediction("a.png", [], error=bad),
    ):
        written = to_html(shown)
        assert "<script" not in written
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in written


def test_every_answer_of_several_is_shown_with_its_share():
    written = to_html(Prediction("a.png", [], answer="awe", confidence=0.9, answers={"awe": 3, "fear": 1}, response=""))
    assert "Answers of 4 responses" in written
    rows = re.findall(r'"name">(.*?)</span>.*?"number">(.*?)</span>', written)
    assert rows == [("confidence", "0.90"), ("awe", "0.75"), ("fear", "0.25")]


def test_the_demo_prints_its_address_and_no_warnings_of_libraries(demo):
    printed = demo.log.read_text().splitlines()
    assert printed[-1] == f"The page is at {demo.url} (Ctrl-C ends it)" and len(printed) == 1, printed


def test_the_demo_listens_on_this_machine_only(demo):
    listening = [c.laddr.ip for c in psutil.Process(demo.process.pid).net_connections() if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]


def test_the_page_names_no_font_or_script_of_another_machine(demo):
    status, body = demo.get("")
    assert status == 200
    assert b"fonts.g" not in body and b"cdnjs" not in body
    assert re.findall(rb'<(?:script|link)\b[^>]*(?:src|href)="https?://', body) == []
    with urllib.request.urlopen(demo.url, timeout=60) as reply:  # noqa: S310
        assert reply.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("path", ["README.md", "images/framework.png", "/etc/passwd"])
def test_the_server_serves_no_file_of_the_machine(demo, path):
    status, _ = demo.get(f"gradio_api/file={quote(str(REPO / path))}")
    assert status in (403, 404)


@pytest.mark.parametrize("route", ["file=", "file/", "proxy="])
def test_the_server_passes_no_address_on(demo, route):
    for address in ("http://127.0.0.1:9/a", "https%3A//127.0.0.1:9/a", "http:%2F%2F127.0.0.1:9/a", "//127.0.0.1:9/a"):
        status, _ = demo.get(f"gradio_api/{route}{address}")  # a redirect would be followed, and fail
        assert status in (403, 404), address


def asked_about(demo, image):
    """The server's events for a request as the page would send it, with any ``image``."""
    config = json.loads(demo.get("config")[1])
    place = next(i for i, dependency in enumerate(config["dependencies"]) if len(dependency["inputs"]) == 3)
    session = uuid.uuid4().hex
    sent = {
        "fn_index": config["dependencies"][place].get("id", place),
        "session_hash": session,
        "data": [image, "EmoSet-8", ""],
    }
    status, _ = demo.get("gradio_api/queue/join", json.dumps(sent).encode(), {"Content-Type": "application/json"})
    assert status == 200
    return demo.get(f"gradio_api/queue/data?session_hash={session}")[1]


def test_only_what_was_uploaded_is_read_whatever_a_request_names(demo, image):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head + image.read_bytes() + b"\r\n--x--\r\n"
    status, reply = demo.get("gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert status == 200
    (uploaded,) = json.loads(reply)
    mark = {"meta": {"_type": "gradio.FileData"}}
    assert b'"success":true' in asked_about(demo, {"path": uploaded, **mark})
    for path in (str(image), f"file://{image}", f"{uploaded}/../../../{image}", "http://127.0.0.1:1/a.png"):
        for more in (mark, {}):  # gradio checks marked ones only
            events = asked_about(demo, {"path": path, **more})
            assert b'"process_completed"' in events and b'"success":false' in events, path


def test_an_upload_over_the_bound_is_refused(demo):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="big.png"\r\n\r\n'
    body = head + b"\0" * (21 * 2**20) + b"\r\n--x--\r\n"
    status, _ = demo.get("gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert status == 413
