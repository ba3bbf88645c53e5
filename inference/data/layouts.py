"""The layouts of rows: turns and images wherever a file has them, in one form.

Records of VECBench and rows of training data are read by the same function. Files of many lines: see
``inference.data.records`` and ``scripts.data.samples``.

    from inference.data.layouts import read_conversation
    turns, images = read_conversation(raw, fail)
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, NoReturn

from inference.common.json_lines import describe
from inference.data.fields import MAX_TEXT, check_text

IMAGE = "<image>"  # where an image is in a turn's text: ms-swift's, verl's and LLaVA's mark
IMAGE_TOKENS = ("<|image_pad|>", "<|video_pad|>")  # in a text they promise Qwen2.5-VL pixels that do not come
EMBEDDED = "data:image;base64,"  # how the data URL of an image begins that a table holds as bytes
KNOWN_ROLES = ("system", "user", "assistant")
ROLES = {"human": "user", "gpt": "assistant"}  # LLaVA's names of the two


def _reference(image: Any) -> Any:
    """The path or URL of an image in any form, embedded bytes as a data URL; None where there is no image."""
    if isinstance(image, dict):
        image = next((image[key] for key in ("bytes", "path", "image", "url") if image.get(key)), None)
    if isinstance(image, bytes):
        return EMBEDDED + base64.b64encode(image).decode("ascii")
    return image


def _image_in(item: dict[str, Any]) -> Any:
    """What an item of a turn names as its image, an ``image_url`` of the OpenAI form included; None for text."""
    image = item.get("image")
    return _reference(item.get("image_url") if image is None else image)


def _turns_of(raw: dict[str, Any]) -> tuple[str, Any]:
    """(name of the key that holds a row's turns, the turns or None)."""
    name = "messages" if raw.get("conversations") is None else "conversations"
    return name, raw.get(name)


def _listed(value: Any) -> list[Any]:
    """What a key beside the turns names: each of a list, null included, or the one image if there is one."""
    if isinstance(value, list):
        return [_reference(image) for image in value]
    image = _reference(value)
    return [] if image is None else [image]


def _beside(raw: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What a row names beside its turns: (under ``images``, under ``image`` and not among those)."""
    listed = _listed(raw.get("images"))
    return listed, [image for image in _listed(raw.get("image")) if image not in listed]


def images_of(raw: dict[str, Any]) -> list[Any]:
    """What a row names as its images: in its turns, or in ``images`` and ``image`` if those are more; of any type."""
    turns = _turns_of(raw)[1]
    dicts = (turn for turn in turns if isinstance(turn, dict)) if isinstance(turns, list) else ()
    contents = (turn.get("content", turn.get("value")) for turn in dicts)
    items = (item for content in contents if isinstance(content, list) for item in content if isinstance(item, dict))
    inside = [image for image in map(_image_in, items) if image is not None]
    listed, more = _beside(raw)
    return [*listed, *more] if len(listed) + len(more) > len(inside) else inside


def image_of(raw: dict[str, Any]) -> str | None:
    """The first image that a record or result names, whatever else is wrong with it; None without one."""
    return next((image for image in images_of(raw) if isinstance(image, str)), None)


def _text_items(field_name: str, text: str, fail: Callable[[str, str], NoReturn]) -> list[dict[str, str]]:
    """A text, split at each ``<image>``: where an image is, in ms-swift's, verl's and LLaVA's files."""
    check_text(field_name, text, fail, MAX_TEXT)
    for token in IMAGE_TOKENS:
        if token in text:
            fail(field_name, f"text without {token}, which marks an image's pixels")
    items: list[dict[str, str]] = []
    for i, part in enumerate(text.split(IMAGE)):
        items += ([{"type": "image"}] if i else []) + ([{"type": "text", "text": part}] if part else [])
    return items


def _read_turn(turn: Any, where: str, fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
    role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
    if not isinstance(role, str):
        fail(where, f'an object with a string "role" (or "from"), got {describe(turn)}')
    role, content = ROLES.get(role, role), turn.get("content", turn.get("value"))
    if role not in KNOWN_ROLES:  # the model would be shown the answer of a "chatgpt" as a part of the question
        fail(f"{where}.role", f"one of {', '.join((*KNOWN_ROLES, *ROLES))}, got {describe(role)}")
    if isinstance(content, str):
        return {"role": role, "content": _text_items(f"{where}.content", content, fail)}
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        fail(f"{where}.content", f"a string or a list of objects, got {describe(content)}")
    items: list[dict[str, str]] = []
    for j, item in enumerate(content):
        is_image = _image_in(item) is not None or item.get("type") == "image"
        if not is_image and not isinstance(item.get("text"), str):
            fail(f"{where}.content[{j}]", f'"text" or "image", got {describe(item)}')
        items += [{"type": "image"}] if is_image else []
        items += _text_items(f"{where}.content[{j}]", item["text"], fail) if isinstance(item.get("text"), str) else []
    return {"role": role, "content": items}


def _n_places(turns: list[dict[str, Any]]) -> int:
    """How many images the turns, as ``_read_turn`` gives them, have a place for."""
    return sum(item["type"] == "image" for turn in turns for item in turn["content"])


def read_conversation(
    raw: dict[str, Any], fail: Callable[[str, str], NoReturn], max_images: int = 1
) -> tuple[list[dict[str, Any]] | None, list[str]]:
    """(turns, images) of a row in any layout met in practice; ``fail(field, expected)`` must raise.

    Turns are under ``conversations`` or ``messages``, with role and content or from and value; a content is a
    string or a list of items. An image is an item of a turn, or one of those (or the one) under ``images`` or
    ``image``: a path, a URL, or an object with path, url or bytes.

    Returns:
        turns: {"role": ..., "content": [{"type": "image"} or {"type": "text", "text": ...}, ...]} each, with exactly
            one place per image before the final answer; None for a row without turns.
        images: at least one and at most ``max_images`` paths or URLs, in the order of their places.
    """
    name, turns = _turns_of(raw)
    images = images_of(raw)
    wanted = "exactly one image" if max_images == 1 else f"1 to {max_images} images (max_images)"
    messages = None
    if turns is not None:
        if not isinstance(turns, list) or not turns:
            fail(name, f"a non-empty list of turns, got {describe(turns)}")
        messages = [_read_turn(turn, f"{name}[{i}]", fail) for i, turn in enumerate(turns)]
        user = next((turn for turn in messages if turn["role"] == "user"), None)
        if user is None:
            fail(name, 'at least one turn with the role "user"')
        if not 1 <= len(images) <= max_images:
            fail(name, f"{wanted}, got {len(images)}")
        asked = list(messages)
        while asked[-1]["role"] == "assistant":
            asked.pop()
        places = _n_places(asked)
        if not _n_places(messages):  # the images are beside the turns
            user["content"][:0] = [{"type": "image"} for _ in images]
        elif places != len(images):
            one_each = (
                "one place for the one image" if len(images) == 1 else f"a place for each of its {len(images)} images"
            )
            fail(name, f"{one_each}, got {places} ({IMAGE} in a text is one)")
    elif len(images) > max_images:
        fail("images", f"{wanted}, got {len(images)}")
    listed, more = _beside(raw)
    if listed and more and images == [*listed, *more]:
        fail("image", f"one of those under images, for it has no place among them, got {describe(more[0])}")
    images = images or [raw.get("image")]
    for number, image in enumerate(images, 1):
        if not isinstance(image, str) or not image:
            which = "" if len(images) == 1 else f" as image {number} of {len(images)}"
            fail("image", f"a path or URL, here or inside {name}, got {describe(image)}{which}")
    return messages, images
