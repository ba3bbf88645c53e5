"""What stage 3 does before it trains: data, identity, the reward and what is checked of verl.

A stand-in takes verl's place where only its start matters; what verl itself does is tested in test_grpo.
"""

import json
import os
import shutil
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.commands import REPO, TOY_CHECKPOINT, run
from tests.helpers.training_stand_ins import template
from train.data import BadData, check_parquet
from train.verl_launch import Verl

QUESTION = "Which emotion? one of [anger, awe]"


@pytest.fixture
def prompts(tmp_path):
    Image.new("RGB", (84, 84)).save(tmp_path / "a.png")
    row = {
        "data_source": "emocaliber", "prompt": [{"role": "user", "content": "<image>" + QUESTION}],
        "images": [{"image": f"file://{tmp_path}/a.png"}], "ability": "emotion",
        "reward_model": {"style": "rule", "ground_truth": "awe"},
    }  # fmt: skip
    return [json.loads(json.dumps(row)) for _ in range(4)]


def written(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def renamed(rows, old, new):
    return [{new if key == old else key: value for key, value in row.items()} for row in rows]


def changed(rows, **changes):
    return [*rows[:2], {**rows[2], **changes}, *rows[3:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows, _: renamed(rows, "images", "image"), "row 1, field 'images': expected a list of images"),
        (lambda rows, _: renamed(rows, "prompt", "messages"), "row 1, field 'prompt': expected a list of turns"),
        (lambda rows, _: renamed(rows, "data_source", "source"), "row 1, field 'data_source': expected a text"),
        (lambda rows, _: renamed(rows, "reward_model", "label"), "row 1, field 'reward_model': expected an object"),
        (lambda rows, _: changed(rows, images=[]), "row 3, field 'images': expected an image for each <image>"),
        (
            lambda rows, _: changed(rows, prompt=[{"role": "user", "content": QUESTION}]),
            "row 3, field 'images': expected an image for each <image> of the prompt, and one at least, got 1 for 0",
        ),
        (lambda rows, _: changed(rows, images=[{"image": "/none.png"}]), "row 3, field 'images[0]': expected an image"),
        (lambda rows, _: changed(rows, images=[{"image": "a.png"}]), "field 'images[0]': expected an absolute path"),
        (
            lambda rows, folder: [{**row, "images": [f"{folder}/a.png"]} for row in rows],
            "row 1, field 'images[0]': expected {\"bytes\": …} or {\"image\": \"file://…\"}",
        ),
        (
            lambda rows, _: changed(rows, reward_model={"style": "rule", "ground_truth": "very happy"}),
            "row 3, field 'ground_truth': expected one word without punctuation",
        ),
        (
            lambda rows, _: changed(rows, reward_model={"style": "rule", "ground_truth": None}),
            "row 3, field 'reward_model.ground_truth': expected a label, got None",
        ),
        (lambda rows, _: changed(rows, data_source=None), "row 3, field 'data_source': expected a text, got None"),
    ],
)  # fmt: skip
def test_a_parquet_file_that_verl_would_train_on_blindly_is_refused(prompts, tmp_path, change, message):
    path = written(tmp_path / "bad.parquet", change(prompts, tmp_path))
    with pytest.raises(BadData) as refused:
        check_parquet(path)
    assert str(refused.value).startswith(f"{path}, ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_images_by_address_by_path_and_embedded_are_good(prompts, tmp_path):
    prompts[0]["images"] = [{"image": f"{tmp_path}/a.png"}]
    by_name = check_parquet(written(tmp_path / "by_name.parquet", prompts))
    assert len(by_name.images) == 4
    embedded = [{**row, "images": [{"bytes": (tmp_path / "a.png").read_bytes()}]} for row in prompts]
    embedded = check_parquet(written(tmp_path / "embedded.parquet", embedded))
    named = check_parquet(written(tmp_path / "named.parquet", renamed(prompts, "images", "photo")), "photo")
    assert len(embedded.images) == len(named.images) == 4
    assert (named.sharing(by_name), embedded.sharing(by_name)) == (4, 0)


def test_stage_3_checks_both_files_and_has_an_identity_and_an_end(stand_ins, prompts, tmp_path):
    good = written(tmp_path / "good.parquet", prompts)
    bad = written(tmp_path / "bad.parquet", renamed(prompts, "images", "image"))

    def stage3(check=True, **settings):
        named = {"dataset": good, "validation": good, "output_dir": tmp_path / "out", "batch_size": 2, **settings}
        return template(3, stand_ins, check, **named)

    for name in ("dataset", "validation"):
        done = stage3(check=False, **{name: bad})
        assert done.returncode == 2 and done.stderr.startswith(f"stage 3: {bad}, row 1, field 'images'")
    done = stage3()
    assert f"CHECK: 4 prompts of {good} show images that are trained on\n" in done.stdout
    assert "Stage 3: 4 prompts of" in done.stdout and "attention sdpa" in done.stdout and "\ntrained" in done.stdout
    again = stage3(micro_batch_size=1, test_freq=5)
    assert f"Stage 3 is finished: {tmp_path}/out/global_step_2." in again.stdout and "trained" not in again.stdout
    other = stage3(check=False, kl_coefficient="0.05", verl_args="algorithm.gamma=0.9")
    assert other.returncode == 2 and other.stderr.count("\n") == 1
    assert "settings.actor_rollout_ref.actor.kl_loss_coef was 0.01, is 0.05" in other.stderr
    assert "settings.algorithm.gamma was not set, is 0.9" in other.stderr
    reward = shutil.copy(REPO / "train" / "cus_reward.py", tmp_path / "reward.py")
    (tmp_path / "reward.py").write_text((tmp_path / "reward.py").read_text() + "# another\n")
    assert "reward.sha256 was" in stage3(check=False, reward_path=reward).stderr
    assert "\ntrained" in stage3(kl_coefficient="0.05", overwrite="true").stdout


def test_a_resumed_stage_3_keeps_no_responses_of_steps_that_it_takes_again(stand_ins, prompts, tmp_path):
    """The curves would show them as its own."""
    good = written(tmp_path / "good.parquet", prompts)
    rollouts = tmp_path / "out" / "rollouts"
    named = {"dataset": good, "validation": good, "output_dir": tmp_path / "out", "batch_size": 2}
    template(3, stand_ins, **named)  # ends with step 2
    rollouts.mkdir()
    for step in (1, 2, 3, 10):
        (rollouts / f"{step}.jsonl").touch()
    template(3, stand_ins, **named)  # finished: nothing is taken again
    assert len(list(rollouts.iterdir())) == 4
    done = template(3, stand_ins, **named, kl_coefficient="0.05", resume_anyway="true")
    assert "resuming from step 2" in done.stdout
    assert sorted(path.name for path in rollouts.iterdir()) == ["1.jsonl", "2.jsonl"]


def test_without_a_home_folder_stage_3_still_asks_for_wandbs_key(stand_ins, prompts, tmp_path):
    good = written(tmp_path / "good.parquet", prompts)
    settings = {
        "PATH": os.environ["PATH"], "python": sys.executable, "model": TOY_CHECKPOINT, "dataset": good,
        "validation": good, "output_dir": tmp_path / "out", "verl_path": stand_ins, "NETRC": tmp_path / "none",
    }  # fmt: skip
    bare = {name: str(value) for name, value in settings.items()}
    done = run("bash", REPO / "train" / "step3_example.sh", env=bare, check=False)
    assert done.returncode == 2
    assert "wandb has no key" in done.stderr


READS = '    reward_fn_config = config.{}get("custom_reward_function") or {{}}\n'

NEEDED = (
    "trainer.default_local_dir=/o", "data.train_files=/d", "data.val_files=/v", "custom_reward_function.path=/r.py",
)  # fmt: skip


@pytest.mark.parametrize("level", ["", "reward."], ids=["0.4 to 0.7.0", "0.7.1 to 0.9"])
@pytest.mark.parametrize("written", ["", "reward."], ids=["the template's key", "the later key"])
def test_the_reward_goes_by_the_key_that_verl_reads_whichever_is_written(tmp_path, level, written):
    """A verl that takes the other key, too, would ignore it, and train on another reward."""
    reader = tmp_path / "trainer" / "ppo" / "reward.py"
    reader.parent.mkdir(parents=True)
    reader.write_text(READS.format(level))
    words = [
        "actor_rollout_ref.model.path='/m'", "trainer.default_local_dir='/o'", "data.train_files='/d'",
        "data.val_files='/v'", "custom_reward_function.path='/r.py'", f"{written}custom_reward_function.path=/o.py",
        f"+{written}custom_reward_function.reward_kwargs.rule=brier",
    ]  # fmt: skip
    training = Verl(words, tmp_path)
    assert training.overrides[-3:] == [
        f"{level}custom_reward_function.path='/r.py'", f"{level}custom_reward_function.path='/o.py'",
        f"+{level}custom_reward_function.reward_kwargs.rule=brier",
    ]  # fmt: skip
    assert str(training.reward) == "/o.py"
    reader.write_text("def reward(): ...\n")
    with pytest.raises(ValueError, match=r"reward\.py: expected verl 0\.4 to 0\.9"):
        Verl(words, tmp_path)


@pytest.mark.parametrize("obeys", [True, False], ids=["0.6 to 0.7.1", "0.8 to 0.9"])
def test_a_vision_tower_that_is_to_be_frozen_is_refused_where_verl_would_train_it(tmp_path, obeys):
    files = {"trainer/ppo/reward.py": READS.format(""), "workers/fsdp_workers.py": "freeze_vision_tower" * obeys}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    words = ["actor_rollout_ref.model.path=/m", *NEEDED, "actor_rollout_ref.actor.freeze_vision_tower=True"]
    if obeys:
        Verl(words, tmp_path)
    else:
        with pytest.raises(ValueError, match=r"freeze_vision_tower: the verl in .* would train the vision tower"):
            Verl(words, tmp_path)
    Verl([*words, "actor_rollout_ref.actor.freeze_vision_tower=False"], tmp_path)


@pytest.mark.parametrize(
    ("transformers", "nested", "named"),
    [("4.57.0", True, ["qwen2_5_vl"]), ("4.57.0", False, []), ("5.9.0", True, [])],
)
def test_verl_gets_the_model_s_type_where_transformers_would_answer_with_its_text_model_s(
    monkeypatch, tmp_path, transformers, nested, named
):
    """verl would take the model for one of text alone, and train it without the images."""
    text = {"text_config": {"model_type": "qwen2_5_vl_text"}} if nested else {}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", **text}))
    (tmp_path / "trainer" / "ppo").mkdir(parents=True)
    (tmp_path / "trainer" / "ppo" / "reward.py").write_text(READS.format(""))
    monkeypatch.setattr("train.verl_launch.version", lambda _: transformers)
    training = Verl([f"actor_rollout_ref.model.path={tmp_path}", *NEEDED], tmp_path)
    training.choose()
    key = "actor_rollout_ref.model.override_config.model_type"
    assert [value for name, value in training.values().items() if name == key] == named


def test_without_a_reward_s_path_the_copy_in_verl_must_be_there(stand_ins, prompts, tmp_path):
    good = written(tmp_path / "good.parquet", prompts)
    settings = {"dataset": good, "validation": good, "output_dir": tmp_path / "out", "batch_size": 2}
    verl = shutil.copytree(stand_ins, tmp_path / "verls")
    done = template(3, stand_ins, False, **settings, reward_path="null", verl_path=verl)
    copy = verl / "verl" / "utils" / "reward_score" / "cus_reward.py"
    assert done.returncode == 2
    assert done.stderr == (
        f"stage 3: no file at reward_path={copy}. Set reward_path, or copy it with bash scripts/install_reward.sh.\n"
    )
    copy.parent.mkdir(parents=True)
    shutil.copy(REPO / "train" / "cus_reward.py", copy)
    assert "\ntrained" in template(3, stand_ins, **settings, reward_path="null", verl_path=verl).stdout


REWARD_KEY = "custom_reward_function"


def reward_words(path=REPO / "train" / "cus_reward.py", **settings):
    """What the template gives verl, and settings of the reward."""
    paths = ("actor_rollout_ref.model.path", "trainer.default_local_dir", "data.train_files", "data.val_files")
    given = [f"+{REWARD_KEY}.reward_kwargs.{name}={value}" for name, value in settings.items()]
    return [*(f"{path}=/x" for path in paths), f"{REWARD_KEY}.path={path}", *given]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "rule log; deliberate errors earn more than honesty where p(right) < 0.849"),
        (
            {"rule": "brier", "weight": 2},
            "rule brier, weight 2; deliberate errors earn more than honesty where p(right) < 0.5",
        ),
        ({"rule": "brier"}, "rule brier; it never pays to answer wrong on purpose"),
    ],
    ids=["as published", "too heavy", "brier"],
)
def test_the_plan_says_whether_the_reward_pays_for_deliberate_errors(stand_ins, settings, line):
    assert f"reward: {line}" in Verl(reward_words(**settings), stand_ins / "verl").reward_line()


