"""Any OpenAI-compatible endpoint: a vLLM server, a served cluster, a closed model.

    OPENAI_API_KEY=… python -m inference.inference_vllm --engine openai \\
        --base_url https://example.org/v1 --model_name some-model --data_path … --output_path …

The key comes from OPENAI_API_KEY and is never written anywhere, not even when the endpoint repeats it. At
most ``max_num_seqs`` (64) requests are under way at once; the client retries 408, 409, 429, 5xx and lost connections
with exponential back-off. Images are sent as PNG within the pixel budget, so the budget
holds whatever the server's own is. Log-probabilities are asked for; an endpoint that refuses or
leaves them out costs nothing but the two figures. Further responses to a request are requests of
their own, each with its seed: more endpoints take that than ``n``.
"""

from __future__ import annotations

import base64
import io
import logging
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import openai
from PIL import Image

from inference.engines import IDLE_SECONDS, EngineSettings, Output, Request, sample_seed, take_ready
from inference.redaction import redact
from inference.token_probabilities import response_log_probabilities, texts_of_bytes

log = logging.getLogger("inference")

CONCURRENCY = 64


def image_url(image: Image.Image) -> str:
    """The image as a data URL, lossless."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def choice_log_probabilities(choice) -> tuple[float | None, float | None]:
    """(mean, answer) of ``response_log_probabilities`` for one choice; (None, None) if it does not tell them."""
    try:
        tokens = choice.logprobs.content
        written = [token.token.encode() if token.bytes is None else bytes(token.bytes) for token in tokens]
        return response_log_probabilities(texts_of_bytes(written), [float(token.logprob) for token in tokens])
    except (AttributeError, TypeError, ValueError):  # none, or none that can be read: endpoints differ
        return None, None


class OpenAIEngine:
    """Requests to a chat-completions endpoint with bounded concurrency.

    Raises:
        ValueError: without a base_url.
    """

    def __init__(self, settings: EngineSettings):
        if not settings.base_url:
            raise ValueError("the openai engine needs --base_url, for instance http://127.0.0.1:8000/v1")
        self.settings = settings
        self.concurrency = settings.max_num_seqs or CONCURRENCY
        self.more = {"logprobs": True} if settings.logprobs else {}
        self.client = openai.OpenAI(
            base_url=settings.base_url,
            api_key=os.environ.get("OPENAI_API_KEY", "EMPTY"),
            max_retries=settings.max_retries,
            timeout=settings.timeout,
        )

    def run(self, requests: Iterable[Request | None]) -> Iterator[Output]:
        """Outputs as they arrive; a request that still fails after all retries yields an error."""
        waiting = iter(requests)
        pending: set[Future[Output]] = set()
        more = True
        with ThreadPoolExecutor(self.concurrency) as pool:
            while more or pending:
                if more:
                    ready, more = take_ready(waiting, self.concurrency - len(pending))
                    pending.update(pool.submit(self._ask, request) for request in ready)
                if not pending:
                    time.sleep(IDLE_SECONDS)
                    continue
                # With room left, an answer and the next request are waited for at once.
                room = more and len(pending) < self.concurrency
                done, pending = wait(pending, IDLE_SECONDS if room else None, FIRST_COMPLETED)
                for future in done:
                    yield future.result()

    def _ask(self, request: Request) -> Output:
        url = {"type": "image_url", "image_url": {"url": image_url(request.image)}}
        messages = [
            {**turn, "content": [url if item["type"] == "image" else item for item in turn["content"]]}
            for turn in request.messages
        ]
        try:
            answer = self._complete(messages, request.sample_id)
            others = [
                self._complete(messages, request.sample_id, index).choices[0].message.content or ""
                for index in range(1, self.settings.n_responses)
            ]
            choice = answer.choices[0]
            mean, of_answer = choice_log_probabilities(choice)
            return Output(
                sample_id=request.sample_id,
                response=choice.message.content or "",
                prompt_tokens=answer.usage.prompt_tokens if answer.usage else None,
                output_tokens=answer.usage.completion_tokens if answer.usage else None,
                finish_reason=choice.finish_reason,
                mean_log_probability=mean,
                answer_log_probability=of_answer,
                other_responses=others or None,
            )
        except openai.AuthenticationError as error:
            raise SystemExit(redact(f"{self.settings.base_url} refused the key in OPENAI_API_KEY: {error}")) from None
        except (openai.OpenAIError, ValueError, TypeError, AttributeError, IndexError) as error:
            # An endpoint may answer with anything; what does not parse is this request's error.
            return Output(request.sample_id, error=redact(f"{self.settings.base_url}: {type(error).__name__}: {error}"))

    def _complete(self, messages: list[dict], sample_id: str, index: int = 0):
        """One completion, with log-probabilities until the endpoint has refused them once."""
        more = self.more if index == 0 else {}
        try:
            return self.client.chat.completions.create(
                model=self.settings.model_name,
                messages=messages,
                temperature=self.settings.temperature,
                max_tokens=self.settings.max_new_tokens,
                seed=sample_seed(self.settings.seed, sample_id, index),
                **more,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not more or "logprobs" not in str(error):
                raise
            log.warning("%s refuses logprobs: asking without them", self.settings.base_url)
            self.more = {}
            return self._complete(messages, sample_id, index)
