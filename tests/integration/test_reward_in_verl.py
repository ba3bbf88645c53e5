"""Stage 3's reward outside its home: alone, named to verl, installed into verl."""

import importlib.util
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
    reward = get_custom_reward_fn(OmegaConf.create({"custom_reward_function": named}))
    result = reward(data_source="emocaliber", solution_str=response(), ground_truth="awe", extra_info={})
    assert result["confidence_score"] == pytest.approx(-2 * 0.04)


@pytest.fixture
def verl_copy(tmp_path):
    source = importlib.util.find_spec("verl").submodule_search_locations[0]
    shutil.copytree(f"{source}/utils/reward_score", tmp_path / "verl" / "utils" / "reward_score")
    return tmp_path


def install(*arguments, check=True):
    return run("bash", REPO / "scripts" / "install_reward.sh", *arguments, check=check)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_installed_into_verl_its_default_reward_calls_it_and_undo_restores_every_byte(verl_copy, line_end):
    folder = verl_copy / "verl" / "utils" / "reward_score"
    before = (folder / "__init__.py").read_bytes().replace(b"\n", line_end)
    (folder / "__init__.py").write_bytes(before)
    install(verl_copy)
    once = (folder / "__init__.py").read_bytes()
    install(verl_copy)
    assert (folder / "__init__.py").read_bytes() == once != before

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
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    install("--undo", verl_copy)
    assert (folder / "__init__.py").read_bytes() == before
    assert not (folder / "cus_reward.py").exists()


def test_an_unknown_verl_is_refused_and_left_as_it_was(verl_copy):
    folder = verl_copy / "verl" / "utils" / "reward_score"
    path = folder / "__init__.py"
    path.write_text(path.read_text().replace('data_source == "openai/gsm8k"', "data_source in GSM8K"))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = install(verl_copy, check=False)
    assert done.returncode == 2
    assert "is not the verl that is known here (0.4 to 0.9): expected a line" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_installing_where_no_verl_is_says_so(tmp_path):
    done = install(tmp_path, check=False)
    assert done.returncode == 2
    assert "expected verl/utils/reward_score/__init__.py" in done.stderr
