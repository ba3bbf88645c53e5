"""Any OpenAI-compatible endpoint: a vLLM server, a served cluster, a closed model.

    OPENAI_API_KEY=… python -m inference.inference_vllm --engine openai \\
        --base_url https://example.org/v1 --model_name some-model --data_path … --output_path …

The key comes from OPENAI_API_KEY and is never written anywhere, not even when the endpoint repeats
it. At most ``max_num_seqs`` (64) requests are under way at once; the client retries 408, 409, 429,
5xx, lost connections and tries that took longer than ``timeout``, with exponential back-off or when
the endpoint says (Retry-After). Whatever else comes back is checked here and becomes the response
or the error of that request alone. Images are sent as PNG within the pixel budget, so the budget
holds whatever the server's own is. It is asked to sample by temperature alone, where a server would add its model's own
top_k or penalties, and for log-probabilities; what it refuses by name it is asked without, and that is said. One that
leaves the log-probabilities out costs nothing but the two numbers. Further responses to a request are requests of
their own, each with its seed: more endpoints take that than ``n``. Reasoning that a server has split off is put back
(``as_written``).
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import io
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment

import openai
from anyio.from_thread import start_blocking_portal
from PIL import Image

from inference.common.json_lines import decode_line, describe, one_line
from inference.common.redaction import redact
from inference.data.response import tag_text
from inference.engines.base import IDLE_SECONDS, EngineSettings, Output, Request, sample_seed, take_ready
from inference.engines.processor import template_options
from inference.engines.token_probabilities import response_log_probabilities, texts_of_bytes

log = logging.getLogger("inference")

CONCURRENCY = 64
# A vLLM server takes what a request does not say from the model's generation_config.json: of Qwen2.5-VL a repetition
# penalty of 1.05, of others top_k. OpenAI's own interface knows top_p alone.
ONLY_TEMPERATURE = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
MAX_ANSWER_BYTES = 32 * 2**20  # of one answer: 2,048 tokens with log-probabilities are about 0.3 MiB
MAX_ERROR_LENGTH = 500  # characters of an error record: some endpoints answer with a whole page
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# The HTTP library that this version of openai is built on: httpx, later httpx2.
HTTP = importlib.import_module(openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0])


class KeyRefused(Exception):
    """The endpoint does not take the key: no other request would fare better."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """Bounds a try as a whole: so many seconds to its last byte, ``MAX_ANSWER_BYTES``.

    The library's own timeout is for each read: a server that sends a byte now and then would never end.
    """

    def __init__(self, seconds: float, **options):
        super().__init__(timeout=seconds, **options)
        self.seconds = seconds

    async def send(self, request, *, stream: bool = False, **options):
        try:
            return await asyncio.wait_for(self._whole(request, options), self.seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            raise HTTP.ReadTimeout(f"no whole answer within {self.seconds:g} s", request=request) from None

    async def _whole(self, request, options: dict[str, Any]):
        response = await super().send(request, stream=True, **options)
        content = bytearray()
        try:
            async for block in response.aiter_bytes():
                content += block
                if len(content) > MAX_ANSWER_BYTES:
                    raise openai.OpenAIError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        finally:
            await response.aclose()
        # The content is decoded and whole: what was said about its transfer no longer holds.
        transfer = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in transfer]
        return HTTP.Response(response.status_code, headers=headers, content=bytes(content), request=request)


def image_url(image: Image.Image) -> str:
    """The image as a data URL, lossless."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _sent(item: dict[str, Any], urls: Iterator[str]) -> dict[str, Any]:
    """An item of a turn as an endpoint takes it; an image gets the next address."""
    return {"type": "image_url", "image_url": {"url": next(urls)}} if item["type"] == "image" else item


