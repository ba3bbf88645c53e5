"""A model that answers about single images: what ``inference.predict`` and ``inference.demo`` share.

settings = EngineSettings("output/EmoCaliber", engine="transformers", temperature=0)
Predictor(settings).predict(["photo.jpg"], ["calm", "tense"])[0].confidence
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from inference.common.paths import TOY_CHECKPOINT
from inference.common.redaction import redact
from inference.common.terminal import printable
from inference.data.fields import RESERVED
from inference.data.images import ImageError, ImageSource
from inference.data.prompts import recognition_messages
from inference.data.response import UNKNOWN, normal_label, read_response, reasoning_steps
from inference.engines.base import (
    EngineFailed,
    EngineSettings,
    Output,
    Request,
    checkpoint_notice,
    toy_limits,
)
from inference.engines.checkpoints import CheckpointRefused
from inference.engines.load import check_model, load_engine
from inference.runs.settings import add_settings, parsed_settings

DEFAULT_TASK = "EmoSet-8"  # whose labels are asked for unless others are given
MAX_LABELS, MAX_LABEL_LENGTH = 100, 60


@dataclass
class Prediction:
    """What the model says about one image; with ``error`` nothing but the image's name is known.

    Attributes:
        answer: one of the candidates, or ``unknown`` when the response names none or several.
        confidence: as stated, in [0, 1]; None when missing, unreadable or out of range.
        recalibrated_confidence: what the fitted map makes of it, if one was given.
        agreement: share of all sampled responses that say ``answer``; None with one response only.
        answers: answer → number of responses, most frequent first; None with one response only.
        reasoning: step → text, in the order of the five steps; missing steps are left out.
    """

    image: str
    candidates: list[str]
    answer: str | None = None
    confidence: float | None = None
    recalibrated_confidence: float | None = None
    agreement: float | None = None
    answers: dict[str, int] | None = None
    mean_log_probability: float | None = None
    answer_log_probability: float | None = None
    candidate_probabilities: dict[str, float] | None = None
    candidate_place: str | None = None
    reasoning: dict[str, str] = field(default_factory=dict)
    response: str | None = None
    other_responses: list[str] | None = None
    model: str | None = None
    model_notice: str | None = None
    error: str | None = None


class Predictor:
    """A loaded engine that answers about single images.

    Args:
        recalibration: what ``load_recalibration`` returns.

    Raises:
        ValueError, OSError, EngineFailed: when the engine or the checkpoint cannot be loaded.
    """

    def __init__(self, settings: EngineSettings, recalibration: Any = None):
        self.settings = settings
        self.recalibration = recalibration
        # Not confined: whoever names a file here may read it. The demo hands on uploads only.
        permissions = {"allow_url": settings.allow_url, "allow_private_url": settings.allow_private_url}
        self.source = ImageSource([Path.cwd()], settings.budget, **permissions, confined=False)
        self.notice = checkpoint_notice(settings.checkpoint)
        with stdout_to_stderr():
            self.engine = load_engine(settings)

    def predict(
        self, images: Sequence[str | Path], candidates: Sequence[str], group: str | None = None
    ) -> list[Prediction]:
        """One prediction per image, in the images' order; one that fails has ``error`` set.

        ``group`` chooses the recalibration's map; without one of that name, it is that of all samples.

        Raises:
            ValueError: for labels that ``check_candidates`` refuses.
        """
        candidates = check_candidates(candidates)
        errors: dict[int, str] = {}
        requests: dict[str, Request] = {}
        asked: dict[int, str] = {}
        for place, image in enumerate(images):
            try:
                request = _request(self.source.load(str(image)), candidates)
            except ImageError as error:
                errors[place] = str(error)
                continue
            asked[place] = request.sample_id
            requests.setdefault(request.sample_id, request)
        outputs = {output.sample_id: output for output in self.engine.run(requests.values())}
        predictions = []
        for place, image in enumerate(images):
            output = outputs[asked[place]] if place in asked else Output("", error=errors[place])
            predictions.append(self._prediction(str(image), candidates, output, group))
        return predictions

    def _prediction(self, image: str, candidates: list[str], output: Output, group: str | None) -> Prediction:
        model = {"model": self.settings.model_name, "model_notice": self.notice}
        if output.error is not None:
            error = output.error if image in output.error else f"image {image}: {output.error}"
            return Prediction(image, candidates, error=redact(error), **model)
        reading = read_response(output.response, candidates)
        recalibrated = None
        if self.recalibration is not None and reading.confidence is not None:
            known = group if group in self.recalibration.maps else None
            recalibrated = float(self.recalibration.apply([reading.confidence], known)[0])
        answers = None
        if output.other_responses:
            labels = [reading.label, *(read_response(text, candidates).label for text in output.other_responses)]
            answers = dict(Counter(labels).most_common())
        return Prediction(
            image,
            candidates,
            answer=reading.label,
            confidence=reading.confidence,
            recalibrated_confidence=recalibrated,
            agreement=answers[reading.label] / sum(answers.values()) if answers else None,
            answers=answers,
            mean_log_probability=output.mean_log_probability,
            answer_log_probability=output.answer_log_probability,
            candidate_probabilities=output.candidate_probabilities,
            candidate_place=output.candidate_place,
            reasoning=reasoning_steps(output.response),
            response=output.response,
            other_responses=output.other_responses,
            **model,
        )


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """For the time an engine loads: vLLM's log and its libraries' remarks go to stdout, which is for predictions."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):  # the log keeps the stream that it finds
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _request(image: Image.Image, candidates: list[str]) -> Request:
    # The id, hence the seed, comes from pixels and labels: a sampled answer is the same wherever the file lies.
    known = f"{image.size}{candidates}".encode("utf-8", "surrogatepass") + image.tobytes()
    return Request(hashlib.sha256(known).hexdigest(), recognition_messages(candidates), [image], candidates)


