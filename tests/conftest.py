"""Fixtures of all layers: toy-world records, one short training, a browser."""

import json
import os
import shutil
import subprocess

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.helpers.commands import TOY_CHECKPOINT, run, train_shortly
from tests.helpers.training_stand_ins import write_stand_ins

# Machines are shared: an example may take long for reasons that are not its own.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# Local folders only: nothing that runs here may look for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture
def of_five_layers(tmp_path):
    """The toy checkpoint with a configuration of one layer more than its weights have: only loading it shows that."""
    folder = tmp_path / "of five layers"
    shutil.copytree(TOY_CHECKPOINT, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].update(num_hidden_layers=5, layer_types=["full_attention"] * 5)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    """A folder with four toy-world test records for each of the nine tasks, images included."""
    folder = tmp_path_factory.mktemp("toy world")  # with a space, as users have
    run("-m", "scripts.toy_world.generate", "--output_dir", folder, "--test", "4", "--processes", "1")
    return folder / "test.jsonl"


@pytest.fixture(scope="session")
def short_training(tmp_path_factory, worker_id):
    """train_all.sh with a few steps per stage: (its work folder, what it printed).

    Stage 3 starts from the shipped model: after four steps from random weights no response would
    be well-formed, and every reward the same. Test processes share one run: the first does it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "all stages"
    with FileLock(f"{folder}.lock"):
        work, printed = folder / "toy world", folder / "printed.txt"
        if not printed.exists():
            folder.mkdir(exist_ok=True)
            printed.write_text(train_shortly(work), encoding="utf-8")
    return work, printed.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory):
    """A folder with stand-ins of ms-swift and verl."""
    return write_stand_ins(tmp_path_factory.mktemp("stand-ins"))


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; without it, the tests of pages are skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    # Ubuntu's package may be a stub that only says where to find the browser.
    if chromium is None or subprocess.run([chromium, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("Chromium drives the page: sudo apt-get install chromium (scripts/test.sh does so as root)")
    with playwright.sync_playwright() as started:
        # No sandbox: root, as in a container, may not have one.
        yield started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
