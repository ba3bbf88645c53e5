"""The settings of every command that infers: their options, and what ``run.json`` keeps of them.

parser = argparse.ArgumentParser()
add_settings(parser)
settings = parsed_settings(parser, parser.parse_args())
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from inference.common.options import at_least_one, finite_number
from inference.common.redaction import redact
from inference.data.images import add_image_root_argument
from inference.engines.base import EngineSettings, checkpoint_notice
from inference.runs.folder import Description, known_checkpoint_files
from inference.runs.identity import checkpoint_identity, data_identity


def add_settings(parser: argparse.ArgumentParser, without: Sequence[str] = ()) -> None:
    """An option for each field of ``EngineSettings``: ``--name VALUE``, ``--name`` or, if it is on, ``--no_name``.

    ``without`` names those that a command has no use for.
    """
    for field in fields(EngineSettings):
        if field.name in without:
            continue
        kind, text = type(field.default), field.metadata["help"]
        if kind is bool:
            name = f"--no_{field.name}" if field.default else f"--{field.name}"
            parser.add_argument(name, dest=field.name, action=f"store_{str(not field.default).lower()}", help=text)
        else:
            options = {"type": finite_number if kind is float else kind, "choices": field.metadata["choices"]}
            parser.add_argument(f"--{field.name}", default=field.default, help=text, **options)


def parsed_settings(parser: argparse.ArgumentParser, args: argparse.Namespace) -> EngineSettings:
    """The options of ``add_settings``; settings that cannot work end the command in one line. None is not given."""
    given = {field.name: getattr(args, field.name, None) for field in fields(EngineSettings)}
    try:
        return EngineSettings(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        parser.error(str(error))


def add_share_arguments(parser: argparse.ArgumentParser) -> None:
    """Which share of the data a worker takes, into which folder, and where its images lie."""
    add = parser.add_argument
    add("--output_path", required=True, help="the run's folder; shards are written into it")
    add("--index", type=int, default=0, help="which share this worker takes, from 0")
    add("--n_shards", type=int, default=1, help="how many workers share the file")
    add("--limit", type=at_least_one, help="only the first so many records of the file")
    add_image_root_argument(parser)
    add("--image_workers", type=int, default=4, help="threads that decode images")


def check_share(parser: argparse.ArgumentParser, index: int, n_shards: int) -> None:
    """End the command in one line when there is no such share."""
    if not 0 <= index < n_shards:
        parser.error(f"expected 0 <= --index < --n_shards, got {index} and {n_shards}")


# Settings that older runs do not have; not named where they have their default, so that those can go on.
LATER = ("replace_images", "candidate_probabilities", "candidate_place", "thinking", "max_images")


def decisive_settings(settings: EngineSettings) -> dict[str, Any]:
    """name → value of what decides about responses: with another value, old and new ones make no common table."""
    # The same engine behind Ray gives the same responses.
    engine = settings.actor_engine if settings.engine == "ray" else settings.engine
    decisive = [field for field in fields(settings) if field.metadata["decisive"]]
    values = {
        field.name: getattr(settings, field.name)
        for field in decisive
        if field.name not in LATER or getattr(settings, field.name) != field.default
    }
    return {"engine": engine, **values}


def model_identity(
    settings: EngineSettings, output_path: str | Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(what identifies checkpoint and adapter, the checkpoint's files as ``hash_checkpoint`` gives them).

    Raises:
        OSError: when they cannot be read.
    """
    identity, files = checkpoint_identity(settings.checkpoint, known_checkpoint_files(output_path))
    adapter = {"adapter": checkpoint_identity(settings.adapter)[0]} if settings.adapter else {}
    return {"checkpoint": identity, **adapter}, files


def describe_run(settings: EngineSettings, data_path: str, output_path: str) -> Description:
    """What this start works from. The number of workers, a limit and an endpoint's address may change under way.

    Raises:
        OSError: when the data file or the checkpoint cannot be read.
    """
    checkpoint = settings.checkpoint
    models, files = model_identity(settings, output_path)
    return Description(
        identity={"data": data_identity(data_path), **models, "settings": decisive_settings(settings)},
        files={
            "data_path": str(Path(data_path).absolute()),
            "checkpoint": str(Path(checkpoint).resolve()) if files else checkpoint,
            "checkpoint_files": files,
            **({"adapter": str(Path(settings.adapter).resolve())} if settings.adapter else {}),
            "base_url": redact(settings.base_url),
            "notice": checkpoint_notice(checkpoint),
        },
    )
