"""What is measured: variants of the engine's and the run's settings, and the order of their turns.

    parse_variant("max_num_seqs=512+queue_ahead=256")
    parse_variant("questions=3+neighbours=false")

A variant is "default" or settings joined by "+". By its name, a setting is

    queue_ahead, images_ahead     requests and decoded images that wait for the engine
    image_workers                 threads that decode
    seeds, log_probabilities      false: without the samples' seeds, or the tokens' log-probabilities
    questions                     per image
    neighbours                    false: the questions come task by task, not image by image as inference orders them
    engines                       on one card, each with its part of the memory and the records
    a field of EngineSettings     as in the options of inference.inference_vllm
    NAME_IN_CAPITALS              an environment variable of the engine's process
    anything else                 an argument of vLLM's LLM; its value is JSON, or else text

Variants that differ in how they run, not in how the engine starts, share one engine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from inference.engines.base import EngineSettings

OURS, BARE, SINGLE = "ours", "bare", "single"
ENGINE_SETTINGS = {one.name for one in fields(EngineSettings)}


@dataclass(frozen=True)
class Variant:
    """One way to start the engine and to run it; None is the project's own value."""

    name: str = "default"
    settings: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    engines: int = 1
    questions: int = 1
    neighbours: bool = True
    seeds: bool = True
    log_probabilities: bool = True
    queue_ahead: int | None = None
    image_workers: int = 4
    images_ahead: int = 64

    @property
    def engine(self) -> str:
        """The same text for variants that one engine can run."""
        return json.dumps([self.settings, self.arguments, self.environment, self.engines], sort_keys=True)

    @property
    def work(self) -> tuple[int, bool, bool, bool]:
        """The same for variants that give the engine the same work, so that one bare side does for all."""
        return self.questions, self.neighbours, self.seeds, self.log_probabilities


SWITCHES = ("neighbours", "seeds", "log_probabilities")
RUN_SETTINGS = {one.name for one in fields(Variant) if one.name not in ("name", "settings", "arguments", "environment")}


def parse_variant(text: str) -> Variant:
    """
    Raises:
        ValueError: naming the setting, for one without a value or with the wrong type of value.
    """
    variant = Variant(text)
    for part in [] if text == "default" else text.split("+"):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f"variant {text!r}: expected NAME=VALUE, got {part!r}")
        decoded = _decoded(value)
        if name in RUN_SETTINGS:
            expected = bool if name in SWITCHES else int
            if type(decoded) is not expected or (expected is int and decoded < (name != "queue_ahead")):
                wanted = "true or false" if expected is bool else "a whole number"
                raise ValueError(f"variant {text!r}: expected {wanted} for {name}, got {value!r}")
            variant = replace(variant, **{name: decoded})
        elif name in ENGINE_SETTINGS:
            variant.settings[name] = decoded
        elif name.isupper():
            variant.environment[name] = value
        else:
            variant.arguments[name] = decoded
    return variant


def _decoded(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


@dataclass(frozen=True)
class Place:
    """Where an engine works: the photographs' folder, the card's index or UUID, which of how many engines there."""

    folder: Path
    device: str | None
    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class Turn:
    """One measurement: a side of a variant on the images from ``first`` on."""

    variant: Variant
    side: str
    first: int
    n_images: int

    def rows(self, place: Place) -> list[int]:
        """The rows of one engine's part, in order, in a file with all questions about an image in a row."""
        count = self.variant.questions
        images = range(self.first, self.first + self.n_images)[place.index :: place.count]
        asked = [range(image * count, (image + 1) * count) for image in images]
        return [row for rows in (asked if self.variant.neighbours else zip(*asked, strict=True)) for row in rows]


def turns_of(
    variants: list[Variant], samples: int, rounds: int, warm_up: int, single: int, bare: bool = True
) -> list[Turn]:
    """The turns of variants that share an engine, warm-up first; every turn has images that none before it had."""
    turns: list[Turn] = []
    first = 0

    def add(variant: Variant, side: str, n_samples: int) -> None:
        nonlocal first
        n_images = -(-n_samples // variant.questions)
        turns.append(Turn(variant, side, first, n_images))
        first += n_images

    add(variants[0], OURS, warm_up)
    for _ in range(rounds):
        compared = set()
        for variant in variants:
            add(variant, OURS, samples)
            if bare and variant.work not in compared:
                compared.add(variant.work)
                add(variant, BARE, samples)
    if single:
        add(variants[0], SINGLE, single)
    return turns


def n_images_of(turns: list[Turn]) -> int:
    return turns[-1].first + turns[-1].n_images
