"""Infer one share of a VECBench file: records in, one result line per sample out.

    python -m inference.inference_vllm --data_path input_data/test_8k.jsonl \\
        --checkpoint output/EmoCaliber --output_path infer_results/my_run --index 0 --n_shards 8

Same command, same machine, same file: every sample has its own seed. The run's folder says in ``run.json`` what its
results were made from; a start with other data, checkpoint or settings is refused. How a worker shares the data,
resumes and fails: ``inference.runs.worker``.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from inference.common.storage import explain
from inference.common.terminal import start_logging
from inference.engines.adapters import base_doubt
from inference.engines.base import EngineFailed, EngineSettings
from inference.engines.checkpoint_config import without_torch
from inference.engines.checkpoints import CheckpointRefused
from inference.engines.load import check_model
from inference.runs.folder import OVERWRITE, REFUSE, RESUME_ANYWAY, prepare
from inference.runs.settings import add_settings, add_share_arguments, check_share, describe_run, parsed_settings
from inference.runs.shards import ShardBusy
from inference.runs.worker import HopelessData, check_labels_of, end_with, images_of_run, infer, replaced_images

log = logging.getLogger("inference")


def parse_args(arguments: list[str] | None = None) -> tuple[argparse.Namespace, EngineSettings]:
    """(the share's options, the settings)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data_path", required=True, help="VECBench records, one JSON object per line")
    add_share_arguments(parser)
    add_settings(parser)
    changed = parser.add_mutually_exclusive_group()
    for name, flags, text in (
        (OVERWRITE, ("--overwrite",), "start anew: what was inferred into --output_path is deleted"),
        (RESUME_ANYWAY, ("--resume_anyway", "--resume-anyway"), "go on although data, checkpoint or settings differ"),
    ):
        changed.add_argument(*flags, dest="on_change", action="store_const", const=name, default=REFUSE, help=text)
    add("--prepare_only", action="store_true", help="check and describe the run's folder before its workers start")
    add("--parent_pid", type=int, help="end when this process, which must be the parent, ends")
    args = parser.parse_args(arguments)
    check_share(parser, args.index, args.n_shards)
    settings = parsed_settings(parser, args)
    if args.on_change == OVERWRITE and args.n_shards > 1 and not args.prepare_only:
        parser.error("--overwrite is for one worker; before several, once: the same command with --prepare_only")
    if not Path(args.data_path).is_file():
        parser.error(f"--data_path: no such file: {args.data_path}")
    with open(args.data_path, "rb") as lines:
        if not any(map(bytes.strip, lines)):
            parser.error(f"--data_path: no record in {args.data_path}")
    return args, settings


def main() -> None:
    start_logging()
    args, settings = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # orderly: the engine's processes end, too
    if args.parent_pid:
        end_with(args.parent_pid)
    try:
        if args.prepare_only or not args.parent_pid:  # once per job
            check_labels_of(args.data_path, args.limit, settings.max_images)
        if args.prepare_only:
            without_torch()
            check_model(settings)
            if settings.adapter and (doubt := base_doubt(settings.adapter, settings.checkpoint)):
                log.warning("%s", doubt)
            prepare(args.output_path, describe_run(settings, args.data_path, args.output_path), args.on_change)
            # What is said about them, the workers say in their logs only.
            replaced_images(settings, args.data_path, images_of_run(settings, args.data_path, args.image_root))
        else:
            share = (args.index, args.n_shards, args.limit)
            images = (args.image_root, args.image_workers)
            infer(settings, args.data_path, args.output_path, *share, *images, args.on_change)
    except CheckpointRefused as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except EngineFailed as error:
        log.info("the engine's own traceback", exc_info=error)
        sys.exit(f"inference failed: {explain(error)} What was finished is kept: start the same command again.")
    except HopelessData as error:
        print(f"inference failed: {error}", file=sys.stderr)
        sys.exit(2)
    except (ValueError, OSError, ShardBusy) as error:
        sys.exit(f"inference failed: {type(error).__name__}: {explain(error)}")


if __name__ == "__main__":
    main()
