"""What a training does before it trains: data, output folder, settings and processes.

A stand-in takes the trainer's place where only its start matters; what the real ones do is tested elsewhere. What is
stage 3's alone is in test_grpo_start.
"""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.commands import TOY_CHECKPOINT, read_jsonl, write_jsonl
from tests.helpers.training_stand_ins import template

QUESTION = "Which emotion? one of [anger, awe]"
ANSWER = "<think>a</think><answer>awe</answer>"


@pytest.fixture
def rows(tmp_path):
    """Eight rows of stage 1 with an image each."""
    made = []
    for i in range(8):
        Image.new("RGB", (84, 84), (i, 0, 0)).save(tmp_path / f"{i}.png")
        turns = [{"role": "user", "content": "<image>" + QUESTION}, {"role": "assistant", "content": ANSWER}]
        made.append({"messages": turns, "images": [f"{i}.png"]})
    return made


def swift(stand_ins, dataset, output, check=True, **settings):
    # On CPU with one process, so that nothing but the template and the stand-in runs.
    settings = {"use_cpu": "true", **settings}
    return template(1, stand_ins, check, dataset=dataset, output_dir=output, **settings)


def test_rows_with_columns_that_ms_swift_stumbles_on_are_trained_whole(stand_ins, rows, tmp_path):
    odd = [{**row, "objects": ["dog"], "id": i if i % 2 else f"img_{i}"} for i, row in enumerate(rows)]
    done = swift(stand_ins, write_jsonl(tmp_path / "odd.jsonl", odd), tmp_path / "out")
    assert f"Stage 1: 8 rows of {tmp_path}/odd.jsonl" in done.stdout and "trained 8" in done.stdout
    trained = read_jsonl(tmp_path / "out" / "dataset.jsonl")
    assert [row["images"] for row in trained] == [[str(tmp_path / f"{i}.png")] for i in range(8)]
    assert all(row.keys() == {"messages", "images"} for row in trained)


@pytest.mark.parametrize("form", ["a JSON array", "parquet"])
def test_the_plan_counts_the_rows_of_every_form(stand_ins, rows, tmp_path, form):
    data = tmp_path / ("data.json" if form == "a JSON array" else "data.parquet")
    rows[0]["messages"][1]["content"] = ANSWER + "<confidence>0.8</confidence>"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), data)
    else:
        data.write_text(json.dumps(rows, indent=1))
    done = swift(stand_ins, data, tmp_path / "out")
    assert f"Stage 1: 8 rows of {data}, 1 of them with a confidence, " in done.stdout
    assert "\n  4 steps\n" in done.stdout and "trained 8" in done.stdout


def test_an_image_that_is_cut_off_is_refused(stand_ins, rows, tmp_path):
    """Its head is whole. ms-swift would train on another row in its place, and go on."""
    for name in ("3.png", "4.jpg"):
        Image.effect_noise((84, 84), 50).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    rows[4]["images"] = ["4.jpg"]
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    done = swift(stand_ins, data, tmp_path / "out", check=False)
    assert done.returncode == 2
    assert f"{data}, line 4, field 'images[0]': image 3.png: cannot be read" in done.stderr
    assert "(2 of 8 rows cannot be trained on)" in done.stderr


def test_files_of_the_user_in_the_output_folder_stay_there(stand_ins, rows, tmp_path):
    """Under the names, too, that an evaluation has for its own."""
    data, output = write_jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out"
    output.mkdir()
    own = [output / name for name in ("merged.jsonl", "metrics.json", "notes.txt")]
    for path in own:
        path.write_text("mine")
    for overwrite in ("false", "true"):
        assert "trained 8" in swift(stand_ins, data, output, overwrite=overwrite).stdout
        assert [path.read_text() for path in own] == ["mine"] * 3


def test_rows_over_the_length_are_left_out_and_said(stand_ins, rows, tmp_path):
    rows[3]["messages"][1]["content"] = ANSWER.replace("a</think>", "word " * 300 + "</think>")
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    done = swift(stand_ins, data, tmp_path / "out", max_length=300, MIN_PIXELS=3136, MAX_PIXELS=12544)
    assert "8 rows of" in done.stdout and "\n  1 rows left out: over 300 tokens\n" in done.stdout
    assert "trained 7" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ["none.png"]}, "line 3, field 'images[0]': image none.png: no such file"),
        ({"images": []}, "line 3, field 'messages': expected"),
        ({"messages": "text"}, "line 3, field 'messages': expected"),
    ],
)
def test_a_row_that_cannot_be_trained_on_ends_the_start_and_is_named(stand_ins, rows, tmp_path, change, message):
    rows[2] = {**rows[2], **change}
    done = swift(stand_ins, write_jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out", check=False)
    assert done.returncode == 2
    assert message in done.stderr and "trained" not in done.stdout
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "dataset.jsonl").exists()


