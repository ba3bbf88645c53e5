"""What every engine shares: the request, the output, sampling settings, chat rendering.

An engine is a class with one method, ``run(requests) -> iterator of Output``. It takes
requests lazily and yields each output as soon as it exists, in any order; a request that
fails yields an Output with ``error`` and never stops the others. Among the requests, None
means that none is ready yet. ``inference.engines.load`` makes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from inference.data.images import PixelBudget

NOTICE_FILE = "notice.txt"
IDLE_SECONDS = 0.005  # until an engine that has nothing to do asks for requests again


class EngineFailed(RuntimeError):
    """The engine itself died in the middle of a run; outputs that it gave before stand."""


@dataclass(frozen=True)
class EngineSettings:
    """What an engine needs to know; one object for all of them.

    Attributes:
        checkpoint: folder or hub name of the model; for ``openai`` only a name.
        allow_pickle: whether weights may be pickled; otherwise they are safetensors.
        temperature: 0 is greedy decoding.
        max_num_seqs: requests that one batch holds (vllm, transformers) or that are under
            way at once (openai); 0 leaves it to the engine.
        n_responses: responses to each request; the further ones are ``Output.other_responses``.
        logprobs: whether outputs carry the two log-probabilities.
        ray_address: of the cluster (``ray``): ``auto`` or host:port; empty starts one on this machine.
        n_actors: engines on the cluster; 0 is one per GPU, or one per node where there is none.
        actor_engine: which engine they are, ``vllm`` or ``transformers``.
        actor_timeout: seconds that a run goes on waiting without any of them.

    Raises:
        ValueError: for further responses at temperature 0, where all would be the same.
    """

    checkpoint: str
    model_name: str
    temperature: float = 0.7
    max_new_tokens: int = 2048
    seed: int = 0
    budget: PixelBudget = field(default_factory=PixelBudget)
    max_model_len: int = 4096
    max_num_seqs: int = 0
    gpu_memory_utilization: float = 0.9
    dtype: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    base_url: str = ""
    max_retries: int = 6
    timeout: float = 600.0
    n_responses: int = 1
    logprobs: bool = True
    ray_address: str = ""
    n_actors: int = 0
    actor_engine: str = "vllm"
    actor_timeout: float = 600.0

    def __post_init__(self):
        if self.n_responses < 1:
            raise ValueError(f"expected n_responses >= 1, got {self.n_responses}")
        if self.n_responses > 1 and self.temperature == 0:
            raise ValueError(
                f"n_responses {self.n_responses} needs a temperature above 0, for instance 0.7: "
                "greedy responses are all the same"
            )


@dataclass
class Request:
    """One sample on its way to the engine; ``image`` is already within the pixel budget."""

    sample_id: str
    messages: list[dict[str, Any]]
    image: Image.Image


@dataclass
class Output:
    """What came of one request: a response with its token counts, or an error.

    ``image_tokens`` is counted in the prompt that the engine really processed; an endpoint
    does not tell it (None), but its ``prompt_tokens`` includes them. Everything but
    ``other_responses`` is about ``response``; the two log-probabilities are explained in
    ``inference.engines.token_probabilities``. vllm and transformers count the end-of-turn token in the
    mean; an endpoint does if it lists that token (a vLLM server does).
    """

    sample_id: str
    response: str = ""
    image_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    mean_log_probability: float | None = None
    answer_log_probability: float | None = None
    other_responses: list[str] | None = None
    error: str | None = None


class Engine(Protocol):
    """The engines' common face.

    ``requests`` may yield None at any place, any number of times: nothing is ready yet (an image is
    still being decoded), go on with what you have. The engine then works on the requests that are
    under way, and asks again; it never waits for the next request while it could do something else.
    """

    def run(self, requests: Iterable[Request | None]) -> Iterator[Output]: ...


def take_ready(waiting: Iterator[Request | None], room: int) -> tuple[list[Request], bool]:
    """(at most ``room`` requests that are ready now, whether there may be more later)."""
    ready: list[Request] = []
    while len(ready) < room:
        try:
            request = next(waiting)
        except StopIteration:
            return ready, False
        if request is None:
            break
        ready.append(request)
    return ready, True


def sample_seed(seed: int, sample_id: str, index: int = 0) -> int:
    """A seed for one sample: the same whatever else is in the batch, whoever infers it.

    Response ``index`` of the sample gets this seed plus ``index``, as vLLM does for ``n`` responses to a request.
    """
    digest = hashlib.sha256(f"{seed}/{sample_id}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:4], "big") >> 1) + index


def load_processor(settings: EngineSettings):
    """The checkpoint's own processor (tokenizer, chat template, image processor)."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(
        settings.checkpoint,
        min_pixels=settings.budget.min_pixels,
        max_pixels=settings.budget.max_pixels,
        trust_remote_code=settings.trust_remote_code,
    )


def render_prompt(processor, request: Request) -> str:
    """The request's turns through the checkpoint's chat template, ready for the assistant's answer.

    Raises:
        ValueError: when a record's text spells out an image or video token. The engine would
            be promised more images than it gets, and vLLM ends with all its requests then.
    """
    prompt = processor.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True)
    promised = prompt.count(processor.image_token) + prompt.count(processor.video_token)
    if promised != 1:
        raise ValueError(f"the prompt has {promised} image or video tokens for its one image")
    return prompt


def checkpoint_notice(checkpoint: str) -> str | None:
    """What must be said beside any output of this checkpoint (a toy model says that it is one)."""
    path = Path(checkpoint) / NOTICE_FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def toy_limits(checkpoint: str) -> dict[str, int]:
    """min_pixels, max_pixels and max_new_tokens as a toy model's own files name them.

    Empty for a checkpoint without a notice: what the released models' files say about pixels is not
    the published budget.

    Raises:
        ValueError: naming the file, when one of a toy model's files does not tell its limits.
    """
    if checkpoint_notice(checkpoint) is None:
        return {}
    limits = {}
    for file, names in (
        ("preprocessor_config.json", ("min_pixels", "max_pixels")),
        ("generation_config.json", ("max_new_tokens",)),
    ):
        path = Path(checkpoint) / file
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            limits.update({name: int(content[name]) for name in names})
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}: expected the numbers {' and '.join(names)} ({problem})") from None
    return limits
