"""The page in a real browser, served by the real command; and what it answers to others."""

import json
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from urllib.parse import quote

import httpx
import psutil
import pytest
import uvicorn
from starlette.testclient import TestClient

from inference.demo import HEADERS, LOOPBACK, MAX_QUEUE, OWN_LABELS, build_app
from inference.engines.base import EngineFailed
from inference.predictor import Prediction
from tests.helpers.commands import REPO, free_port, serving, wait_until
from tests.helpers.forked import run_forked
from tests.helpers.report_pages import DECODED_WIDTH

HOSTILE = "<script>window.ran = true</script>"


class Demo:
    """A running demo: its address, its process, and the file of what it prints."""

    def __init__(self, port, process, log):
        self.url, self.process, self.log = f"http://127.0.0.1:{port}/", process, log

    def get(self, path, data=None, headers=None):
        """(status, body) of a request to the server, without a browser."""
        request = urllib.request.Request(self.url + path, data, headers or {})  # noqa: S310  our own server
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    port = free_port()
    log = tmp_path_factory.mktemp("demo") / "demo.log"
    command = [sys.executable, "-m", "inference.demo", "--port", port]
    with serving(command, f"http://127.0.0.1:{port}/", log, 180) as process:
        yield Demo(port, process, log)


@contextmanager
def opened(browser, url, expected_errors=(), **context):
    """The opened page; at the end: nothing else on the console was an error, no other server was asked anything."""
    context = browser.new_context(**context)
    page = context.new_page()
    errors, asked = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    context.close()
    assert [error for error in errors if not any(known in error for known in expected_errors)] == []
    assert [url_asked for url_asked in asked if not url_asked.startswith((url, "data:", "blob:"))] == []


@pytest.fixture
def page(browser, demo):
    with opened(browser, demo.url) as page:
        yield page


@pytest.fixture(scope="module")
def image(toy_data):
    return sorted((toy_data.parent / "images").rglob("*.png"))[5]


def ask(page):
    """What is in the answer's place after the button was pressed."""
    page.get_by_role("button", name="Ask").click()
    found = page.locator("#prediction .answer, #prediction .problem")
    found.wait_for(timeout=60_000)
    return found.inner_text()


def own_labels(page, labels):
    page.get_by_label("Labels to choose from").select_option("labels of my own")
    page.get_by_label("Labels, separated by commas").fill(labels)


def is_previewed(page):
    preview = page.locator("#preview")
    preview.wait_for()  # to be visible
    return preview.evaluate(DECODED_WIDTH) > 0


@pytest.fixture(scope="module")
def expected(image):
    """What the command says about the image."""
    return json.loads(run_forked("-m", "inference.predict", image, "--json").stdout)


def assert_it_says(page, expected):
    assert page.locator("#prediction .answer").inner_text() == expected["answer"]
    assert page.get_by_label("confidence").get_attribute("value") == str(expected["confidence"])
    assert page.locator("#prediction .number").all_inner_texts() == [f"{expected['confidence']:.2f}"]
    steps = page.locator("#prediction .reasoning dt").all_inner_texts()
    texts = page.locator("#prediction .reasoning dd").all_inner_texts()
    assert dict(zip(steps, texts, strict=True)) == expected["reasoning"]


def test_the_page_says_what_the_command_says_and_that_it_is_a_toy(page, image, expected):
    assert page.get_by_role("note").inner_text() == f"NOTE: {expected['model_notice']}"
    page.get_by_label("Image", exact=True).set_input_files(image)
    assert is_previewed(page)
    ask(page)
    assert_it_says(page, expected)


def test_it_does_so_without_javascript(browser, demo, image, expected):
    with opened(browser, demo.url, java_script_enabled=False) as page:
        page.get_by_label("Image", exact=True).set_input_files(image)
        page.get_by_label("Labels to choose from").select_option("FI-8")  # the same eight labels
        ask(page)
        assert_it_says(page, expected)
        assert page.get_by_label("Labels to choose from").input_value() == "FI-8"


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_an_image_can_be_dropped_and_pasted(page, image, way):
    page.evaluate(
        """([bytes, way]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
            const event = way === "drop" ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
                                         : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
            document.getElementById("drop").dispatchEvent(event);
        }""",
        [list(image.read_bytes()), way],
    )
    assert is_previewed(page)
    assert page.evaluate("document.getElementById('image').files[0].name") == "a.png"
    own_labels(page, "negative, positive")
    assert ask(page) in ("positive", "negative")


def test_the_field_of_ones_own_labels_is_there_when_they_are_chosen(page, image):
    field = page.get_by_label("Labels, separated by commas")
    assert field.is_hidden()
    own_labels(page, "negative")
    assert field.is_visible()
    page.get_by_label("Image", exact=True).set_input_files(image)
    assert ask(page) == "Labels: expected 2 to 100 labels, got 1"
    assert page.get_by_role("alert").is_visible()
    field.fill("negative, positive")
    page.keyboard.press("Enter")
    page.locator("#prediction .answer").wait_for()
    assert page.locator("#prediction .answer").inner_text() in ("positive", "negative")


