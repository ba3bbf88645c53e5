"""Where this repository lies."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOY_CHECKPOINT = REPOSITORY / "scripts" / "toy_world" / "checkpoint"