def test_a_folder_trained_for_something_else_is_refused_with_each_difference(stand_ins, rows, tmp_path):
    data, other = write_jsonl(tmp_path / "data.jsonl", rows), write_jsonl(tmp_path / "other.jsonl", rows[:4])
    output = tmp_path / "out"
    swift(stand_ins, data, output)
    refused = swift(stand_ins, other, output, check=False, learning_rate="2e-5")
    assert refused.returncode == 2 and "trained" not in refused.stdout
    assert refused.stderr.count("\n") == 1
    for part in (
        "data.sha256 was",
        "settings.learning_rate was 1e-05, is 2e-05",
        "overwrite=true",
        "resume_anyway=true",
    ):
        assert part in refused.stderr
    model = shutil.copytree(TOY_CHECKPOINT, tmp_path / "model")
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    assert "checkpoint.sha256 was" in swift(stand_ins, data, output, check=False, model=model).stderr
    mixed = swift(stand_ins, other, output, resume_anyway="true")
    assert f"trained 4 from {output}/checkpoint-4" in mixed.stdout and "are mixed: data.sha256" in mixed.stderr
    anew = swift(stand_ins, data, output, overwrite="true")
    assert f"trained 8 from {TOY_CHECKPOINT}" in anew.stdout and "resuming" not in anew.stdout


def test_a_finished_training_says_so_and_one_that_failed_goes_on(stand_ins, rows, tmp_path):
    data, output = write_jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out"
    swift(stand_ins, data, output)
    # How the batch is spread decides nothing: the same run.
    again = swift(stand_ins, data, output, batch_size=1, accumulation=2, save_steps=7)
    assert f"Stage 1 is finished: {output}/checkpoint-4. Nothing is left to train" in again.stdout
    assert "trained" not in again.stdout
    failed = tmp_path / "failed"
    shutil.copytree(output / "checkpoint-4", failed / "checkpoint-4")
    unknown = swift(stand_ins, data, failed, check=False)
    assert unknown.returncode == 2 and "have no run.json" in unknown.stderr
    assert swift(stand_ins, data, failed, check=False, resume_anyway="true", swift_args="--fail").returncode == 1
    assert f"resuming from {failed}/checkpoint-4" in swift(
        stand_ins, data, failed, check=False, swift_args="--fail"
    ).stdout  # fmt: skip


def test_a_start_that_left_no_checkpoint_binds_the_folder_to_nothing(stand_ins, rows, tmp_path):
    data, output = write_jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out"
    assert swift(stand_ins, data, output, check=False, swift_args="--fail").returncode == 1
    assert "trained 8" in swift(stand_ins, data, output, learning_rate="2e-5").stdout


def test_an_option_after_the_template_s_name_counts_for_trainer_plan_and_identity(stand_ins, rows, tmp_path):
    data, output = write_jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out"
    options = ("--learning-rate", "3e-5", "--weight_decay=0.2", "--model", TOY_CHECKPOINT, "--max_steps", "2")
    done = swift(stand_ins, data, output, options=options, model="/nowhere")
    assert "learning rate 3e-5" in done.stdout and "\n  2 steps\n" in done.stdout
    settings = json.loads((output / "run.json").read_text())["identity"]["settings"]
    assert (settings["learning_rate"], settings["weight_decay"]) == (3e-5, 0.2)
    resumed = swift(stand_ins, data, output, options=(*options, "--seed", "7"), model="/nowhere", resume_anyway="true")
    assert f"from {output}/checkpoint-4" in resumed.stdout


def test_attention_is_flash_attn_where_it_is_installed_else_sdpa_and_the_plan_says_it(stand_ins, rows, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", rows)

    def planned(name, check=True, **settings):
        # A hub name: printing looks at no checkpoint then.
        model = "Qwen/Qwen2.5-VL-7B-Instruct"
        settings = {"use_cpu": "false", "print_command": "true", "check": check, "model": model, **settings}
        return swift(stand_ins, data, tmp_path / name, **settings)

    def chosen(**settings):
        words = planned("out", **settings).stdout.splitlines()
        return words[words.index("--attn_impl") + 1]

    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").touch()
    assert chosen() == "sdpa"
    assert (chosen(PYTHONPATH=tmp_path), chosen(PYTHONPATH=tmp_path, attn_impl="eager")) == ("flash_attn", "eager")
    missing = planned("out", check=False, attn_impl="flash_attn")
    assert missing.returncode == 2 and "attn_impl=flash_attn, but" in missing.stderr


@pytest.mark.parametrize(
    ("stage", "named"), [(1, "argument --n_gpu"), (3, "stage 3: trainer.n_gpus_per_node=abc")], ids=["ms-swift", "verl"]
)
def test_a_number_of_gpus_that_is_none_is_one_line(stand_ins, tmp_path, stage, named):
    done = template(stage, stand_ins, check=False, n_gpu="abc", output_dir=tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(named) and "expected a whole number of at least 1" in done.stderr


WORLD = """
import torch
torch.distributed.init_process_group("gloo")
counted = torch.ones(1)
torch.distributed.all_reduce(counted)
print(f"rank {torch.distributed.get_rank()} of {int(counted)}\\n", end="")  # in one piece: both write to one pipe
torch.distributed.destroy_process_group()  # a process that leaves a group open can abort at its exit
"""


def test_on_cpu_two_processes_are_two_and_the_plan_says_so(rows, tmp_path):
    (tmp_path / "swift" / "cli").mkdir(parents=True)
    (tmp_path / "swift" / "__init__.py").touch()
    (tmp_path / "swift" / "cli" / "sft.py").write_text(WORLD)
    done = swift(tmp_path, write_jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out", cpu_processes=2)
    assert "2 device(s) × 1 machine(s) × 2 × 1 accumulated = batch 4," in done.stdout
    ranks = sorted(line for line in done.stdout.splitlines() if line.startswith("rank"))
    assert ranks == ["rank 0 of 2", "rank 1 of 2"]