def test_of_another_reward_the_plan_says_that_it_is_not_known(stand_ins, tmp_path):
    other = tmp_path / "reward.py"
    other.write_text("def compute_score(**_): return 0.0\n")
    assert f"reward {other}, another one than" in Verl(reward_words(other), stand_ins / "verl").reward_line()


def test_the_rule_of_the_template_reaches_the_plan(stand_ins, prompts, tmp_path):
    good = written(tmp_path / "good.parquet", prompts)
    named = {"dataset": good, "validation": good, "output_dir": tmp_path / "out", "batch_size": 2, "rule": "rlcr"}
    assert "reward: rule rlcr; it never pays to answer wrong on purpose" in template(3, stand_ins, **named).stdout


def test_a_setting_that_the_reward_does_not_have_stops_stage_3(stand_ins, prompts, tmp_path):
    good = written(tmp_path / "good.parquet", prompts)
    named = {"dataset": good, "validation": good, "output_dir": tmp_path / "out", "batch_size": 2}
    done = template(3, stand_ins, False, **named, verl_args=f"+{REWARD_KEY}.reward_kwargs.weigth=1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "reward_kwargs.weigth: expected one of rule, " in done.stderr
    with pytest.raises(ValueError, match="rule: expected one of log, brier, rlcr"):
        Verl(reward_words(rule="spherical"), stand_ins / "verl").reward_line()
    with pytest.raises(ValueError, match="has no effect without"):
        Verl(reward_words("null", rule="rlcr"), stand_ins / "verl")
