"""Stage 3 by verl's own trainer with vLLM rollouts on CPU, its data, its checkpoint, its curves."""

import importlib.util
import json
import os
import shutil
import sys

import pandas as pd
import pytest

from inference.data.response import REASONING_STEPS
from scripts.toy_world.follow import Follower
from scripts.training_curves import training_curves
from tests.helpers.commands import REPO, TOY_CHECKPOINT, TOY_PIXELS, read_jsonl, run, train_shortly, write_jsonl
from tests.helpers.forked import run_forked, run_template
from tests.helpers.verl_process import ADAPTER, read_rows
from train.cus_reward import compute_score

SHARD_IN_TWO = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",))
whole = torch.load(f"{sys.argv[1]}/model_world_size_1_rank_0.pt", weights_only=False)
whole = {name: value.to_local() if isinstance(value, DTensor) else value for name, value in whole.items()}
shards = {name: distribute_tensor(value, mesh, [Shard(0)]) for name, value in whole.items()}
torch.save(shards, f"{sys.argv[1]}/model_world_size_2_rank_{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


def step3(dataset, **settings):
    environment = {**os.environ, "python": sys.executable, "dataset": str(dataset), **settings}
    return run_template(REPO / "train" / "step3_example.sh", environment=environment, check=False)


def test_verls_own_data_set_reads_every_row_with_its_image(short_training, tmp_path):
    work, _ = short_training
    source = read_jsonl(work / "data" / "train.jsonl")
    parquet = work / "data" / "train.parquet"
    rows = read_rows(tmp_path, parquet, max_prompt_length=144)
    assert rows == [["emocaliber", row["ground_truth"], [84, 84], 9] for row in source]


def test_the_pixel_budget_of_the_parquet_file_reaches_verls_images(short_training, tmp_path):
    work, _ = short_training
    budget = ("--min_pixels", 200704, "--max_pixels", 451584)
    run("-m", "scripts.data.convert", "verl", work / "data" / "validation.jsonl", tmp_path / "large.parquet", *budget)
    rows = read_rows(tmp_path, tmp_path / "large.parquet", max_prompt_length=1000)
    assert [row[2] for row in rows] == [[448, 448]] * 4  # 256 × 28²


def test_verl_trains_saves_and_writes_down_every_response_with_the_reward_of_this_project(short_training):
    work, _ = short_training
    rollouts = [row for step in (1, 2) for row in read_jsonl(work / f"runs/emocaliber/rollouts/{step}.jsonl")]
    assert len(rollouts) == 2 * 4 * 4
    rewards = [compute_score(row["output"], row["gts"]) for row in rollouts]
    assert sum(reward["format_score"] for reward in rewards) > 16  # the shipped model knows the form
    assert len({row["score"] for row in rollouts}) > 2
    for row, reward in zip(rollouts, rewards, strict=True):  # the score, and what else of it this verl keeps
        assert {name: row[name] for name in reward.keys() & row.keys()} == pytest.approx(
            {name: reward[name] for name in reward.keys() & row.keys()}, rel=1e-6
        )
    log = (work / "logs" / "stage3.log").read_text()
    assert "8 prompts of" in log and "2 steps" in log and "4 prompts × 4 responses per step" in log
    assert "val-aux/emocaliber/format_score/mean@1" in log
    assert (work / "runs/emocaliber/latest_checkpointed_iteration.txt").read_text() == "2"


def test_training_changes_the_weights_and_merging_loses_none(short_training):
    from safetensors.torch import load_file

    work, _ = short_training
    before = load_file(TOY_CHECKPOINT / "model.safetensors")
    after = load_file(work / "models" / "emocaliber" / "model.safetensors")
    assert set(after) == set(before)
    for part in ("visual.blocks", "visual.merger", "layers."):  # stage 3 freezes nothing, as published
        assert any(not after[name].equal(before[name]) for name in before if part in name), part


@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.long)])
def test_the_merged_folder_loads_as_it_is(short_training, toy_data, tmp_path, engine):
    """Processor and chat template included, by the engines that people use."""
    work, _ = short_training
    run_forked(
        "-m", "inference.inference_vllm", "--engine", engine, "--checkpoint", work / "runs/emocaliber/merged",
        "--data_path", toy_data, "--output_path", tmp_path, "--limit", "2", "--max_new_tokens", "128",
        "--temperature", "0", *TOY_PIXELS,
    )  # fmt: skip
    (shard,) = tmp_path.glob("shard_*.jsonl")
    for row in read_jsonl(shard):
        assert "<confidence>" in row["response"]
        assert row["image_tokens"] == 9


