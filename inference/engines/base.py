"""What every engine shares: the request, the output, the settings.

An engine is a class with one method, ``run(requests) -> iterator of Output``. It takes
requests lazily and yields each output as soon as it exists, in any order; a request that
fails yields an Output with ``error`` and never stops the others. Among the requests, None
means that none is ready yet. ``inference.engines.load`` makes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from inference.data.images import FACTOR, PixelBudget
from inference.data.replacement import SHOWN
from inference.data.response import ANSWER, PLACES
from inference.engines.checkpoints import PROCESSOR_FILES, cached_hub_file

NOTICE_FILE = "notice.txt"
IDLE_SECONDS = 0.005  # until an engine that has nothing to do asks for requests again


class EngineFailed(RuntimeError):
    """The engine itself died in the middle of a run; outputs that it gave before are valid."""


def setting(default: Any, help: str, decisive: bool = False, choices: tuple[str, ...] | None = None) -> Any:
    """A field of ``EngineSettings``, from which its option is made; ``decisive``: it decides about responses."""
    return field(default=default, metadata={"help": help, "decisive": decisive, "choices": choices})


def default_model_name(checkpoint: str, adapter: str = "") -> str:
    """The name in the results where none is given: the folders' own."""
    return "+".join(Path(folder).name for folder in (checkpoint, adapter) if folder)


@dataclass(frozen=True)
class EngineSettings:
    """How responses are made: the model, sampling, images and the engine. One object for all engines.

    The options of every command that infers are made from these fields (``inference.runs.settings``).

    Raises:
        ValueError: naming the option, for settings that cannot work.
    """

    checkpoint: str = setting("", "model folder or hub name (vllm, transformers)")
    model_name: str = setting(
        "", "name in the results, and the model an endpoint is asked for; default: the checkpoint's", decisive=True
    )
    engine: str = setting("vllm", "what runs the model", choices=("vllm", "transformers", "openai", "ray"))
    adapter: str = setting("", "folder of a LoRA adapter, loaded beside the checkpoint (vllm, transformers)")
    temperature: float = setting(0.7, "0 is greedy decoding", decisive=True)
    max_new_tokens: int = setting(2048, "of a response", decisive=True)
    seed: int = setting(0, "of sampling; each sample has its own, made from this one", decisive=True)
    n_responses: int = setting(1, "responses to each record; the further ones go to other_responses", decisive=True)
    logprobs: bool = setting(True, "leave out the tokens' log-probabilities", decisive=True)
    candidate_probabilities: bool = setting(
        False, "after each response, score every candidate in its place, which costs a prefill each", decisive=True
    )
    candidate_place: str = setting(
        ANSWER, "where: in the answer, or where the response first names it, as a rule in its reasoning",
        decisive=True, choices=PLACES,
    )  # fmt: skip
    min_pixels: int = setting(PixelBudget.min_pixels, "of an image; default: 256 image tokens", decisive=True)
    max_pixels: int = setting(PixelBudget.max_pixels, "of an image; default: 576 image tokens", decisive=True)
    thinking: str = setting(
        "",
        "of a chat template that can switch it; empty: as the template has it",
        decisive=True,
        choices=("", "on", "off"),
    )
    max_images: int = setting(1, "that a record may have; one of more becomes an error record", decisive=True)
    replace_images: str = setting(
        "", "what the model sees in place of each image; empty: the image", decisive=True, choices=("", *SHOWN)
    )
    max_model_len: int = setting(4096, "prompt and response together, in tokens", decisive=True)
    max_num_seqs: int = setting(0, "requests in one batch, or under way at an endpoint; 0 leaves it to the engine")
    gpu_memory_utilization: float = setting(0.9, "share of a GPU's memory that vllm takes")
    dtype: str = setting(
        "auto",
        "auto: float32 on CPU; on a GPU the checkpoint's own, but 16 bits for vllm where that is float32",
        decisive=True,
    )
    allow_url: bool = setting(False, "fetch images that are http(s) URLs")
    allow_private_url: bool = setting(False, "also from this machine and private networks")
    trust_remote_code: bool = setting(False, "run Python code that comes with the checkpoint")
    allow_pickle: bool = setting(False, "load weights that are pickled (*.bin, *.pt), too")
    base_url: str = setting("", "the endpoint of the openai engine")
    max_retries: int = setting(6, "of a request to an endpoint")
    timeout: float = setting(600.0, "seconds, of a try at an endpoint, to its last byte")
    ray_address: str = setting("", "of the ray engine: auto, host:port; empty: a cluster on this machine alone")
    n_actors: int = setting(0, "engines on the Ray cluster; 0: one per GPU, or one per node on CPU")
    actor_engine: str = setting("vllm", "which engine they are", choices=("vllm", "transformers"))
    actor_timeout: float = setting(600.0, "seconds that a run waits without any of them")

    def __post_init__(self):
        if self.engine == "openai" and not (self.base_url and self.model_name):
            raise ValueError("--engine openai needs --base_url and --model_name")
        if self.engine != "openai" and not self.checkpoint:
            raise ValueError(f"--engine {self.engine} needs --checkpoint")
        if self.engine == "openai" and self.candidate_probabilities:
            raise ValueError(
                "--candidate_probabilities needs the engine vllm, transformers or ray: endpoints score no text"
            )
        if self.candidate_place != ANSWER and not self.candidate_probabilities:
            raise ValueError(f"--candidate_place {self.candidate_place} needs --candidate_probabilities")
        if self.n_actors < 0:
            raise ValueError(f"expected --n_actors >= 0, got {self.n_actors}")
        if self.max_images < 1:
            raise ValueError(f"expected max_images >= 1, got {self.max_images}")
        if self.max_images > 1 and self.replace_images:
            raise ValueError(
                f"replace_images={self.replace_images} is for records of one image: leave max_images at 1, "
                f"got {self.max_images}"
            )
        if self.temperature < 0:
            raise ValueError(f"expected --temperature >= 0, got {self.temperature}")
        if self.timeout <= 0:
            raise ValueError(f"expected --timeout > 0, got {self.timeout}")
        if self.n_responses < 1:
            raise ValueError(f"expected n_responses >= 1, got {self.n_responses}")
        if self.n_responses > 1 and self.temperature == 0:
            raise ValueError(
                f"n_responses {self.n_responses} needs a temperature above 0, for instance 0.7: "
                "greedy responses are all the same"
            )
        if self.adapter and self.engine == "openai":
            raise ValueError("--adapter is for a checkpoint: an endpoint has a model name for each adapter it serves")
        object.__setattr__(self, "model_name", self.model_name or default_model_name(self.checkpoint, self.adapter))
        PixelBudget(self.min_pixels, self.max_pixels)

    @property
    def budget(self) -> PixelBudget:
        """The smallest and largest area of an image, and the unit of its sides."""
        return PixelBudget(self.min_pixels, self.max_pixels, image_unit(self.checkpoint))


