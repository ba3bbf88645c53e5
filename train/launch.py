"""Run a trainer, and say so when it ended because the disk of its checkpoints is full. Called by the templates:

    python train/launch.py OUTPUT_DIR COMMAND ...

Ends with the command's exit status. A trainer that cannot write its checkpoint ends in a page of
traceback that does not always say why. Standard library only.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path


def largest_checkpoint(output_dir: Path) -> int:
    """Bytes of the largest checkpoint there, ms-swift's or verl's; 0 without one."""
    folders = [*output_dir.glob("checkpoint-*"), *output_dir.glob("global_step_*")]
    return max((sum(path.stat().st_size for path in folder.rglob("*")) for folder in folders), default=0)


def main() -> int:
    output_dir, command = Path(sys.argv[1]), sys.argv[2:]
    trainer = subprocess.Popen(command)
    # The terminal sends Ctrl-C to the trainer as well; what is sent to this process alone is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: trainer.terminate())
    status = trainer.wait()
    if status:
        free = shutil.disk_usage(output_dir).free
        if free <= largest_checkpoint(output_dir):
            print(
                f"The training ended with status {status}, and the disk of {output_dir} is full "
                f"({free / 2**20:.1f} MiB are left). "
                "Complete checkpoints are kept: make room and start the same command again.",
                file=sys.stderr,
            )
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
