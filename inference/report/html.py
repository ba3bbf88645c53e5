"""The file of a report, from its parts; page/ has the HTML, the style and the scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from inference.report.tables import PAGE, TEMPLATES

THUMBNAIL_BLOCK = 200  # small copies in one script element: the page decodes a block when it shows one of it


@dataclass
class SampleBrowser:
    """What the browser of the samples shows, and by what it filters and sorts.

    Attributes:
        script: of page/, between elements.js and page.js: how a sample of this report looks.
        data: what the scripts read.
        results, orders: (value in the address, text) of the choices.
        result_name, confidence_name: the names of these two filters.
        thumbnails: data URLs, in the order in which the samples name them.
        responses: blocks of packed responses, if they are not in ``data``.
    """

    script: str
    data: dict[str, Any]
    results: Sequence[tuple[str, str]]
    orders: Sequence[tuple[str, str]]
    result_name: str
    confidence_name: str
    thumbnails: Sequence[str]
    responses: Sequence[str] = ()


def _source_hash(text: str) -> str:
    """A Content-Security-Policy source: the SHA-256 of an inline element's text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def page_html(
    title: str,
    facts: str,
    notices: Sequence[str],
    tables: str,
    plots: Iterable[dict[str, Any]],
    browser: SampleBrowser,
) -> str:
    """The whole file. Its policy names our own style and script by hash: nothing else runs, nothing is fetched.

    Args:
        tables: their HTML.
    """
    style = (PAGE / "page.css").read_text(encoding="utf-8")
    scripts = ("elements.js", browser.script, "page.js")  # in the order in which they run
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in scripts)
    small = browser.thumbnails
    page = TEMPLATES.get_template("page.html").render(
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
        title=title,
        facts=facts,
        notices=notices,
        tables=tables,
        plots=list(plots),
        browser=browser,
        thumbnails=[small[start : start + THUMBNAIL_BLOCK] for start in range(0, len(small), THUMBNAIL_BLOCK)],
        style=style,
        script=script,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half a character of a name becomes a question mark
