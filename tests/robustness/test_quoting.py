"""The templates from a checkout in a folder whose name has spaces, quotes and what a shell would act on."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import REPO, TOY_CHECKPOINT, read_jsonl, run, write_jsonl
from tests.helpers.endpoint_server import serve

NAME = """it's a "quoted" $(touch pwned) `touch pwned` folder; & # \\n"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """This checkout's files, under such a name; at the end, nothing of the name was run."""
    folder = tmp_path_factory.mktemp("quoting") / NAME
    for name in run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0"):
        if name and (REPO / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, folder / name)
    yield folder
    assert [path for place in (folder, folder.parent, REPO, Path.cwd()) for path in place.glob("pwned*")] == []


def start(checkout, template, *arguments, check=True, **settings):
    environment = {**os.environ, "python": sys.executable, **{name: str(value) for name, value in settings.items()}}
    return run("bash", checkout / template, *arguments, cwd=checkout, env=environment, check=check)


@pytest.fixture
def endpoint():
    with serve() as server:
        yield server


def test_the_main_job_infers_evaluates_and_reports_with_images_of_another_such_folder(checkout, endpoint):
    """The endpoint spares the model's start: that one is in test_templates, whose checkout has quotes, too."""
    photos, more = (checkout.parent / f"{kind} of {NAME}" for kind in ("photos", "more"))
    for folder in (photos, more):
        folder.mkdir()
        Image.new("RGB", (60, 60), "teal").save(folder / 'a photo\'s "name".png')
    rows = [{"id": folder.name, "image": str(folder / "a photo's \"name\".png"), "ground_truth": "positive",
             "candidates": ["positive", "negative"], "task": "FI-2"} for folder in (photos, more)]  # fmt: skip
    data = write_jsonl(checkout / "my data.jsonl", rows)
    settings = {"data_path": data, "engine": "openai", "base_url": endpoint.url, "model_name": "my model's \"name\"",
                "image_root": f"{photos}:{more}"}  # fmt: skip
    shutil.move(data, checkout.parent / "my data.jsonl")  # neither beside the images nor in the working directory
    settings["data_path"] = checkout.parent / "my data.jsonl"
    run_folder = checkout.parent / f"run in {NAME}"
    done = start(checkout, "inference/infer_and_eval_example.sh", output_path=run_folder, **settings)
    assert "read 2 = predicted 2 + failed 0" in done.stdout
    assert "no thumbnail" not in done.stderr
    assert (run_folder / "report.html").is_file()
    assert [row["image"] for row in read_jsonl(run_folder / "merged.jsonl")] == [row["image"] for row in rows]


def test_without_image_root_the_same_images_are_refused(checkout, endpoint):
    photos = checkout.parent / "private"
    photos.mkdir()
    Image.new("RGB", (60, 60)).save(photos / "a.png")
    row = {"image": str(photos / "a.png"), "ground_truth": "positive", "candidates": ["positive", "negative"],
           "task": "FI-2"}  # fmt: skip
    data = checkout / "private data" / "test.jsonl"
    data.parent.mkdir()
    write_jsonl(data, [row])
    done = start(checkout, "inference/infer.sh", 0, data_path=data, output_path=checkout / "refused", engine="openai",
                 base_url=endpoint.url, model_name="m")  # fmt: skip
    assert "predicted 0 (0 of them before) + failed 1" in done.stderr and "give --image_root FOLDER" in done.stderr
    assert not endpoint.tries


@pytest.mark.parametrize("template", ["step1_example.sh", "step2_example.sh", "one_gpu_example.sh"])
def test_stages_1_and_2_hand_every_path_on_as_one_word(checkout, template):
    data = checkout / "my rows.jsonl"
    data.write_text("{}\n")
    number = ("1",) if template.startswith("one_gpu") else ()
    done = start(checkout, f"train/{template}", *number, dataset=data, model=TOY_CHECKPOINT, print_command="true",
                 output_dir=checkout / "out", output=checkout / "out", print="true", use_cpu="false")  # fmt: skip
    words = done.stdout.splitlines()
    assert words[words.index("--custom_register_path") + 1] == str(checkout / "train" / "swift_plugins.py")
    assert words[words.index("--dataset") + 1] == str(data)
    assert words[words.index("--output_dir") + 1].startswith(f"{checkout}/out")
    if "--config_file" in words:
        assert words[words.index("--config_file") + 1] == str(checkout / "train" / "fsdp_offload.json")


@pytest.mark.security
@pytest.mark.parametrize("template", ["step3_example.sh", "one_gpu_example.sh"])
def test_stage_3_s_configuration_has_every_path_as_it_is(checkout, template):
    import yaml

    number = ("3",) if template.startswith("one_gpu") else ()
    paths = {"dataset": checkout / "my rows.parquet", "validation": checkout / "other rows.parquet"}
    done = start(checkout, f"train/{template}", *number, **paths, output_dir=checkout / "out", output=checkout / "out",
                 model=checkout / "a model", print="true", print_config="true")  # fmt: skip
    config = yaml.safe_load(done.stdout[done.stdout.index("actor_rollout_ref:") :])
    assert config["data"]["train_files"] == str(paths["dataset"])
    assert config["data"]["val_files"] == str(paths["validation"])
    assert config["actor_rollout_ref"]["model"]["path"] == str(checkout / "a model")
    assert config["actor_rollout_ref"]["model"]["trust_remote_code"] is False
    reads = config.get("reward") or config  # where the installed verl reads it
    assert reads["custom_reward_function"]["path"] == str(checkout / "train" / "cus_reward.py")
    assert config["trainer"]["default_local_dir"].startswith(f"{checkout}/out")


@pytest.mark.security
def test_a_stage_of_the_toy_training_runs_there(checkout):
    """ms-swift for real: it imports the plugins by their path and finds its data."""
    generate = ("-m", "scripts.toy_world.generate", "--output_dir", "toy data", "--test", "1", "--stage1", "8")
    run(sys.executable, *generate, "--processes", "1", cwd=checkout)
    start(checkout, "train/step1_example.sh", model=TOY_CHECKPOINT, dataset=checkout / "toy data" / "stage1.jsonl",
          output_dir=checkout / "stage 1", use_cpu="true", batch_size=4, accumulation=1, workers=0, max_steps=1,
          split_dataset_ratio=0, MIN_PIXELS=3136, MAX_PIXELS=12544, OMP_NUM_THREADS=1)  # fmt: skip
    (last,) = (checkout / "stage 1").glob("checkpoint-*")
    assert json.loads((last / "trainer_state.json").read_text())["global_step"] == 1
