"""Would workers finish earlier if they took samples from one queue? A simulation, no GPU involved.

    python -m scripts.maintenance.benchmark.balance
    python -m scripts.maintenance.benchmark.balance --results infer_results/my_run/merged.jsonl

Sample i belongs to worker i mod n. The alternative is one queue from which whoever has room takes
the next sample. Both are simulated step by step: a step makes one token of each of a worker's active
samples (``SLOTS`` at most) and costs 1 + active / SLOTS; a sample costs ``PREFILL`` when it is taken.
These are rough ratios for 7 B parameters on a GPU, an assumption. Response lengths are drawn from a
run's ``output_tokens``, or log-normal with a given spread. Printed: how much earlier the last worker of
the one queue ends, median of the draws, and the idle share of the workers' time with fixed shares.

Seen with 8 equal workers and 8,032 samples: 0.2 % at most, with lengths of 300 tokens ± 10 to 60 % and with
the toy model's measured ones (68 ± 5 %). With one GPU 5 % slower than the others: 1.2 to 3.7 %. So the
shares stay fixed: one queue needs a server, or locks on a file system that all machines share, for nothing
on equal GPUs.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
from collections import deque
from pathlib import Path

import numpy as np

from inference.common.json_lines import read_lines
from inference.common.terminal import plain_output
from scripts.maintenance.benchmark.measure import record

COMMAND = "python -m scripts.maintenance.benchmark.balance"
WORKERS, SAMPLES = 8, 8032
SLOTS = 256
PREFILL = 4.0
LIMIT = 2048  # max_new_tokens


def ends(queues: list[deque[int]], slowness: list[float]) -> list[float]:
    """When each worker ends, in units of one step's fixed cost; queues may be one and the same."""
    active: list[list[int]] = [[] for _ in queues]
    steps = [0] * len(queues)
    ended = [0.0] * len(queues)
    clock = [(0.0, worker) for worker in range(len(queues))]
    while clock:
        now, worker = heapq.heappop(clock)
        queue, under_way = queues[worker], active[worker]
        cost = 0.0
        while queue and len(under_way) < SLOTS:
            heapq.heappush(under_way, steps[worker] + queue.popleft())
            cost += PREFILL
        if not under_way:
            ended[worker] = now
            continue
        cost += 1 + len(under_way) / SLOTS
        steps[worker] += 1
        while under_way and under_way[0] <= steps[worker]:
            heapq.heappop(under_way)
        heapq.heappush(clock, (now + cost * slowness[worker], worker))
    return ended


def compare(lengths: np.ndarray, slowness: list[float]) -> tuple[float, float]:
    """(share of the time that one queue saves, idle share of the workers' time with fixed shares)."""
    fixed = ends([deque(lengths[worker::WORKERS].tolist()) for worker in range(WORKERS)], slowness)
    shared = deque(lengths.tolist())
    together = ends([shared] * WORKERS, slowness)
    return 1 - max(together) / max(fixed), 1 - statistics.mean(fixed) / max(fixed)


def log_normal(mean: float, spread: float, draw: np.random.Generator) -> np.ndarray:
    """``SAMPLES`` lengths in tokens, the standard deviation so many times the mean before the limit cuts them."""
    sigma = np.sqrt(np.log1p(spread**2))
    drawn = draw.lognormal(np.log(mean) - sigma**2 / 2, sigma, SAMPLES)
    return np.clip(drawn, 1, LIMIT).astype(int)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="results whose output_tokens are drawn from")
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    lengths = {f"300 tokens ± {spread:.0%}": (300, spread) for spread in (0.1, 0.3, 0.6)}
    measured = np.array([])
    if args.results is not None:
        rows = (row for _, row, _ in read_lines(args.results))
        measured = np.array([row["output_tokens"] for row in rows if row.get("output_tokens")])
        lengths = {f"{measured.mean():.0f} tokens ± {measured.std() / measured.mean():.0%}, measured": None}
    for what, shape in lengths.items():
        for speeds, slowness in (("equal GPUs", [1.0] * WORKERS), ("one GPU 5 % slower", [1.05] + [1.0] * 7)):
            found = []
            for seed in range(args.draws):
                draw = np.random.default_rng(seed)
                drawn = log_normal(*shape, draw) if shape else draw.choice(measured, SAMPLES)
                found.append(compare(drawn, slowness))
            saved, idle = (statistics.median(column) for column in zip(*found, strict=True))
            result = f"one queue would save {saved:.1%} of the time (fixed shares idle {idle:.1%})"
            record("balance (simulated)", f"{WORKERS} workers, {SAMPLES:,} samples, {what}, {speeds}", result, COMMAND)


if __name__ == "__main__":
    main()