@pytest.mark.long
def test_shards_of_two_processes_merge_to_the_same_weights(short_training, tmp_path):
    """Two processes cut the checkpoint of one into the shards that FSDP would save."""
    from safetensors.torch import load_file

    work, _ = short_training
    step = tmp_path / "global_step_2"
    actor = step / "actor"
    shutil.copytree(work / "runs/emocaliber/global_step_2", step)
    run(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--no_python",
        sys.executable, "-c", SHARD_IN_TWO, actor)  # fmt: skip
    (actor / "model_world_size_1_rank_0.pt").unlink()
    config = json.loads((actor / "fsdp_config.json").read_text())
    (actor / "fsdp_config.json").write_text(json.dumps({**config, "world_size": 2}))
    run_forked("-m", "scripts.merge_checkpoint", step)
    merged = load_file(tmp_path / "merged_2" / "model.safetensors")
    expected = load_file(work / "runs/emocaliber/merged/model.safetensors")
    assert set(merged) == set(expected)
    assert all(merged[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize("broken", ["shard", "folder"])
def test_an_incomplete_checkpoint_is_refused_by_name(short_training, tmp_path, broken):
    work, _ = short_training
    step = tmp_path / "global_step_2"
    if broken == "shard":
        shutil.copytree(work / "runs/emocaliber/global_step_2", step)
        (step / "actor/model_world_size_1_rank_0.pt").unlink()
        message = "missing model_world_size_1_rank_0.pt"
    else:
        step.mkdir()
        message = "expected latest_checkpointed_iteration.txt, or a folder global_step_<n>"
    done = run_forked("-m", "scripts.merge_checkpoint", step, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["global_step_2"]


def test_the_curves_are_what_the_rollouts_say(short_training):
    work, _ = short_training
    run_folder = work / "runs" / "emocaliber"
    curves = pd.read_csv(run_folder / "training_curves.csv", index_col="step")
    assert list(curves.index) == [1, 2]
    rows = [compute_score(row["output"], row["gts"]) for row in read_jsonl(run_folder / "rollouts" / "2.jsonl")]
    formed = [row for row in rows if row["format_score"]]
    assert curves.loc[2, "reward"] == pytest.approx(sum(row["score"] for row in rows) / 16, rel=1e-4)
    assert curves.loc[2, "format_rate"] == pytest.approx(len(formed) / 16, rel=1e-4)
    expected = sum((row["confidence"] - row["correctness"]) ** 2 for row in formed) / len(formed)
    assert curves.loc[2, "brier"] == pytest.approx(expected, rel=1e-4)
    assert (run_folder / "training_curves.png").stat().st_size > 10_000


def test_curves_survive_a_step_without_any_well_formed_response(tmp_path):
    malformed = {"score": -5, "format_score": 0, "correctness": 0, "brier_score": -1, "confidence": 1}
    (tmp_path / "rollouts").mkdir()
    write_jsonl(tmp_path / "rollouts" / "1.jsonl", [malformed] * 3)
    curves = training_curves(tmp_path)
    assert curves.loc[1, "reward"] == -5
    assert curves.loc[1, "format_rate"] == 0
    assert pd.isna(curves.loc[1, "confidence_mean"]) and pd.isna(curves.loc[1, "brier"])


def test_rollouts_that_hold_the_score_alone_are_read_again_from_response_and_label(tmp_path):
    """As verl 0.9 writes them."""
    thought = "<think>" + "".join(f"<{step}>x</{step}>" for step in REASONING_STEPS) + "</think>"
    outputs = [f"{thought}<answer>awe</answer><confidence>0.8</confidence>", "no form"]
    (tmp_path / "rollouts").mkdir()
    rows = [{"output": text, "gts": "awe", "score": score} for text, score in zip(outputs, (1.5, -5), strict=True)]
    write_jsonl(tmp_path / "rollouts" / "1.jsonl", rows)
    curves = training_curves(tmp_path)
    assert curves.loc[1, ["reward", "format_rate", "accuracy", "confidence_mean"]].tolist() == [-1.75, 0.5, 0.5, 0.8]
    assert curves.loc[1, "brier"] == pytest.approx(0.04)


def test_curves_name_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"expected rollouts/<step>\.jsonl"):
        training_curves(tmp_path)
    (tmp_path / "rollouts").mkdir()
    write_jsonl(tmp_path / "rollouts" / "7.jsonl", [{"score": 1.0}])
    with pytest.raises(ValueError, match=r"7.jsonl: expected the fields .* missing format_score"):
        training_curves(tmp_path)


@pytest.mark.long
def test_a_second_start_of_a_finished_training_trains_nothing_again_and_evaluates_what_is_missing(short_training):
    work, printed = short_training
    models = [work / "models" / name / "model.safetensors" for name in ("scaffold", "cold_start", "emocaliber")]
    stamps = [path.stat().st_mtime_ns for path in models]
    again = train_shortly(work, evaluated="cold_start emocaliber")
    assert [path.stat().st_mtime_ns for path in models] == stamps
    assert [lines_of(text, "stage 2, cold start") for text in (printed, again)] == [0, 4]  # all samples, three groups
    assert lines_of(again, "stage 3, EmoCaliber") == 4


def lines_of(printed, name):
    """How often the table of the stages has a row of that name."""
    return printed[printed.index("The stages side by side") :].count(name)


def test_the_end_is_one_table_of_the_evaluated_stages_beside_the_best_possible(short_training):
    work, printed = short_training
    assert "toy world" in printed[printed.index("The stages side by side") :]
    assert [lines_of(printed, name) for name in ("stage 1", "stage 3, EmoCaliber", "best possible")] == [0, 4, 4]
    rows = pd.read_csv(work / "stages.csv", index_col=["part", "model"])
    assert (rows.loc["all", "n"] == 9).all()
    best = rows.loc[("all", "best possible")]
    assert rows.loc[("all", "stage 3, EmoCaliber"), "p_right"] <= best["p_right"]
    assert best["brier"] < rows.loc[("all", "stage 3, EmoCaliber"), "brier"]


def test_the_template_refuses_what_is_no_parquet_file_or_less_than_a_batch(short_training, tmp_path):
    work, _ = short_training
    common = {
        "model": str(TOY_CHECKPOINT),
        "validation": str(work / "data/validation.parquet"),
        "logger": '["console"]',
    }
    done = step3(work / "data" / "train.jsonl", **common)
    assert done.returncode == 2
    assert "train.jsonl is not a parquet file. Make it with python -m scripts.data.convert verl" in done.stderr
    done = step3(work / "data" / "train.parquet", **common)
    assert done.returncode == 2
    assert "8 prompts in" in done.stderr and "less than one batch of batch_size=64" in done.stderr


def test_the_template_asks_for_wandbs_key_before_it_starts(short_training, tmp_path):
    work, _ = short_training
    settings = {
        "model": str(TOY_CHECKPOINT),
        "validation": str(work / "data/validation.parquet"),
        "NETRC": str(tmp_path / "no"),
    }
    done = step3(work / "data" / "train.parquet", WANDB_API_KEY="", WANDB_MODE="", **settings)
    assert done.returncode == 2
    assert "wandb has no key: set WANDB_API_KEY" in done.stderr


def test_the_adapter_refuses_a_machine_with_a_gpu():
    code = f"import torch; torch.cuda.is_available = lambda: True; import {ADAPTER}"
    done = run(sys.executable, "-c", code, check=False)
    assert done.returncode != 0
    assert "for machines without a GPU" in done.stderr


def test_the_progress_bar_follows_both_frameworks_and_sees_a_run_that_stops_early():
    swift = Follower("stage1")
    for step, loss in ((10, "0.92"), (20, "'0.84'")):  # as transformers 4 and 5 print it
        swift.read(f"{{'loss': {loss}, 'global_step/max_steps': '{step}/40', 'elapsed_time': '9s'}}\n")
        assert (swift.bar.n, swift.bar.total, swift.finished) == (step, 40, False)
        assert f"loss {loss.strip(chr(39))}0" in str(swift.bar)
    swift.read("{'train_runtime': 1.0, 'global_step/max_steps': '40/40'}\n")
    assert swift.finished
    verl = Follower("stage3")
    verl.read("(TaskRunner pid=1) Total training steps: 2\n")
    verl.read("(TaskRunner pid=1) step:1 - actor/pg_loss:0.1 - critic/score/mean:-0.5 - x:1\n")
    assert (verl.bar.n, verl.finished) == (1, False)
    assert "reward -0.500" in str(verl.bar)
    again = Follower("stage3")
    again.read("Stage 3 is finished: output/emocaliber/global_step_2. Nothing is left to train\n")
    assert again.finished


@pytest.mark.long
def test_verl_without_a_reward_s_path_calls_the_copy_that_was_installed_into_it(tmp_path):
    """The copy pays 2 more than the file in train/, so that it is seen which of them was called."""
    shutil.copytree(importlib.util.find_spec("verl").submodule_search_locations[0], tmp_path / "verl")
    run("bash", REPO / "scripts" / "install_reward.sh", tmp_path)
    copy = tmp_path / "verl" / "utils" / "reward_score" / "cus_reward.py"
    text = copy.read_text()
    assert text.count('"score": 1.0 +') == 1
    copy.write_text(text.replace('"score": 1.0 +', '"score": 3.0 +'))

    data = tmp_path / "data"
    run("-m", "scripts.toy_world.generate", "--output_dir", data, "--stage3", "8", "--processes", "1")
    run("-m", "scripts.data.convert", "verl", data / "stage3.jsonl", data / "stage3.parquet")
    settings = {
        "python": sys.executable, "verl_path": tmp_path, "reward_path": "null", "model": TOY_CHECKPOINT, "threads": 1,
        "dataset": data / "stage3.parquet", "validation": data / "stage3.parquet", "output_dir": tmp_path / "out",
        "batch_size": 4, "rollouts": 2, "mini_batch_size": 4, "micro_batch_size": 8, "max_steps": 1,
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    run("bash", REPO / "scripts" / "toy_world" / "stage3_cpu.sh", env=environment)
    rollouts = read_jsonl(tmp_path / "out" / "rollouts" / "1.jsonl")
    assert len(rollouts) == 8
    rewards = [compute_score(row["output"], row["gts"]) for row in rollouts]
    expected = [reward["score"] + 2 * reward["format_score"] for reward in rewards]
    assert [row["score"] for row in rollouts] == pytest.approx(expected, rel=1e-6)
    assert any(reward["format_score"] for reward in rewards)


@pytest.mark.long
def test_the_whole_training_calibrates_the_confidence(tmp_path):
    """From random weights through all three stages, as the README has it: about 25 minutes."""
    environment = {**os.environ, "python": sys.executable, "work": str(tmp_path), "seed": "5"}
    run("bash", REPO / "scripts" / "toy_world" / "train_all.sh", env=environment)
    rows = pd.read_csv(tmp_path / "stages.csv", index_col=["part", "model"]).loc["all"]
    before, after = rows.loc["stage 2, cold start"], rows.loc["stage 3, EmoCaliber"]
    assert after["ece"] < before["ece"]
    assert after["confidence_error"] < before["confidence_error"]
    assert after["p_right"] > before["p_right"] - 0.03
    assert rows.loc["best possible", "p_right"] - after["p_right"] < 0.15
