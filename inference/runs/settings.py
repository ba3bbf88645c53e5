"""The options of every command that infers, as engines take them and as ``run.json`` describes them.

parser = argparse.ArgumentParser()
add_engine_arguments(parser)
args = parser.parse_args()
check_engine_arguments(parser, args)
settings = engine_settings(args)
"""

from __future__ import annotations

import argparse
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from inference.common.redaction import redact
from inference.data.images import PixelBudget, add_image_root_argument
from inference.engines.base import EngineSettings, checkpoint_notice
from inference.engines.checkpoints import check_checkpoint
from inference.runs.folder import Description, known_checkpoint_files
from inference.runs.identity import checkpoint_identity, data_identity


def finite_number(text: str) -> float:
    """The type of options that are numbers: ``float`` also takes nan, which no comparison with a bound refuses.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text!r}")
    return number


def at_least_one(text: str) -> int:
    """The type of options that are counts.

    Raises:
        argparse.ArgumentTypeError: for anything but a whole number of at least 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the engine, sampling, and how images are taken: what every command that infers shares."""
    add = parser.add_argument
    add("--checkpoint", default="", help="model folder or hub name (vllm, transformers)")
    add("--model_name", default="", help="name in the results, and the model an endpoint is asked for")
    add("--engine", choices=("vllm", "transformers", "openai", "ray"), default="vllm")
    add("--temperature", type=finite_number, default=0.7, help="0 is greedy decoding")
    add("--max_new_tokens", type=int, default=2048)
    add("--seed", type=int, default=0)
    add("--n_responses", type=int, default=1, help="responses to each record; the further ones go to other_responses")
    add("--no_logprobs", dest="logprobs", action="store_false", help="leave out the tokens' log-probabilities")
    add("--min_pixels", type=int, default=PixelBudget.min_pixels, help="default: 256 image tokens")
    add("--max_pixels", type=int, default=PixelBudget.max_pixels, help="default: 576 image tokens")
    add("--max_model_len", type=int, default=4096, help="prompt and response together, in tokens")
    add("--max_num_seqs", type=int, default=0, help="requests in one batch, or under way at an endpoint")
    add("--gpu_memory_utilization", type=finite_number, default=0.9)
    add("--dtype", default="auto", help="auto: the checkpoint's own on a GPU, float32 on CPU")
    add("--allow_url", action="store_true", help="fetch images that are http(s) URLs")
    add("--allow_private_url", action="store_true", help="also from this machine and private networks")
    add("--trust_remote_code", action="store_true", help="run Python code that comes with the checkpoint")
    add("--allow_pickle", action="store_true", help="load weights that are pickled (*.bin, *.pt), too")
    add("--base_url", default="", help="the endpoint of the openai engine")
    add("--max_retries", type=int, default=6, help="of a request to an endpoint")
    add("--timeout", type=finite_number, default=600.0, help="seconds, of a try at an endpoint, to its last byte")
    add("--ray_address", default="", help="of the ray engine: auto, host:port; empty: a cluster on this machine alone")
    add("--n_actors", type=int, default=0, help="engines on the Ray cluster; 0: one per GPU, or one per node on CPU")
    add("--actor_engine", choices=("vllm", "transformers"), default="vllm", help="which engine they are")
    add("--actor_timeout", type=finite_number, default=600.0, help="seconds that a run waits without any of them")


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything but the data: ``add_model_arguments``, and the run's folder and share."""
    add = parser.add_argument
    add("--output_path", required=True, help="the run's folder; shards are written into it")
    add("--index", type=int, default=0, help="which share this worker takes, from 0")
    add("--n_shards", type=int, default=1, help="how many workers share the file")
    add("--limit", type=at_least_one, help="only the first so many records of the file")
    add_image_root_argument(parser)
    add("--image_workers", type=int, default=4, help="threads that decode images")
    add_model_arguments(parser)


def check_model_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a one-line message when these settings cannot work; fill in the model's name."""
    if args.engine == "openai" and not (args.base_url and args.model_name):
        parser.error("--engine openai needs --base_url and --model_name")
    if args.engine != "openai" and not args.checkpoint:
        parser.error(f"--engine {args.engine} needs --checkpoint")
    if args.n_actors < 0:
        parser.error(f"expected --n_actors >= 0, got {args.n_actors}")
    if args.temperature < 0:
        parser.error(f"expected --temperature >= 0, got {args.temperature}")
    args.model_name = args.model_name or Path(args.checkpoint).name


def check_engine_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """``check_model_arguments``, and the share."""
    if not 0 <= args.index < args.n_shards:
        parser.error(f"expected 0 <= --index < --n_shards, got {args.index} and {args.n_shards}")
    check_model_arguments(parser, args)


def check_model(args: argparse.Namespace) -> None:
    """Look at the checkpoint, where the engine has one, before anything is loaded.

    Raises:
        CheckpointRefused: in one line, naming the file and what to do.
    """
    if args.engine != "openai":
        check_checkpoint(args.checkpoint, args.allow_pickle, args.trust_remote_code)


def engine_settings(args: argparse.Namespace) -> EngineSettings:
    """The parsed arguments as the engines take them.

    Raises:
        ValueError: for settings that cannot work.
    """
    named = {field.name: getattr(args, field.name) for field in fields(EngineSettings) if field.name != "budget"}
    return EngineSettings(budget=PixelBudget(args.min_pixels, args.max_pixels), **named)


# What decides about responses: with another value, old and new ones do not belong into one table.
DECISIVE = (
    "model_name", "temperature", "max_new_tokens", "seed", "min_pixels", "max_pixels", "max_model_len", "dtype",
    "n_responses", "logprobs",
)  # fmt: skip


def decisive_settings(args: argparse.Namespace) -> dict[str, Any]:
    """name → value of every setting that decides about responses."""
    # The same engine behind Ray gives the same responses.
    engine = args.actor_engine if args.engine == "ray" else args.engine
    return {"engine": engine, **{name: getattr(args, name) for name in DECISIVE}}


def describe_run(args: argparse.Namespace) -> Description:
    """What this start works from. The number of workers, a limit and an endpoint's address may change under way.

    Raises:
        OSError: when the data file or the checkpoint cannot be read.
    """
    identity, files = checkpoint_identity(args.checkpoint, known_checkpoint_files(args.output_path))
    return Description(
        identity={
            "data": data_identity(args.data_path),
            "checkpoint": identity,
            "settings": decisive_settings(args),
        },
        files={
            "data_path": str(Path(args.data_path).absolute()),
            "checkpoint": str(Path(args.checkpoint).resolve()) if files else args.checkpoint,
            "checkpoint_files": files,
            "base_url": redact(args.base_url),
            "notice": checkpoint_notice(args.checkpoint),
        },
    )