def check_candidates(labels: Sequence[str]) -> list[str]:
    """The labels, trimmed.

    Raises:
        ValueError: when they are no choice (fewer than two, or one twice) or no labels.
    """
    labels = [" ".join(label.split()) for label in labels]
    if not 2 <= len(labels) <= MAX_LABELS:
        raise ValueError(f"expected 2 to {MAX_LABELS} labels, got {len(labels)}")
    for label in labels:
        if any("\ud800" <= char <= "\udfff" for char in label):
            raise ValueError(f"expected labels in the locale's encoding, got {label!a}")
        if not label or len(label) > MAX_LABEL_LENGTH:
            raise ValueError(f"expected labels of 1 to {MAX_LABEL_LENGTH} characters, got {label!r}")
        if normal_label(label) == UNKNOWN:
            raise ValueError(f"expected {RESERVED}")
    if len({label.lower() for label in labels}) < len(labels):
        raise ValueError(f"expected each label once, got {', '.join(labels)}")
    return labels


def split_labels(text: str) -> list[str]:
    """Labels of a comma-separated list.

    Raises:
        ValueError: as ``check_candidates``.
    """
    return check_candidates([label for label in text.split(",") if label.strip()])


def add_predictor_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``add_settings`` with the defaults of a single image, and the recalibration."""
    add_settings(parser, without=["replace_images", "max_images"])
    parser.add_argument("--recalibration", metavar="FILE", help="show the confidence through this fitted map, too")
    # None: not given; then the checkpoint decides, in load_predictor.
    parser.set_defaults(
        checkpoint=None, engine="transformers", temperature=0.0, max_new_tokens=None, min_pixels=None, max_pixels=None
    )


def load_predictor(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Predictor:
    """The predictor that the parsed options describe. Options that cannot work end the program in one line."""
    if args.checkpoint is None:
        args.checkpoint = "" if args.engine == "openai" else str(TOY_CHECKPOINT)
    settings = parsed_settings(parser, args)
    if Path(args.checkpoint).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a local folder needs no hub
    try:
        check_model(settings)
    except CheckpointRefused as error:
        parser.exit(2, f"{error}\n")
    try:
        limits = toy_limits(args.checkpoint)
        settings = replace(settings, **{name: limits[name] for name in limits if getattr(args, name) is None})
        recalibration = None
        if args.recalibration is not None:
            from inference.recalibration import load_recalibration

            recalibration = load_recalibration(args.recalibration)
            if others := recalibration.other_models(settings.model_name):
                fitted = f"fitted to answers of {printable(', '.join(others))}, not of {printable(settings.model_name)}"
                print(f"CHECK: {printable(args.recalibration)}: {fitted}", file=sys.stderr)
        return Predictor(settings, recalibration)
    except (ValueError, OSError, EngineFailed) as error:
        parser.error(str(error))
