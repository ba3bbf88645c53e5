"""Which GPUs a start may use, and which of them is a worker's: the one reading of CUDA_VISIBLE_DEVICES.

    python -m inference.engines.devices               # prints them, one per line; nothing where there is none
    python -m inference.engines.devices --worker 3    # prints worker 3's; 2 if there are fewer

Not set, the variable leaves all GPUs that nvidia-smi lists. Set, it is read as CUDA reads it: names separated
by commas, up to the first one that can be no device; so an empty value and -1 are no GPU at all. Standard
library only, and no question to CUDA itself: a process that has asked can no longer fork an engine.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from itertools import takewhile

from inference.common.terminal import plain_output

VARIABLE = "CUDA_VISIBLE_DEVICES"
DEVICE = re.compile(r"\d+|(GPU|MIG)-\S+")
LISTED = re.compile(r"^GPU (\d+): .*?(?:\(UUID: (GPU-\S+)\))?$", re.MULTILINE)  # a line of nvidia-smi -L


def listed_devices() -> dict[str, str]:
    """Index → UUID (empty where the driver gives none) of the GPUs that nvidia-smi lists."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {index: uuid for index, uuid in LISTED.findall(done.stdout)}


def visible_devices() -> list[str]:
    """Indices or UUIDs of the GPUs that this process may use; empty without a GPU."""
    named = os.environ.get(VARIABLE)
    if named is None:
        return list(listed_devices())
    return list(takewhile(DEVICE.fullmatch, (name.strip() for name in named.split(","))))


def device_of(worker: int) -> str | None:
    """The GPU of a worker, from 0 on; None on a machine without one, where workers share the processors.

    Raises:
        ValueError: when there are GPUs, but fewer.
    """
    devices = visible_devices()
    if not devices:
        return None
    if worker >= len(devices):
        source = f"{VARIABLE}={os.environ[VARIABLE]} names" if VARIABLE in os.environ else "nvidia-smi lists"
        raise ValueError(
            f"{source} {len(devices)} GPU(s), worker {worker} has none: "
            f"set n_gpu to at most {len(devices)}, or give infer.sh a device"
        )
    return devices[worker]


def use_indices() -> None:
    """Put indices in place of UUIDs in this process's CUDA_VISIBLE_DEVICES: vLLM 0.10 and 0.11 read nothing else."""
    devices = visible_devices() if "GPU-" in os.environ.get(VARIABLE, "") else []
    index_of = {uuid: index for index, uuid in listed_devices().items() if uuid} if devices else {}
    if index_of and all(device.isdigit() or device in index_of for device in devices):
        os.environ[VARIABLE] = ",".join(index_of.get(device, device) for device in devices)
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of nvidia-smi


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=int, help="print only this worker's")
    args = parser.parse_args()
    if args.worker is None:
        print("".join(f"{device}\n" for device in visible_devices()), end="")
        return
    try:
        print(device_of(args.worker) or "")
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