def test_a_text_file_is_said_to_be_no_image_and_the_page_goes_on(page, image, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    chosen = page.get_by_label("Image", exact=True)
    chosen.set_input_files(text)
    message = ask(page)
    assert message.startswith("image text.png: cannot identify")
    assert "/" not in message
    chosen.set_input_files(image)
    assert page.locator("#prediction").inner_text() == ""  # it was the last image's
    assert is_previewed(page)
    assert ask(page) != message


def test_without_an_image_the_page_says_what_to_do(page):
    assert ask(page) == "Choose an image first."


def test_a_script_in_the_labels_is_shown_and_does_not_run(page, image):
    label = '<img src=x onerror="window.ran = true">'
    own_labels(page, f"{label}, {label}, {HOSTILE}")
    page.get_by_label("Image", exact=True).set_input_files(image)
    assert label in ask(page)
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None


def test_too_large_a_file_is_refused_in_words_and_the_page_goes_on(browser, demo, image, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(bytes(21 * 2**20))
    with opened(browser, demo.url, expected_errors=["status of 413"]) as page:
        page.get_by_label("Image", exact=True).set_input_files(large)
        assert ask(page) == "The image is too large: expected a file of at most 20 MB."
        page.get_by_label("Image", exact=True).set_input_files(image)
        ask(page)
        assert page.locator("#prediction .answer").is_visible()


def test_a_server_that_is_gone_is_said_to_be(browser, demo, image):
    with opened(browser, demo.url, expected_errors=["Failed to load resource"]) as page:
        page.get_by_label("Image", exact=True).set_input_files(image)
        page.context.set_offline(True)
        assert ask(page) == "The server does not reply: is it still running?"


def test_the_page_fits_a_phone_and_the_keyboard_reaches_everything(browser, demo, image):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, demo.url, **phone) as page:
        own_labels(page, "negative, " + "very" * 15)
        page.get_by_label("Image", exact=True).set_input_files(image)
        ask(page)
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
        page.locator("#image").focus()
        visited = []
        for _ in range(4):
            visited.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
            page.keyboard.press("Tab")
        assert visited == ["image", "task", "labels", "Ask"]
        assert page.locator("#prediction").get_attribute("aria-live") == "polite"


# --- without a browser -------------------------------------------------------------------


class Says:
    """A predictor that says what it was given, in place of a model."""

    notice = ""

    def __init__(self, **prediction):
        self.prediction, self.asked, self.groups = prediction, [], []

    def predict(self, images, candidates, group=None):
        self.groups.append(group)
        self.asked += [(image.read_bytes(), candidates) for image in images]
        return [Prediction(str(image), candidates, **self.prediction) for image in images]


def reply(predictor, data=None, **options):
    """The page that answers a question about an image."""
    with TestClient(build_app(predictor, ("testserver",)), raise_server_exceptions=False) as client:
        files = {"image": ("a.png", b"an image")}
        return client.post("/", data={"task": "EmoSet-8", **(data or {})}, **{"files": files, **options})


@pytest.mark.parametrize(
    "prediction",
    [
        {"answer": HOSTILE, "reasoning": {"element": HOSTILE}, "answers": {HOSTILE: 2, "x": 1}, "response": HOSTILE},
        {"answer": "unknown", "response": HOSTILE},
        {"error": HOSTILE},
    ],
    ids=["answer", "no answer", "error"],
)
def test_what_a_model_writes_is_escaped(prediction):
    page = reply(Says(**prediction)).text
    assert HOSTILE not in page
    assert "&lt;script&gt;window.ran = true&lt;/script&gt;" in page


def test_half_a_character_of_a_model_does_no_harm():
    assert "a ? b" in reply(Says(answer="unknown", response="a \udc80 b")).text


def test_every_answer_of_several_and_the_recalibrated_confidence_are_shown(browser):
    says = Says(answer="awe", confidence=0.9, recalibrated_confidence=0.6, answers={"awe": 3, "fear": 1}, response="…")
    page = browser.new_page()
    page.set_content(reply(says).text)
    assert page.get_by_role("heading", name="Answers of 4 responses").is_visible()
    bars = page.locator("meter").evaluate_all("all => all.map(e => [e.ariaLabel, e.value])")
    assert bars == [["confidence", 0.9], ["recalibrated", 0.6], ["awe", 0.75], ["fear", 0.25]]
    assert page.locator(".reasoning dd").all_inner_texts() == ["(missing)"] * 5
    assert page.locator(".response").inner_text() == "…"
    page.close()


def test_an_engine_that_failed_is_said_to_have_in_words():
    class Failed(Says):
        def predict(self, images, candidates, group=None):
            raise EngineFailed("the engine ended")

    answer = reply(Failed())
    assert answer.status_code == 500 and "the engine ended" in answer.text


@pytest.mark.parametrize(
    ("chosen", "group"),
    [({"task": "FI-2"}, "ID VSA"), ({"task": "Artphoto-8"}, "OOD VER"), ({"task": OWN_LABELS, "labels": "a,b"}, None)],
)
def test_the_recalibration_s_map_is_that_of_the_chosen_task_s_group(chosen, group):
    predictor = Says(answer="awe", response="…")
    reply(predictor, chosen)
    assert predictor.groups == [group]


@pytest.fixture(scope="module")
def scenes(toy_data):
    return toy_data.parent / "images" / "test"


def test_scenes_of_the_toy_world_can_be_chosen(browser, scenes):
    says, port = Says(answer="awe", response=""), free_port()
    app = build_app(says, LOOPBACK, scenes)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        for script in (True, False):
            with opened(browser, f"http://127.0.0.1:{port}/", java_script_enabled=script) as page:
                assert page.get_by_role("group", name="Scenes of the toy world").get_by_role("button").count() == 8
                page.get_by_role("button", name="Scene 3").click()
                if script:  # otherwise the button asks
                    assert is_previewed(page)
                    ask(page)
                assert page.locator("#prediction .answer").inner_text() == "awe"
    finally:
        server.should_exit = True
        thread.join()
    third = sorted(scenes.glob("*/*.png"))[2].read_bytes()
    assert [content for content, _ in says.asked] == [third, third]


def test_one_question_at_a_time_and_a_full_queue_is_said_to_be():
    go_on, running, most = threading.Event(), [], []

    class Slow(Says):
        def predict(self, images, candidates, group=None):
            running.append(1)
            most.append(len(running))
            go_on.wait(60)
            running.pop()
            return super().predict(images, candidates, group)

    app, question = build_app(Slow(answer="awe", response=""), ("testserver",)), {"task": "FI-8"}
    with TestClient(app) as client, ThreadPoolExecutor(MAX_QUEUE + 2) as pool:
        files = {"image": ("a.png", b"an image")}
        asked = [pool.submit(client.post, "/", data=question, files=files) for _ in range(MAX_QUEUE + 2)]
        done = as_completed(asked, 60)
        first = next(done).result()  # the refusal: all others wait
        go_on.set()
        others = [answer.result() for answer in done]
    assert first.status_code == 503 and "20 requests wait for the model already: try again" in first.text
    assert {answer.status_code for answer in others} == {200} and len(others) == MAX_QUEUE + 1
    assert max(most) == 1


def test_the_demo_prints_its_address_and_nothing_of_libraries(demo):
    printed = demo.log.read_text().splitlines()
    assert printed == [f"The page is at {demo.url} (Ctrl-C ends it)"]


def test_the_demo_listens_on_this_machine_only(demo):
    listening = [c.laddr.ip for c in psutil.Process(demo.process.pid).net_connections() if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]


def test_everything_comes_with_the_policy_that_keeps_the_page_to_its_server(demo):
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    for path in ("", "static/page.js", "nothing"):
        answer = httpx.get(demo.url + path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path


@pytest.mark.parametrize(
    "path",
    [
        "README.md", "static/page.html", "static/%2e%2e/page.html", "static/..%2f..%2fdemo.py", "static//etc/passwd",
        "examples/%2e%2e/%2e%2e/test.jsonl", f"examples/{quote(str(REPO))}/README.md",
    ],
    ids=lambda path: path.replace(quote(str(REPO)), "REPOSITORY"),
)  # fmt: skip
def test_the_server_serves_no_other_file_of_the_machine(demo, path):
    status, _ = demo.get(path)
    assert status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "evil.example:7860", "Origin": "http://evil.example:7860"}, 400),
        ({"Host": "localhost"}, 200),
    ],
    ids=["another site", "a page in a sandbox", "another port", "a name that leads here", "by another name"],
)
def test_a_page_of_another_site_cannot_ask(demo, headers, status):
    assert demo.get("", b"", {"Content-Type": "application/x-www-form-urlencoded", **headers})[0] == status


def test_only_what_was_uploaded_is_read_whatever_a_request_names(demo, image):
    for name in ("image", "example"):
        for path in (str(image), f"file://{image}", "http://127.0.0.1:1/a.png"):
            answer = httpx.post(demo.url, data={"task": "FI-8", "labels": "", name: path})
            assert answer.status_code == 200 and "Choose an image first." in answer.text


def test_requests_that_the_page_would_not_send_are_refused_in_words(demo):
    def chunks():
        yield b"a"

    answer = httpx.post(demo.url, content=chunks())
    assert answer.status_code == 411 and "expected the length of the request" in answer.text
    answer = reply(Says(), {"task": "FI-9"})
    assert answer.status_code == 400 and "expected task to be one of" in answer.text
    two = [("image", ("a.png", b"a")), ("image", ("b.png", b"b"))]
    assert reply(Says(), files=two).status_code == 400
