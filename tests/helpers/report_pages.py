"""A report: made, and opened in a real browser."""

import urllib.parse
from contextlib import contextmanager

from inference.data.images import ImageSource
from inference.report import build
from tests.helpers.forked import run_forked

# Width of an image in pixels, once it is decoded. Not wait_for_function: it evaluates a text in the page, which its
# policy may forbid, and does so only when the condition is not met at once.
DECODED_WIDTH = "image => image.decode().then(() => image.naturalWidth)"


def make(folder, data, *more):
    """Make a report; returns what the command said."""
    return run_forked("-m", "inference.report", "--output_path", folder, "--data_path", data, *more)


def remake(folder, *roots, size=128, max_samples=20_000):
    """The same without a process of its own."""
    build.make_report(folder, ImageSource(list(roots)), size, processes=1, max_samples=max_samples)


@contextmanager
def opened(browser, path, address="", **context):
    """The report in a page of its own; afterwards: no console error, and no request but for the file itself."""
    context = browser.new_context(**context)
    page = context.new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(path.as_uri() + address)
    yield page
    page.wait_for_timeout(50)
    fetched = {urllib.parse.urldefrag(url).url for url in requests if not url.startswith("data:")}
    context.close()
    assert complaints == []
    assert fetched == {path.as_uri()}


def count(page):
    return page.locator("#count").inner_text()


def shown_ids(page):
    return page.locator(".row .where").evaluate_all("all => all.map(e => e.textContent.split(' · ').pop())")