@dataclass
class Request:
    """One sample on its way to the engine; ``images`` are already within the pixel budget, in their places' order.

    ``candidates`` are those that ``candidate_probabilities`` scores.
    """

    sample_id: str
    messages: list[dict[str, Any]]
    images: Sequence[Image.Image]
    candidates: Sequence[str] = ()


@dataclass
class Output:
    """What came of one request: a response with its token counts, or an error.

    ``image_tokens``, those of all images, is counted in the prompt that the engine really processed; an endpoint
    does not report it (None), but its ``prompt_tokens`` includes them. Everything but
    ``other_responses`` is about ``response``; the two log-probabilities and the candidates' probabilities are explained
    in ``inference.engines.token_probabilities``. vllm and transformers count the end-of-turn token in the
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
    candidate_probabilities: dict[str, float] | None = None
    candidate_place: str | None = None
    other_responses: list[str] | None = None
    error: str | None = None

    def with_candidates(self, probabilities: dict[str, float] | None, settings: EngineSettings) -> Output:
        """With the candidates' probabilities, and their place where it is not the answer; None where there are none."""
        elsewhere = probabilities is not None and settings.candidate_place != ANSWER
        place = settings.candidate_place if elsewhere else None
        return replace(self, candidate_probabilities=probabilities, candidate_place=place)


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


def image_processor_file(checkpoint: str) -> Path | None:
    """The file that says how images are processed; None for an endpoint's model, or one that is not in the cache."""
    for name in PROCESSOR_FILES:  # transformers 5 saves the second alone
        path = Path(checkpoint) / name if Path(checkpoint).is_dir() else cached_hub_file(checkpoint, name)
        if path is not None and path.is_file():
            return path
    return None


def image_processor_settings(path: Path) -> dict[str, Any]:
    """What an ``image_processor_file`` says of images.

    Raises:
        OSError, ValueError: when it cannot be read, or is not JSON.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    return content.get("image_processor", content)


@lru_cache(maxsize=8)
def image_unit(checkpoint: str) -> int:
    """``PixelBudget.unit``: patch size × merge size of a Qwen-VL model, 1 of one that sizes images itself."""
    path = image_processor_file(checkpoint)
    if path is None:
        return FACTOR
    settings = image_processor_settings(path)
    patch, merge = settings.get("patch_size"), settings.get("merge_size")
    return patch * merge if isinstance(patch, int) and isinstance(merge, int) else 1


def checkpoint_notice(checkpoint: str) -> str | None:
    """What must be said beside any output of this checkpoint (a toy model says that it is one)."""
    path = Path(checkpoint) / NOTICE_FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def toy_limits(checkpoint: str) -> dict[str, int]:
    """min_pixels, max_pixels and max_new_tokens as a toy model's own files name them.

    Empty for a checkpoint without a notice: what the released models' files say about pixels is not
    the published budget.

    Raises:
        ValueError: naming the file, when one of a toy model's files lacks its limits.
    """
    if checkpoint_notice(checkpoint) is None:
        return {}
    folder, limits = Path(checkpoint), {}
    pixels = image_processor_file(checkpoint) or folder / PROCESSOR_FILES[0]
    for path, names in (
        (pixels, ("min_pixels", "max_pixels")),
        (folder / "generation_config.json", ("max_new_tokens",)),
    ):
        try:
            content = image_processor_settings(path)
            if path.name == PROCESSOR_FILES[1]:  # transformers 5 calls areas edges
                areas = (content["size"][edge] for edge in ("shortest_edge", "longest_edge"))
                content = dict(zip(names, areas, strict=True))
            limits.update({name: int(content[name]) for name in names})
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}: expected the numbers {' and '.join(names)} ({problem})") from None
    return limits
