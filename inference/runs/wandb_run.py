"""Weights & Biases: whether a run can be logged there, asked before any work, and the logging itself.

The key is WANDB_API_KEY's or that of ``wandb login`` (in ~/.netrc, or the file that NETRC names). WANDB_MODE=offline or
disabled needs none.
"""

from __future__ import annotations

import importlib.util
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

WITHOUT_A_KEY = ("offline", "disabled", "dryrun")


def _logged_in() -> bool:
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc").authenticators(host or "") is not None
    except (OSError, RuntimeError, netrc.NetrcParseError):  # no file, no home, not readable: wandb reads no key either
        return False


def why_not() -> str | None:
    """What keeps a run from being logged, and what helps; None when nothing does."""
    if importlib.util.find_spec("wandb") is None:
        return "wandb is not installed: pip install wandb, or name no wandb project"
    if os.environ.get("WANDB_MODE", "").lower() in WITHOUT_A_KEY or os.environ.get("WANDB_API_KEY") or _logged_in():
        return None
    return "wandb has no key: set WANDB_API_KEY, run `wandb login`, set WANDB_MODE=offline, or name no wandb project"


def log_rows(project: str, name: str, summary: dict[str, Any]) -> None:
    """Send both protocols' rows of a metrics.json to ``project`` as one run called ``name``."""
    import wandb

    run = wandb.init(project=project, name=name)
    for protocol, key in (("published", "metric_conf"), ("corrected", "metric")):
        for row in summary[protocol][key]:
            numbers = {k: v for k, v in row.items() if isinstance(v, (int, float))}
            run.summary.update({f"{protocol}/{row['name']}/{k}": v for k, v in numbers.items()})
    run.finish()
