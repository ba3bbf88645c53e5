"""One progress view over all workers of a run, from their shards on disk.

    python -m inference.runs.progress --data_path data.jsonl --output_path infer_results/my_run --pids 101 102

Counts the samples that have a line in any shard until every named process has ended. On a
terminal it is a bar; in a log, a line now and then. It only watches: exit status 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from inference.common.terminal import plain_output
from inference.runs.shards import shard_paths


def count_lines(path: Path) -> int:
    with open(path, "rb") as handle:
        return sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))


def finished_lines(output_path: Path, counted: dict[Path, tuple[int, int]]) -> int:
    """Lines in all shards; ``counted`` (path → size, lines) spares reading what did not grow."""
    for path in shard_paths(output_path):
        size = path.stat().st_size
        if counted.get(path, (-1, 0))[0] != size:
            counted[path] = (size, count_lines(path))
    return sum(lines for _, lines in counted.values())


def is_running(pid: int) -> bool:
    """Whether the process is there and has not ended (a zombie has)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
        return state not in "ZX"
    except OSError:
        return False


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--output_path", type=Path, required=True)
    parser.add_argument("--pids", type=int, nargs="+", required=True)
    parser.add_argument("--limit", type=int, help="as given to the workers")
    args = parser.parse_args()
    total = count_lines(args.data_path)
    total = min(total, args.limit) if args.limit else total
    on_terminal = sys.stderr.isatty()
    counted: dict[Path, tuple[int, int]] = {}
    done = finished_lines(args.output_path, counted)
    with tqdm(
        total=total, initial=done, desc="all workers", unit="sample", mininterval=0.5 if on_terminal else 15.0
    ) as bar:
        while any(is_running(pid) for pid in args.pids):
            time.sleep(0.5)
            now = finished_lines(args.output_path, counted)
            bar.update(now - bar.n)
        bar.update(finished_lines(args.output_path, counted) - bar.n)


if __name__ == "__main__":
    main()
