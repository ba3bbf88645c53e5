"""A page in the browser: drop an image, choose labels, see answer, confidence and reasoning.

    python -m inference.demo                                        # the toy model
    python -m inference.demo --checkpoint output/EmoCaliber --port 7860

The page is served to this machine only (127.0.0.1) unless --host says otherwise, asks nothing of any other
machine, and reads no file but what is uploaded. What model and user write is shown as plain text.
"""

from __future__ import annotations

import argparse
import html
import io
import os
import re
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from urllib.parse import unquote

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

from inference.common.paths import REPOSITORY
from inference.common.terminal import plain_output
from inference.data.response import REASONING_STEPS, UNKNOWN
from inference.data.vecbench import TASKS
from inference.predictor import Prediction, Predictor, add_predictor_arguments, load_predictor, split_labels

# gradio makes HTTP clients when it is imported, and ends there over a SOCKS proxy that they cannot use.
PROXIES = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
try:
    for name in PROXIES:
        del os.environ[name]
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from gradio.utils import get_upload_folder
finally:
    os.environ.update(PROXIES)

MAX_UPLOAD = "20mb"
MAX_QUEUE = 20  # requests that may wait for the model
OWN_LABELS = "labels of my own"
DEFAULT_TASK = "EmoSet-8"
EXAMPLES = REPOSITORY / "input_data" / "toy_world" / "images" / "test"
MAX_EXAMPLES = 8

# Nothing but this server may be asked for anything, whatever a version of gradio would like to load.
CONTENT_SECURITY_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'"
)
# Tags of gradio's page that would ask other machines: fonts, and a script for pages inside pages.
OUTSIDE = re.compile(
    r"""<link\b[^>]*href="https://fonts\.[^>]*>|<script\b[^>]*\bsrc="https://[^>]*>\s*</script>""", re.DOTALL
)

# Addresses that gradio would pass on to other machines: a file that is a URL, and its proxy for pages elsewhere.
REACHES_OUT = re.compile(r"/(file=|file/|proxy=).*//|/proxy=")

CSS = """
footer { display: none !important; }
.notice { background: #fde68a; color: #422006; border-left: 6px solid #b45309; padding: .7em 1em; font-weight: 600; }
.problem { background: #fecaca; color: #450a0a; border-left: 6px solid #b91c1c; padding: .7em 1em; }
.answer { font-size: 1.9em; font-weight: 700; overflow-wrap: anywhere; line-height: 1.2; margin: 0 0 .3em; }
.bars { display: grid; grid-template-columns: minmax(6em, max-content) 1fr 3em; gap: .35em .8em; align-items: center; }
.bars .name { overflow-wrap: anywhere; }
.bars .track { background: rgba(128, 128, 128, .25); border-radius: 4px; height: .9em; }
.bars .fill { background: #2563eb; border-radius: 4px; height: 100%; }
.bars .number { font-variant-numeric: tabular-nums; text-align: right; }
.reasoning { display: grid; grid-template-columns: 7em 1fr; gap: .5em .8em; margin: .4em 0 0; }
.reasoning dt { font-weight: 700; }
.reasoning dd { margin: 0; overflow-wrap: anywhere; }
.heading { margin: 1.2em 0 .4em; font-weight: 700; opacity: .75; }
.response { white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 480px) {
  .reasoning { grid-template-columns: 1fr; gap: .1em; }
  .reasoning dd { margin-bottom: .6em; }
}
"""


def take_uploads_as_they_are(image: gr.Image) -> None:
    """Hand on the uploaded file itself (the predictor opens it and says what is wrong), and nothing else.

    A request need not come from the page: it may name any path, or an address that gradio would fetch.
    """
    folder = Path(get_upload_folder()).resolve()
    move_to_cache = image.async_move_resource_to_block_cache

    async def move(path: str | Path) -> str | None:
        if "://" in str(path):
            raise gr.Error("expected an uploaded image")
        return await move_to_cache(path)

    def uploaded(payload) -> str | None:
        if payload is None:
            return None
        if not Path(payload.path).resolve().is_relative_to(folder):
            raise gr.Error("expected an uploaded image")
        return payload.path

    image.async_move_resource_to_block_cache = move
    image.preprocess = uploaded


def bars(rows: list[tuple[str, float]]) -> str:
    """Names with values in [0, 1] as HTML."""
    cells = "".join(
        f'<span class="name">{html.escape(name)}</span>'
        f'<span class="track"><span class="fill" style="display: block; width: {100 * value:.1f}%"></span></span>'
        f'<span class="number">{value:.2f}</span>'
        for name, value in rows
    )
    return f'<div class="bars">{cells}</div>'


def problem(text: str) -> str:
    return f'<div class="problem" role="alert">{html.escape(text)}</div>'


