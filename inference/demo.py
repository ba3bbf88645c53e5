"""A page in the browser: choose an image and labels, see answer, confidence and reasoning.

    python -m inference.demo                                        # the toy model
    python -m inference.demo --checkpoint output/EmoCaliber --port 7860

The page is served to this machine only (127.0.0.1) unless --host says otherwise, asks nothing of any other
machine, and reads uploads and the scenes of the toy world that it offers as examples, no other file. What model and
user write is shown as plain text.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import uvicorn
from anyio import CapacityLimiter, to_thread
from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from inference.common.paths import REPOSITORY
from inference.common.redaction import redact
from inference.common.terminal import plain_output
from inference.data.response import REASONING_STEPS, UNKNOWN
from inference.data.vecbench import TASKS
from inference.engines.base import EngineFailed
from inference.predictor import (
    DEFAULT_TASK,
    Prediction,
    Predictor,
    add_predictor_arguments,
    load_predictor,
    split_labels,
)

MAX_UPLOAD_MB = 20
MAX_QUEUE = 20  # requests that may wait for the model
OWN_LABELS = "labels of my own"
EXAMPLES = REPOSITORY / "input_data" / "toy_world" / "images" / "test"
MAX_EXAMPLES = 8
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")

PAGE = Path(__file__).with_name("demo_page")
TEMPLATES = Environment(loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
TEMPLATES.globals.update(UNKNOWN=UNKNOWN, REASONING_STEPS=REASONING_STEPS)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # without any referrer, a browser leaves out the origin of our own form, too
    "X-Content-Type-Options": "nosniff",
}


def predict_upload(
    predictor: Predictor, name: str, content: bytes, candidates: list[str], group: str | None
) -> Prediction:
    """What the model says about the content of an uploaded file; an error calls it by its ``name``.

    ``group`` chooses the recalibration's map, as in ``Predictor.predict``.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, "image")
        path.write_bytes(content)
        (prediction,) = predictor.predict([path], candidates, group)
    if prediction.error is not None:
        prediction.error = prediction.error.replace(str(path), name)
    return prediction


async def keep_to_this_site(request: Request, call_next) -> Response:
    """Refuse what pages of other sites send, and let ours load nothing from them."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        response = PlainTextResponse("requests from the pages of other sites are refused", 403)
    else:
        response = await call_next(request)
    response.headers.update(HEADERS)
    return response


def build_app(predictor: Predictor, hosts: tuple[str, ...], examples: Path = EXAMPLES) -> Starlette:
    """The web application: one form, answered with the page that holds the prediction.

    Args:
        hosts: names that the server may be called by. A site elsewhere whose name leads to this machine has another.
        examples: folder of images to try, shown if it exists.
    """
    engine = CapacityLimiter(1)
    asked = 0  # requests that have the model or wait for it
    scenes = {path.relative_to(examples).as_posix(): path for path in sorted(examples.glob("*/*.png"))[:MAX_EXAMPLES]}

    def page(status: int = 200, task: str = DEFAULT_TASK, labels: str = "", **answer) -> Response:
        """The form with these choices made, and as ``answer`` a prediction or a problem."""
        text = TEMPLATES.get_template("page.html").render(
            notice=predictor.notice, tasks=[*TASKS, OWN_LABELS], task=task, labels=labels, scenes=list(scenes), **answer
        )
        return HTMLResponse(text.encode("utf-8", "replace"), status)

    async def refuse(_: Request, error: HTTPException) -> Response:
        return page(error.status_code, problem=error.detail)

    async def show(_: Request) -> Response:
        return page()

    async def ask(request: Request) -> Response:
        length = request.headers.get("content-length")
        if length is None:
            raise HTTPException(411, "expected the length of the request (Content-Length)")
        if int(length) > MAX_UPLOAD_MB * 2**20:
            raise HTTPException(413, f"The image is too large: expected a file of at most {MAX_UPLOAD_MB} MB.")
        async with request.form(max_files=1, max_fields=3) as form:
            task, labels, upload = str(form.get("task", "")), str(form.get("labels", "")), form.get("image")
            if scene := scenes.get(form.get("example")):
                name, content = scene.name, scene.read_bytes()
            elif getattr(upload, "filename", None):
                name, content = Path(upload.filename).name, await upload.read()
            else:
                return page(task=task, labels=labels, problem="Choose an image first.")
        try:
            known = None if task == OWN_LABELS else TASKS[task]
            candidates = list(known.labels) if known else split_labels(labels)
        except KeyError:
            raise HTTPException(400, f"expected task to be one of {', '.join(TASKS)}, {OWN_LABELS}") from None
        except ValueError as error:
            return page(task=task, labels=labels, problem=f"Labels: {error}")
        nonlocal asked  # counted here: a request that has passed is not in the limiter's queue before the next turn
        if asked > MAX_QUEUE:
            raise HTTPException(503, f"{MAX_QUEUE} requests wait for the model already: try again in a moment.")
        asked += 1
        try:  # one at a time: the engine is one
            asking = (predictor, name, content, candidates, known and known.group)
            prediction = await to_thread.run_sync(predict_upload, *asking, limiter=engine)
        except EngineFailed as error:
            raise HTTPException(500, redact(str(error))) from None
        finally:
            asked -= 1
        return page(task=task, labels=labels, prediction=prediction)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/", ask, methods=["POST"]),
            Mount("/static", StaticFiles(directory=PAGE / "static")),
            *([Mount("/examples", StaticFiles(directory=examples))] if scenes else []),
        ],
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=keep_to_this_site),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        exception_handlers={HTTPException: refuse},
    )


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 shows the page to the network")
    parser.add_argument("--port", type=int, default=7860)
    add_predictor_arguments(parser)
    args = parser.parse_args()
    app = build_app(load_predictor(parser, args), LOOPBACK if args.host in LOOPBACK else ("*",))
    print(f"The page is at http://{args.host}:{args.port}/ (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
