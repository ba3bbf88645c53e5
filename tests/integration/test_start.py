"""Where and how a command is started: a stranger's folder, a notebook, sh, a checkout made on Windows."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.commands import REPO, run
from tests.helpers.endpoint_server import serve
from tests.helpers.templates import SOURCED, TEMPLATES, environment

STRANGE_PACKAGES = ("inference", "swift", "accelerate", "openai", "pyarrow")
STRANGE_FILES = ("scripts", "verl", "pandas", "ray", "train")


@pytest.fixture
def strange_folder(tmp_path):
    """A folder with modules of our names and our libraries' names, each of which leaves a trace when it is run."""
    folder = tmp_path / "somebody's project"
    folder.mkdir()
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + '\\n')\n"
    for name in STRANGE_FILES:
        (folder / f"{name}.py").write_text(code)
    for name in STRANGE_PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    return folder


def ran(strange_folder):
    trace = strange_folder.parent / "ran"
    return trace.read_text().split() if trace.exists() else []


def test_the_main_job_runs_nothing_of_the_folder_it_is_started_in(strange_folder, toy_data):
    with serve() as server:
        settings = environment(
            engine="openai", base_url=server.url, model_name="m", data_path=toy_data, output_path="run", limit=3,
            python=sys.executable, evaluate_args="--n_resamples 0",
        )  # fmt: skip
        done = run("bash", REPO / "inference/infer_and_eval_example.sh", cwd=strange_folder, env=settings)
    assert "read 3 = predicted 3 + failed 0" in done.stdout
    assert (strange_folder / "run" / "report.html").exists()
    assert ran(strange_folder) == []


@pytest.mark.parametrize("stage", [1, 3])
def test_training_runs_nothing_of_the_folder_it_is_started_in(strange_folder, stage):
    """Up to the start of the trainer."""
    data = strange_folder / "data"
    data.write_text("{}\n")
    settings = environment(
        python=sys.executable, dataset=data, validation=data, print_command="true",
        model=REPO / "scripts/toy_world/checkpoint", logger='["console"]', output_dir=strange_folder / "run",
    )  # fmt: skip
    script = REPO / "train" / f"step{stage}_example.sh"
    done = run("bash", script, cwd=strange_folder, env=settings, check=False)
    if stage == 3:  # up to the number of its prompts, which pyarrow would count
        assert "is not a parquet file" in done.stderr, done.stderr
    else:
        assert re.search("^--(tuner|train)_type\nfull$", done.stdout, re.MULTILINE), done.stderr  # 4.x, 3.x
    assert ran(strange_folder) == []


def test_an_environment_is_not_complete_because_the_folder_has_a_module_of_that_name(strange_folder, tmp_path):
    bare = tmp_path / "bare"
    run(sys.executable, "-m", "venv", "--without-pip", bare)
    setup = (REPO / "scripts" / "setup.sh").read_text()
    function = setup[setup.index("can_run() {") : setup.index("default_track()")]
    for name in ["sklearn", "scipy", "matplotlib", "msgspec", "tqdm", "PIL"]:
        (strange_folder / f"{name}.py").touch()
    command = f"{function}\nif can_run '{bare}/bin/python' openai; then echo yes; else echo no; fi"
    assert run("bash", "-c", command, cwd=strange_folder).stdout == "no\n"


def test_python_3_10_which_cannot_leave_the_folder_out_refuses_it(strange_folder, tmp_path):
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\nexit 0\n")  # to the question whether it is older than 3.11
    old.chmod(0o755)
    settings = environment(python=old, data_path="d.jsonl", output_path="o", checkpoint="c")
    done = run("bash", REPO / "inference" / "infer.sh", 0, cwd=strange_folder, env=settings, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{strange_folder}/inference")
    assert "in place of the module inference: start in another folder, or with Python 3.11" in done.stderr


@pytest.mark.skipif(shutil.which("dash") is None, reason="dash is the sh of Debian and Ubuntu")
@pytest.mark.parametrize("template", sorted(set(TEMPLATES) - SOURCED), ids=lambda path: str(path.relative_to(REPO)))
def test_sh_starts_a_template_as_bash_does(template, tmp_path):
    """An own bash notes how it is called, and runs nothing."""
    (tmp_path / "bash").write_text('#!/bin/sh\necho "bash $*"\n')
    (tmp_path / "bash").chmod(0o755)
    done = run("dash", template, "first", env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.stdout == f"bash {template} first\n"


def test_sh_runs_the_main_job_up_to_its_own_message(tmp_path):
    settings = environment(python=sys.executable, data_path="/nowhere.jsonl")
    done = run("sh", "inference/infer_and_eval_example.sh", cwd=REPO, env=settings, check=False)
    assert done.returncode == 2 and "Set data_path to a JSON-lines file" in done.stderr


def test_a_clone_with_windows_line_ends_asked_for_has_none(tmp_path):
    if subprocess.run(["git", "rev-parse"], cwd=REPO, capture_output=True, check=False).returncode:
        pytest.skip("a checkout of git is cloned")
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", "--config", "core.autocrlf=true", "--config", "core.eol=crlf", REPO, clone)
    ends = {line.split()[1] for line in run("git", "ls-files", "--eol", cwd=clone).stdout.splitlines()}
    assert ends <= {"w/lf", "w/none", "w/-text"}
    for script in sorted(clone.rglob("*.sh")):
        run("bash", "-n", script)
    settings = environment(python=sys.executable, data_path="/nowhere.jsonl")
    done = run("bash", clone / "inference" / "infer_and_eval_example.sh", cwd=clone, env=settings, check=False)
    assert done.returncode == 2 and "Set data_path to a JSON-lines file" in done.stderr
