"""Show a training run as one progress bar, and keep all it writes in a log.

    bash train/step1_example.sh 2>&1 | python -m scripts.toy_world.follow --log stage1.log --title stage1

Understands what ms-swift and verl print at their steps: the step, the number of steps, the loss or
the mean reward. Should the input end without a last step, the end of the log is shown.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tqdm import tqdm

from inference.common.terminal import plain_output

# {'loss': 0.8, …, 'global_step/max_steps': '10/600', …}; from transformers 5 on, every number is in quotes
SWIFT_STEP = re.compile(r"'global_step/max_steps': '(?P<step>\d+)/(?P<total>\d+)'")
SWIFT_VALUE = re.compile(r"'loss': '?(?P<value>[-\d.]+)")
# (TaskRunner pid=1) step:5 - actor/entropy:… - critic/score/mean:0.1 …
VERL_TOTAL = re.compile(r"Total training steps: (?P<total>\d+)")
VERL_STEP = re.compile(r"\bstep:(?P<step>\d+) - ")
VERL_VALUE = re.compile(r"critic/score/mean:(?P<value>[-\d.]+)")
FINISHED = re.compile(r"^Stage \d is finished: ")  # before: train/launch.py starts nothing
TAIL = 30  # lines shown after a failure


class Follower:
    """Reads one line after the other and keeps the bar where the run is."""

    def __init__(self, title: str):
        self.bar = tqdm(desc=title, unit="step", mininterval=1.0, maxinterval=30.0)
        self.finished_before = False

    def read(self, line: str) -> None:
        if FINISHED.match(line):
            self.finished_before = True
        elif total := VERL_TOTAL.search(line):
            self.bar.total = int(total["total"])
        elif found := SWIFT_STEP.search(line):
            self.bar.total = int(found["total"])
            self._move(int(found["step"]), "loss", SWIFT_VALUE.search(line))
        elif found := VERL_STEP.search(line):
            self._move(int(found["step"]), "reward", VERL_VALUE.search(line))

    def _move(self, step: int, name: str, value: re.Match | None) -> None:
        if value:
            self.bar.set_postfix_str(f"{name} {float(value['value']):.3f}", refresh=False)
        if self.bar.n == 0 and step > 1 and self.bar.initial == 0:
            # A resumed run: its earlier steps took no time now and must not enter the estimate.
            self.bar.initial = self.bar.n = step - 1
        self.bar.update(step - self.bar.n)

    @property
    def finished(self) -> bool:
        return self.finished_before or (self.bar.total is not None and self.bar.n >= self.bar.total)


def main() -> int:
    plain_output(errors_only=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, help="everything read is appended here")
    parser.add_argument("--title", default="training")
    args = parser.parse_args()
    follower = Follower(args.title)
    tail: list[str] = []
    with open(args.log, "a", encoding="utf-8") as log:
        for line in sys.stdin:
            log.write(line)
            log.flush()
            follower.read(line)
            tail = [*tail[1 - TAIL :], line]
    follower.bar.close()
    if not follower.finished:
        print(f"{args.title} ended before its last step; the end of {args.log}:", file=sys.stderr)
        sys.stderr.writelines(tail)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
