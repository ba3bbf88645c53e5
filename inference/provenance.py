"""Whether a run's table, results, data, checkpoint and adapter still belong together.

    python -m inference.provenance infer_results/my_run

compares the run's ``metrics.json`` with its ``run.json`` and its results, and these with the data
file, the checkpoint and its adapter as they are now. Exit status 1 when something has changed since.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from inference.common.terminal import plain_output
from inference.runs.identity import RUN_FILE, checkpoint_identity, data_identity, file_sha256, trace


def differences(folder: Path) -> list[str]:
    """What does not belong together (any more) in a run's folder; empty when everything does.

    Raises:
        ValueError, OSError: when ``run.json`` or ``metrics.json`` is missing or unreadable.
    """
    evaluated = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("run")
    now_there = trace(folder)
    if now_there is None:
        raise FileNotFoundError(f"{folder / RUN_FILE}: no such file")
    differing = []
    if evaluated is None:
        differing.append("metrics.json names no run: evaluated from another folder?")
    else:
        if evaluated["run_json_sha256"] != now_there["run_json_sha256"]:
            differing.append("metrics.json was made from another state of run.json: evaluate again")
        if evaluated["results_sha256"] != file_sha256(folder / "merged.jsonl"):
            differing.append("merged.jsonl is not the file that metrics.json was made from")
    run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    data = run["files"]["data_path"]
    if not Path(data).is_file():
        differing.append(f"data file {data}: no such file")
    elif data_identity(data) != run["identity"]["data"]:
        differing.append(f"data file {data} has changed since")
    for part in ("checkpoint", "adapter"):
        if part not in run["identity"]:  # a run without an adapter
            continue
        place = run["files"][part]
        if Path(place).is_absolute() and not Path(place).is_dir():
            differing.append(f"{part} {place}: no such folder")
        elif checkpoint_identity(place)[0] != run["identity"][part]:
            differing.append(f"{part} {place} has changed since")
    return differing


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a run's folder")
    args = parser.parse_args()
    try:
        run, found = trace(args.folder), differences(args.folder)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"cannot trace {args.folder}: {error}")
    print(run["summary"])
    for difference in found:
        print(f"DIFFERENT: {difference}")
    if found:
        sys.exit(1)
    print("metrics.json, merged.jsonl, run.json, data file, checkpoint and any adapter belong together")


if __name__ == "__main__":
    main()