def choice_log_probabilities(choice: dict[str, Any]) -> tuple[float | None, float | None]:
    """(mean, answer) of ``response_log_probabilities`` for one choice; (None, None) if it does not report them.

    The tokens may be those of the whole response or of its content alone. If the first answer in them is not the
    response's (it is in a reasoning that is no part of the response), the second number is None.
    """
    try:
        tokens = choice["logprobs"]["content"]
        written = [bytes(list(token.get("bytes") or token["token"].encode())) for token in tokens]
        values = [float(token["logprob"]) for token in tokens]
        if not all(map(math.isfinite, values)):
            return None, None
        texts = texts_of_bytes(written)
        mean, of_answer = response_log_probabilities(texts, values)
        same = tag_text("".join(texts), "answer") == tag_text(choice["message"]["content"], "answer")
        return mean, of_answer if same else None
    except (KeyError, AttributeError, TypeError, ValueError, OverflowError):  # none, or unreadable: endpoints differ
        return None, None


def read_completion(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(first choice, token counts) of the JSON of a chat completion; the choice has a text.

    Raises:
        ValueError: naming the field and what was expected there.
    """
    answer, problem = decode_line(content)
    if problem:
        raise ValueError(f"{problem}, got {describe(content.decode('utf-8', 'replace'), 200)}")
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError(f"field 'choices': expected a list of answers, got {describe(answer, 200)}")
    choice = next((choice for choice in choices if choice.get("index") == 0), choices[0])
    message, usage = choice.get("message"), answer.get("usage")
    text = as_written(message) if isinstance(message, dict) else None
    if text is None:
        raise ValueError(f"field 'message.content': expected a text, got {describe(choice, 200)}")
    message["content"] = text
    return choice, usage if isinstance(usage, dict) else {}


def as_written(message: dict[str, Any]) -> str | None:
    """The message's text, with the reasoning that a server's parser took out of it put back; None without any text.

    A reasoning parser cuts a response at ``</think>`` and serves what stood before it as ``reasoning_content`` or
    ``reasoning``. A content with ``<think>`` or ``</think>`` of its own was not cut there: it stays as it is (what a
    model thinks before it writes the reasoning that it was asked for is no part of that). Without a content the
    model did not get to ``</think>``.
    """
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(reasoning, str) or not reasoning.strip():
        return content if isinstance(content, str) else None
    opened = reasoning if reasoning.lstrip().startswith("<think>") else f"<think>{reasoning}"
    if content is None or content == "":
        return opened
    if not isinstance(content, str):
        return None
    return content if "<think>" in content or "</think>" in content else f"{opened}</think>{content}"


def count(usage: dict[str, Any], name: str) -> int | None:
    """A token count, None where the endpoint gives none."""
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class OpenAIEngine:
    """Requests to a chat-completions endpoint with bounded concurrency.

    Raises:
        ValueError: for a proxy that cannot be used.
    """

    def __init__(self, settings: EngineSettings):
        self.settings = settings
        self.concurrency = settings.max_num_seqs or CONCURRENCY
        self.more = {**ONLY_TEMPERATURE, **({"logprobs": True} if settings.logprobs else {})}
        # How a vLLM or SGLang server takes variables of the chat template.
        self.extra = {"chat_template_kwargs": template_options(settings)} if settings.thinking else {}
        self.use_proxies = True
        try:
            self._http_client()
        except (ImportError, ValueError, HTTP.InvalidURL) as error:  # a SOCKS proxy without socksio, an odd address
            host = urlsplit(settings.base_url).hostname or ""
            if not proxy_bypass_environment(host):
                named = " and ".join(
                    f"{name}={value}" for name, value in sorted(os.environ.items()) if name.lower() in PROXIES and value
                )
                raise ValueError(
                    f"{redact(named)}: no connection through this proxy ({error}). Install httpx[socks] for a SOCKS "
                    f"proxy, unset the variable, or put {host} into NO_PROXY"
                ) from None
            self.use_proxies = False

    def _http_client(self) -> BoundedClient:
        limits = HTTP.Limits(max_connections=self.concurrency)
        return BoundedClient(self.settings.timeout, limits=limits, trust_env=self.use_proxies)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Output]:
        """Outputs as they arrive; a request that still fails after all retries yields an error.

        Raises:
            SystemExit: when the endpoint refuses the key.
        """
        waiting = iter(requests)
        pending: set[Future[Output]] = set()
        more = True
        with start_blocking_portal() as portal:  # an event loop in a thread; leaving ends what is still under way
            client = openai.AsyncOpenAI(
                base_url=self.settings.base_url,
                api_key=os.environ.get("OPENAI_API_KEY", "EMPTY"),
                max_retries=self.settings.max_retries,
                timeout=self.settings.timeout,
                http_client=self._http_client(),
            )
            while more or pending:
                if more:
                    ready, more = take_ready(waiting, self.concurrency - len(pending))
                    pending.update(portal.start_task_soon(self._ask, client, request) for request in ready)
                if not pending:
                    time.sleep(IDLE_SECONDS)
                    continue
                # With room left, an answer and the next request are waited for at once.
                room = more and len(pending) < self.concurrency
                done, pending = wait(pending, IDLE_SECONDS if room else None, FIRST_COMPLETED)
                for future in done:
                    try:
                        yield future.result()
                    except KeyRefused as error:
                        raise SystemExit(str(error)) from error

    async def _ask(self, client: openai.AsyncOpenAI, request: Request) -> Output:
        base_url = self.settings.base_url
        try:
            urls = iter([await asyncio.to_thread(image_url, image) for image in request.images])
            messages = [
                {**turn, "content": [_sent(item, urls) for item in turn["content"]]} for turn in request.messages
            ]
            choice, usage = await self._complete(client, messages, request.sample_id)
            others = [
                (await self._complete(client, messages, request.sample_id, index))[0]["message"]["content"]
                for index in range(1, self.settings.n_responses)
            ]
            mean, of_answer = choice_log_probabilities(choice)
            reason = choice.get("finish_reason")
            return Output(
                sample_id=request.sample_id,
                response=choice["message"]["content"],
                prompt_tokens=count(usage, "prompt_tokens"),
                output_tokens=count(usage, "completion_tokens"),
                finish_reason=reason if isinstance(reason, str) else None,
                mean_log_probability=mean,
                answer_log_probability=of_answer,
                other_responses=others or None,
            )
        except openai.AuthenticationError as error:
            refused = redact(f"{base_url} refused the key in OPENAI_API_KEY: {error}")
            raise KeyRefused(one_line(refused, MAX_ERROR_LENGTH)) from error
        except Exception as error:
            # An endpoint may answer with anything; what cannot be used is this request's error.
            cause = f" ({error.__cause__})" if isinstance(error, openai.APIConnectionError) and error.__cause__ else ""
            line = redact(f"{base_url}: {type(error).__name__}: {error}{cause}")
            return Output(request.sample_id, error=one_line(line, MAX_ERROR_LENGTH))

    async def _complete(
        self, client: openai.AsyncOpenAI, messages: list[dict], sample_id: str, index: int = 0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """``read_completion`` of one request, without what the endpoint has refused once of ``self.more``."""
        more = {name: value for name, value in self.more.items() if index == 0 or name != "logprobs"}
        try:
            answer = await client.chat.completions.with_raw_response.create(
                model=self.settings.model_name,
                messages=messages,
                temperature=self.settings.temperature,
                max_tokens=self.settings.max_new_tokens,
                seed=sample_seed(self.settings.seed, sample_id, index),
                extra_body={**self.extra, **more},
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            refused = sorted(name for name in more if name in str(error))
            if not refused:
                raise
            if any(name in self.more for name in refused):
                log.warning("%s refuses %s: asking without", self.settings.base_url, ", ".join(refused))
            self.more = {name: value for name, value in self.more.items() if name not in refused}
            return await self._complete(client, messages, sample_id, index)
        return read_completion(answer.http_response.content)
