"""A checkpoint's own processor: how its chat template asks about images, and how many tokens they become.

processor = load_processor(settings)
prompt = render_prompt(processor, request, settings)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from PIL import Image

from inference.common.json_lines import one_line
from inference.engines.base import EngineSettings, Request
from inference.engines.token_probabilities import CandidateText, candidate_texts


def pixel_options(settings: EngineSettings) -> dict[str, int]:
    """The pixel budget as options of a processor that has one, so that it leaves images as they are."""
    if settings.budget.unit == 1:
        return {}
    return {"min_pixels": settings.min_pixels, "max_pixels": settings.max_pixels}


def load_processor(settings: EngineSettings):
    """The checkpoint's own processor (tokenizer, chat template, image processor).

    Raises:
        ValueError: when it is none for images.
    """
    from transformers import AutoProcessor

    options = {**pixel_options(settings), "trust_remote_code": settings.trust_remote_code}
    processor = AutoProcessor.from_pretrained(settings.checkpoint, **options)
    if not sum(image_marks(processor).values()):
        raise ValueError(
            f"{settings.checkpoint}: its processor ({type(processor).__name__}) writes no image token into a prompt: "
            "expected a model that takes images and text"
        )
    if settings.max_images > 1 and (said := _against_several_images(processor)):
        raise ValueError(f"{settings.checkpoint}: max_images={settings.max_images}, but {said}: leave it at 1")
    template = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
    if settings.thinking and "enable_thinking" not in str(template):
        raise ValueError(
            f"{settings.checkpoint}: thinking={settings.thinking}, but its chat template has no such switch"
        )
    return processor


@lru_cache(maxsize=4)
def image_marks(processor, n_images: int = 1) -> dict[str, int]:
    """Token → how often the chat template writes it for so many images; the tokens are those of images and videos."""
    tokens = {getattr(processor, name, None) for name in ("image_token", "video_token", "boi_token")} - {None}
    messages = [{"role": "user", "content": [{"type": "image"} for _ in range(n_images)]}]
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) if tokens else ""
    return {token: prompt.count(token) for token in sorted(tokens)}


def _against_several_images(processor) -> str:
    """Why the chat template cannot ask about several images; empty when it can."""
    from jinja2 import TemplateError

    try:
        two = image_marks(processor, 2)
    except TemplateError as error:
        return f"its chat template refuses two images ({one_line(str(error))})"
    one = sum(image_marks(processor).values())
    return "" if sum(two.values()) == 2 * one else f"its chat template writes {sum(two.values())} image tokens for two"


def template_options(settings: EngineSettings) -> dict[str, Any]:
    """Variables of the chat template: ``enable_thinking``, as Qwen3, GLM-4.5V and others call it."""
    return {"enable_thinking": settings.thinking == "on"} if settings.thinking else {}


@lru_cache(maxsize=4)
def added_beginning(processor) -> str:
    """The token that the tokenizer puts before any text by itself; empty where it puts none.

    Chat templates that write it, too (Gemma 3's, Idefics 3's), would have the model read it twice.
    """
    tokenizer = processor.tokenizer
    return tokenizer.bos_token if tokenizer("").input_ids[:1] == [tokenizer.bos_token_id] else ""


def render_prompt(processor, request: Request, settings: EngineSettings) -> str:
    """The request's turns through the checkpoint's chat template, ready for the assistant's answer.

    Raises:
        ValueError: when there are other image or video tokens than those of the request's images, because a
            record's text spells one out. The engine would be promised more images than it gets, and vLLM ends
            with all its requests then.
    """
    options = {"tokenize": False, "add_generation_prompt": True, **template_options(settings)}
    prompt = processor.apply_chat_template(request.messages, **options)
    n = len(request.images)
    marks = {token: n * count for token, count in image_marks(processor).items()}
    if any(prompt.count(token) != expected for token, expected in marks.items()):
        promised, expected = sum(map(prompt.count, marks)), sum(marks.values())
        images = "one image" if n == 1 else f"{n} images"
        raise ValueError(f"the prompt has {promised} image or video tokens for its {images}, expected {expected}")
    return prompt.removeprefix(added_beginning(processor))


def check_images_one_by_one(processor, settings: EngineSettings) -> None:
    """Check that the model sees each of several images as it would see it alone: vLLM shows every model images so.

    LLaVA-OneVision, for instance, cuts an image into tiles only when it is the only one.

    Raises:
        ValueError: for a processor that makes other than twice the image tokens of two equal images.
    """
    image, counts = Image.new("RGB", settings.budget.fit(640, 480)), []
    for n in (1, 2):
        request = Request("", [{"role": "user", "content": [{"type": "image"}] * n}], [image] * n)
        prompt = render_prompt(processor, request, settings)
        inputs = processor(text=[prompt], images=[[image] * n], return_tensors="pt")
        counts.append(int((inputs["input_ids"] == processor.image_token_id).sum()))
    if counts[1] != 2 * counts[0]:
        raise ValueError(
            f"{settings.checkpoint}: max_images={settings.max_images}, but its processor makes {counts[0]} image "
            f"tokens of one image and {counts[1]} of two, where vLLM would make {2 * counts[0]}: "
            "take engine=transformers (--actor_engine transformers with ray), or leave it at 1"
        )


def scored_prompts(
    processor, request: Request, response: str, settings: EngineSettings
) -> dict[str, tuple[str, CandidateText]]:
    """candidate → (the whole prompt to score it in, its end); empty for a response that has no place for candidates.

    That is a response without an answer, and one that spells out an image or video token (``render_prompt``).
    """
    prompt = render_prompt(processor, request, settings)
    scored = candidate_texts(response, request.candidates, settings.candidate_place)
    if any(token in end.text for end in scored.values() for token in image_marks(processor)):
        return {}
    return {candidate: (prompt + end.text, end) for candidate, end in scored.items()}
