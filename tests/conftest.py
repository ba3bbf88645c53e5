"""Fixtures of all layers: toy-world records, one short training, a browser."""

import os
import shutil
import subprocess

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.helpers.commands import run, train_shortly

# Machines are shared: an example may take long for reasons that are not its own.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# Local folders only: nothing that runs here may look for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"


<<<<<<< HEAD
=======
def read_jsonl(path):
    # Not splitlines(): a JSON string may hold U+2028, which is no line break here.
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def write_jsonl(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Path(path)


def run(*command, check=True, **options):
    """Run a command of the project from the repository; its output is in the failure message."""
    words = [str(word) for word in command]
    if words[0] == "-m":
        words.insert(0, sys.executable)
    done = subprocess.run(words, cwd=options.pop("cwd", REPO), capture_output=True, text=True, check=False, **options)
    if check and done.returncode:
        pytest.fail(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return done


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def lines_in(shard):
    """How many whole lines a file has that may not exist yet."""
    return shard.read_bytes().count(b"\n") if shard.exists() else 0


def wait_until(condition, process=None, log=None, seconds=120, pause=0.01):
    """Until ``condition()`` holds; fails after ``seconds``, or when ``process`` ends first, with the end of ``log``."""
    deadline = time.monotonic() + seconds
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            told = log.read_text(errors="replace")[-4000:] if log else ""
            pytest.fail(f"{'the process ended' if ended else f'{seconds} s went by'} before it was so\n{told}")
        time.sleep(pause)


def answers(url):
    """Whether a server of ours replies."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return True
    except OSError:
        return False


@contextmanager
def serving(command, url, log, seconds, environment=()):
    """A server's process, from its first answer at ``url`` on; what it prints is in the file ``log``."""
    words, environment = [str(word) for word in command], {**os.environ, **dict(environment)}
    with open(log, "wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, cwd=REPO, env=environment)
    try:
        wait_until(lambda: answers(url), process, log, seconds, pause=0.3)
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def of_five_layers(tmp_path):
    """The toy checkpoint with a configuration of one layer more than its weights have: only loading it shows that."""
    folder = tmp_path / "of five layers"
    shutil.copytree(TOY_CHECKPOINT, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].update(num_hidden_layers=5, layer_types=["full_attention"] * 5)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def note_fault(request):
    """``note_fault(kind, tried, lost)``: keep how often a fault was tried, and how many samples it cost.

    The test has passed its checks by then. ``tests/count_cases.py`` sums the newest of each test up.
    """

    def note(kind, tried, lost=None):
        FAULTS.parent.mkdir(exist_ok=True)
        with open(FAULTS, "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"test": request.node.nodeid, "kind": kind, "tried": tried, "lost": lost}) + "\n")

    return note


>>>>>>> main
@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    """A folder with four toy-world test records for each of the nine tasks, images included."""
    folder = tmp_path_factory.mktemp("toy world")  # with a space, as users have
    run("-m", "scripts.toy_world.generate", "--output_dir", folder, "--test", "4", "--processes", "1")
    return folder / "test.jsonl"


@pytest.fixture(scope="session")
def short_training(tmp_path_factory, worker_id):
    """train_all.sh with a few steps a stage: (its work folder, what it printed).

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
