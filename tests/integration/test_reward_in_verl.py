"""Stage 3's reward outside its home: alone, named to verl, installed into verl."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.commands import REPO, run
from tests.helpers.responses import response


def test_the_reward_file_stands_alone():
    """No import but the standard library's: it leaves home and lives inside verl."""
    run(
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"exec(open({str(REPO / 'train/cus_reward.py')!r}).read()); print(compute_score(None, 'x'))",
    )


def test_verls_custom_reward_path_loads_it():
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    named = {"path": str(REPO / "train" / "cus_reward.py"), "name": "compute_score", "reward_kwargs": {"rule": "brier"}}
    here = {"custom_reward_function": named}
    reward = get_custom_reward_fn(OmegaConf.create({**here, "reward": here}))  # each version reads one of them
    result = reward(data_source="emocaliber", solution_str=response(), ground_truth="awe", extra_info={})
    assert result["confidence_score"] == pytest.approx(-0.04)


@pytest.fixture
def verl_copy(tmp_path):
    source = importlib.util.find_spec("verl").submodule_search_locations[0]
    for part in ("utils/reward_score", "version"):
        shutil.copytree(f"{source}/{part}", tmp_path / "verl" / part)
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_byte_code(folder):
    return {name: content for name, content in contents(folder).items() if name.suffix != ".pyc"}


def install(*arguments, check=True):
    return run("bash", REPO / "scripts" / "install_reward.sh", *arguments, check=check)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_installed_into_verl_its_default_reward_calls_it_and_undo_restores_every_byte(verl_copy, line_end):
    folder = verl_copy / "verl" / "utils" / "reward_score"
    (folder / "__init__.py").write_bytes((folder / "__init__.py").read_bytes().replace(b"\n", line_end))
    (folder / "__init__.py").chmod(0o640)
    before = without_byte_code(verl_copy)
    install(verl_copy)
    once = contents(verl_copy)
    install(verl_copy)
    assert contents(verl_copy) == once != before

    # verl's own reward module, loaded from the changed copy under its own name.
    code = (
        "import importlib.util, sys, verl.utils\n"
        f"spec = importlib.util.spec_from_file_location('verl.utils.reward_score', {str(folder / '__init__.py')!r},"
        f" submodule_search_locations=[{str(folder)!r}])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['verl.utils.reward_score'] = module\n"
        "spec.loader.exec_module(module)\n"
        f"result = module.default_compute_score('emocaliber', {response()!r}, 'awe')\n"
        "assert result['correctness'] == 1.0 and result['confidence'] == 0.8, result\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
    assert list(folder.glob("__pycache__/cus_reward.*.pyc"))

    install("--undo", verl_copy / "verl")
    assert without_byte_code(verl_copy) == before
    assert not list(folder.rglob("*cus_reward*"))
    assert (folder / "__init__.py").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("utils/reward_score/__init__.py", '== "openai/gsm8k"', "in GSM8K", "expected a line"),
        ("version/version", "0.", "1.", "1."),
        ("version/version", "0.", "0.3.", "0.3."),
    ],
    ids=["another file", "a later version", "an earlier version"],
)
def test_an_unknown_verl_is_refused_and_left_as_it_was(verl_copy, name, old, new, message):
    path = verl_copy / "verl" / name
    path.write_text(path.read_text().replace(old, new, 1))
    before = contents(verl_copy)
    done = install(verl_copy, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{path}: {message}") and done.stderr.count("\n") == 1
    assert "a verl that is not known here (0.4 to 0.9 are)" in done.stderr
    assert contents(verl_copy) == before


def test_installing_where_no_verl_is_says_so(tmp_path):
    done = install(tmp_path, check=False)
    assert done.returncode == 2
    assert "expected verl/utils/reward_score/__init__.py" in done.stderr