def to_html(prediction: Prediction) -> str:
    """A prediction as HTML; every text of the model or of the user is escaped."""
    if prediction.error is not None:
        return problem(prediction.error.replace(prediction.image, Path(prediction.image).name))
    answer = "none of the labels" if prediction.answer == UNKNOWN else prediction.answer
    parts = [f'<div class="answer">{html.escape(answer)}</div>']
    rows = []
    if prediction.confidence is None:
        parts.append("<p>no confidence stated</p>")
    else:
        rows.append(("confidence", prediction.confidence))
    if prediction.recalibrated_confidence is not None:
        rows.append(("recalibrated", prediction.recalibrated_confidence))
    parts.append(bars(rows))
    if prediction.answers is not None:
        total = sum(prediction.answers.values())
        parts.append(f'<div class="heading">Answers of {total} responses</div>')
        parts.append(bars([(name, count / total) for name, count in prediction.answers.items()]))
    steps = "".join(
        f"<dt>{step}</dt><dd>{html.escape(prediction.reasoning.get(step, '')) or '(missing)'}</dd>"
        for step in REASONING_STEPS
    )
    parts.append(f'<div class="heading">Reasoning</div><dl class="reasoning">{steps}</dl>')
    if prediction.answer == UNKNOWN or not prediction.reasoning:
        parts.append(
            f'<div class="heading">Response</div><div class="response">{html.escape(prediction.response)}</div>'
        )
    return "".join(parts)


def answer_about(predictor: Predictor) -> Callable[[str | None, str, str], str]:
    """The function behind the button: (uploaded file, task, own labels) → HTML."""

    def answer(image: str | None, task: str, labels: str) -> str:
        if image is None:
            return problem("Choose an image first.")
        try:
            candidates = split_labels(labels) if task == OWN_LABELS else list(TASKS[task].labels)
        except ValueError as error:
            return problem(f"Labels: {error}")
        return to_html(predictor.predict([image], candidates)[0])

    return answer


def build_page(predictor: Predictor) -> gr.Blocks:
    """The page's components and what they do."""
    # Fonts of the reader's system: gradio's own themes load theirs from Google, and plain names from the server.
    fonts = {
        "font": [gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
        "font_mono": [gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
    }
    with gr.Blocks(
        title="EmoCaliber",
        css=CSS,
        theme=gr.themes.Default(**fonts),
        analytics_enabled=False,
        delete_cache=(3600, 3600),
    ) as page:
        gr.HTML("<h1>EmoCaliber</h1><p>Which emotion might an image evoke, why, and how sure is the model?</p>")
        if predictor.notice:
            gr.HTML(f'<div class="notice" role="note">NOTE: {html.escape(predictor.notice)}</div>')
        with gr.Row():
            with gr.Column():
                image = gr.Image(label="Image", type="filepath", sources=["upload", "clipboard"], height=320)
                take_uploads_as_they_are(image)
                task = gr.Dropdown([*TASKS, OWN_LABELS], value=DEFAULT_TASK, label="Labels to choose from")
                labels = gr.Textbox(
                    label="Labels, separated by commas", placeholder="calm, tense, sad", visible=False, max_length=4000
                )
                button = gr.Button("Ask", variant="primary")
            with gr.Column():
                output = gr.HTML(label="Answer", elem_id="prediction", min_height=80)
        if examples := sorted(EXAMPLES.glob("*/*.png"))[:MAX_EXAMPLES]:
            gr.Examples([[str(path)] for path in examples], [image], label="Scenes of the toy world")
        image.change(lambda: "", None, output, api_name=False, show_progress="hidden")  # not the last image's answer
        task.change(
            lambda chosen: gr.Textbox(visible=chosen == OWN_LABELS),
            task,
            labels,
            api_name=False,
            show_progress="hidden",
        )
        # One at a time: the engine is one.
        button.click(answer_about(predictor), [image, task, labels], output, api_name=False, concurrency_limit=1)
    return page.queue(max_size=MAX_QUEUE)


def build_app(predictor: Predictor) -> FastAPI:
    """The web application: gradio's page, kept from asking other machines."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def only_this_server(request: Request, call_next) -> Response:
        if REACHES_OUT.search(unquote(request.url.path)):
            return Response("not found", 404)
        response = await call_next(request)
        if request.url.path == "/" and response.headers.get("content-type", "").startswith("text/html"):
            page = b"".join([chunk async for chunk in response.body_iterator]).decode("utf-8")
            kept = {name: value for name, value in response.headers.items() if name != "content-length"}
            response = Response(OUTSIDE.sub("", page), response.status_code, kept)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    page = build_page(predictor)
    page.has_launched = True  # gradio checks paths in requests only then, and a mounted page never is launched
    with redirect_stdout(io.StringIO()):  # gradio 5.50 prints the path
        return gr.mount_gradio_app(app, page, path="/", max_file_size=MAX_UPLOAD, ssr_mode=False, show_error=False)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 shows the page to the network")
    parser.add_argument("--port", type=int, default=7860)
    add_predictor_arguments(parser)
    args = parser.parse_args()
    # ms-swift keeps gradio below 6: neither its own warnings of that nor starlette's about it lead to anything.
    warnings.filterwarnings("ignore", message=r".*in Gradio 6\.0")
    warnings.filterwarnings("ignore", module=r"gradio\.")
    app = build_app(load_predictor(parser, args))
    print(f"The page is at http://{args.host}:{args.port}/ (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
