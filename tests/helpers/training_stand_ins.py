"""Stand-ins of ms-swift and verl, and the training templates started with them."""

import importlib.util
import os
import shutil
import sys

from tests.helpers.commands import REPO, TOY_CHECKPOINT
from tests.helpers.forked import run_template

SFT = """
import pathlib, sys
words = sys.argv
def value(name): return words[words.index(name) + 1]
folder = pathlib.Path(value("--output_dir"), "checkpoint-4")
print("trained", sum(1 for _ in open(value("--dataset"))), "from", value("--model"))
if "--fail" not in words:
    folder.mkdir(exist_ok=True)
    (folder / "optimizer.pt").touch()
    (folder / "trainer_state.json").write_text("{}")
sys.exit("--fail" in words)
"""

MAIN_PPO = """
import pathlib, sys
values = dict(word.partition("=")[::2] for word in sys.argv[1:])
folder = pathlib.Path(values["trainer.default_local_dir"].strip("'"))
(folder / "global_step_2").mkdir(exist_ok=True)
(folder / "global_step_2" / "data.pt").touch()
(folder / "latest_checkpointed_iteration.txt").write_text("2")
print("trained")
"""


def write_stand_ins(folder):
    """The folder, with stand-ins of ms-swift and verl; verl's own reward.py tells which key it reads."""
    files = {"swift/cli/sft.py": SFT, "verl/trainer/main_ppo.py": MAIN_PPO}
    for name, code in {**files, "swift/__init__.py": "", "verl/__init__.py": ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    installed = importlib.util.find_spec("verl").submodule_search_locations[0]
    (folder / "verl" / "trainer" / "ppo").mkdir()
    shutil.copy(f"{installed}/trainer/ppo/reward.py", folder / "verl" / "trainer" / "ppo")
    return folder


def template(stage, stand_ins, check=True, options=(), **settings):
    """A stage's template with a trainer from the folder: what it printed and its exit status."""
    named = {
        "python": sys.executable, "model": TOY_CHECKPOINT, "n_gpu": 1, "batch_size": 2, "accumulation": 1,
        "split_dataset_ratio": 0, "swift_path": stand_ins, "verl_path": stand_ins, "logger": '["console"]', **settings,
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in named.items()}}
    script = REPO / "train" / f"step{stage}_example.sh"
    return run_template(script, *options, environment=environment, check=check)
