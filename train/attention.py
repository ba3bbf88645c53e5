"""Which attention a training runs with, for both frameworks."""

from __future__ import annotations

import importlib.util
import sys


def attention(asked: str, flash: str) -> str:
    """``asked``, or when it is empty ``flash`` (a framework's name for it) where flash-attn is installed, else sdpa."""
    installed = importlib.util.find_spec("flash_attn") is not None
    if asked.startswith("flash_att"):
        if not installed and asked in ("flash_attn", "flash_attention_2"):
            raise ValueError(
                f"attn_impl={asked}, but {sys.executable} has no flash-attn: install it, or set attn_impl=sdpa."
            )
        return flash if asked in ("flash_attn", "flash_attention_2") else asked
    return asked or (flash if installed else "sdpa")
