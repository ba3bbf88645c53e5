"""The shell templates and the environment to start them in."""

import os

from tests.helpers.commands import REPO

TEMPLATES = [
    *sorted(path for folder in ("inference", "scripts", "train") for path in (REPO / folder).rglob("*.sh")),
    REPO / ".ci" / "run",
]
# Not run alone: other templates source them.
SOURCED = {REPO / "scripts" / name for name in ("process_environment.sh", "toy_world/seeds.sh")}


def environment(**settings):
    """This environment without what a template might take for a setting, plus ``settings``."""
    names = (
        "checkpoint",
        "data_path",
        "output_path",
        "experiment_name",
        "n_gpu",
        "temperature",
        "python",
        "base_python",
        "n_responses",
        "limit",
        "engine",
        "report",
    )
    others = {name: value for name, value in os.environ.items() if name not in names}
    return {**others, **{name: str(value) for name, value in settings.items()}}
