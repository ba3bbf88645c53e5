"""Other families than Qwen2.5-VL run by their checkpoint's own processor: the same greedy text from both engines."""

import json

import pytest
import torch
from PIL import Image

from inference.data.images import PixelBudget
from inference.engines.base import EngineSettings, Request, image_unit
from inference.engines.load import load_engine
from inference.engines.processor import check_images_one_by_one, load_processor, render_prompt
from inference.runs.shards import read_results, shard_path
from tests.helpers.commands import TOY_CHECKPOINT, write_jsonl
from tests.helpers.families import FAMILIES, build
from tests.helpers.forked import run_forked

DEFAULT = ("qwen3_vl",)  # the others take two minutes more
TILES_ONE_ALONE = "llava_onevision"  # of several images each is one tile, but not in vLLM


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """family → its folder, made once."""
    folder, made = tmp_path_factory.mktemp("families"), {}

    def checkpoint(family):
        if family not in made:
            made[family] = build(family, folder / family)
        return made[family]

    return checkpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three records with images of other shapes and colours, and one with two of them."""
    folder, rows = tmp_path_factory.mktemp("data"), []
    for i, size in enumerate([(300, 200), (97, 64), (64, 150)]):
        Image.linear_gradient("L").resize(size).convert("RGB").save(folder / f"{i}.png")
        row = {"id": str(i), "image": f"{i}.png", "ground_truth": "awe", "candidates": ["awe", "fear"], "task": "FI-8"}
        rows.append(row)
    rows.append({**rows[0], "id": "pair", "image": ["0.png", "2.png"]})
    return write_jsonl(folder / "data.jsonl", rows)


def infer(checkpoint, data, output, engine, *more):
    run_forked("-m", "inference.inference_vllm", "--engine", engine, "--checkpoint", checkpoint, "--data_path", data,
               "--output_path", output, "--temperature", "0", "--max_new_tokens", "12", *more)  # fmt: skip
    return list(read_results(shard_path(output, 0, 1)))


@pytest.mark.parametrize(
    "family", [family if family in DEFAULT else pytest.param(family, marks=pytest.mark.long) for family in FAMILIES]
)
def test_both_engines_give_the_same_greedy_text_and_count_the_same_tokens(checkpoints, data, tmp_path, family):
    max_images = 1 if family == TILES_ONE_ALONE else 2
    options = ("--min_pixels", 16384, "--max_pixels", 65536, "--max_images", max_images)
    ours, theirs = (
        infer(checkpoints(family), data, tmp_path / engine, engine, *options) for engine in ("vllm", "transformers")
    )
    ours, theirs = ([result for result in side if "error" not in result] for side in (ours, theirs))
    texts = [[result["response"] for result in side] for side in (ours, theirs)]
    assert len(ours) == 2 + max_images and texts[0] == texts[1]
    means = [[result["mean_log_probability"] for result in side] for side in (ours, theirs)]
    # Gemma 3's image tokens see each other both ways; vLLM's attention on CPU has one way only.
    near = 1e-2 if family == "gemma3" else 1e-3
    assert len(set(means[0])) > 1 and means[0] == pytest.approx(means[1], abs=near)
    counted = [[(result["image_tokens"], result["prompt_tokens"]) for result in side] for side in (ours, theirs)]
    assert counted[0] == counted[1] and all(tokens > 0 for tokens, _ in counted[0])
    if image_unit(str(checkpoints(family))) > 1:
        settings = EngineSettings(str(checkpoints(family)), min_pixels=16384, max_pixels=65536)
        sizes = map(settings.budget.fit, (300, 97, 64), (200, 64, 150))
        unit = settings.budget.unit
        expected = [width * height // unit**2 for width, height in sizes]
        assert [tokens for tokens, _ in counted[0]] == [*expected, expected[0] + expected[2]]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_reads_the_tokens_that_its_processor_makes_of_a_conversation(checkpoints, family):
    """Of Gemma 3 and Idefics 3, tokenizer and template both begin a text with the same token: it is read once."""
    settings = EngineSettings(str(checkpoints(family)))
    processor, image = load_processor(settings), Image.new("RGB", settings.budget.fit(300, 200))
    text = {"type": "text", "text": "Which emotion?"}
    request = Request("1", [{"role": "user", "content": [{"type": "image"}, text]}], [image])
    prompt = render_prompt(processor, request, settings)
    read = processor(text=[prompt], images=[[image]])["input_ids"]
    turns = [{"role": "user", "content": [{"type": "image", "image": image}, text]}]
    assert (
        read
        == processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=True)[
            "input_ids"
        ]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_is_refused_for_several_images_that_a_model_sees_otherwise_than_each_alone(checkpoints, family):
    settings = EngineSettings(str(checkpoints(family)), max_images=2)
    processor = load_processor(settings)
    if family == TILES_ONE_ALONE:
        with pytest.raises(ValueError, match=r"max_images=2, but .* 70 image tokens of one image and 34 of two, where"):
            check_images_one_by_one(processor, settings)
    else:
        check_images_one_by_one(processor, settings)


def test_the_unit_of_the_budget_is_the_checkpoint_s(checkpoints):
    assert image_unit(str(TOY_CHECKPOINT)) == 28
    assert image_unit(str(checkpoints("qwen3_vl"))) == 32
    assert image_unit(str(checkpoints("internvl"))) == 1
    assert image_unit("an-endpoint/model") == 28
    assert PixelBudget(4096, 65536, 32).fit(300, 200) == (288, 192)
    assert PixelBudget(4096, 65536, 1).fit(30, 20) == (30, 20)  # the processor makes of it what it likes
    width, height = PixelBudget(4096, 65536, 1).fit(3000, 2000)
    assert width * height <= 65536 and width / height == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize("family", ["idefics3", "gemma3"])
def test_candidates_are_scored_by_a_model_without_videos(checkpoints, family):
    settings = EngineSettings(str(checkpoints(family)), engine="transformers", candidate_probabilities=True)
    engine = load_engine(settings)
    content = [{"type": "image"}, {"type": "text", "text": "Which emotion?"}]
    request = Request("1", [{"role": "user", "content": content}], [Image.new("RGB", (64, 64))], ["awe", "fear"])
    with torch.inference_mode():
        found = engine._candidate_probabilities(request, "<answer>awe</answer>")
    assert found.keys() == {"awe", "fear"} and sum(found.values()) == pytest.approx(1, abs=1e-5)


def test_thinking_is_switched_by_the_chat_template_and_refused_where_it_has_no_switch(checkpoints):
    folder = checkpoints("qwen3_vl")
    template = folder / "chat_template.jinja"
    text = template.read_text()
    request = Request("1", [{"role": "user", "content": [{"type": "image"}]}], [Image.new("RGB", (64, 64))])
    try:
        template.write_text(text + "{%- if not enable_thinking | default(true) -%}<think></think>{%- endif -%}")
        ends = {}
        for thinking in ("", "on", "off"):
            settings = EngineSettings(str(folder), thinking=thinking)
            prompt = render_prompt(load_processor(settings), request, settings)
            ends[thinking] = prompt.endswith("<think></think>")
        assert ends == {"": False, "on": False, "off": True}
    finally:
        template.write_text(text)
    with pytest.raises(ValueError, match="thinking=off, but its chat template has no such switch"):
        load_processor(EngineSettings(str(folder), thinking="off"))


IMAGE_ITEM = "if item['type'] in ('image', 'image_url')"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (f"{IMAGE_ITEM} and loop.first", "its chat template writes 1 image tokens for two: leave it at 1"),
        (
            f"if not loop.first %}}{{{{ raise_exception('one image only') }}}}{{% el{IMAGE_ITEM}",
            r"its chat template refuses two images \(one image only\): leave it at 1",
        ),
    ],
)
def test_a_chat_template_for_one_image_is_refused_where_several_are_asked_for(checkpoints, change, said):
    folder = checkpoints("qwen3_vl")
    template = folder / "chat_template.jinja"
    text = template.read_text()
    assert text.count(IMAGE_ITEM) == 1
    try:
        template.write_text(text.replace(IMAGE_ITEM, change))
        load_processor(EngineSettings(str(folder)))
        with pytest.raises(ValueError, match=f"{folder}: max_images=2, but {said}"):
            load_processor(EngineSettings(str(folder), max_images=2))
    finally:
        template.write_text(text)


def test_a_model_without_images_is_one_line(checkpoints, tmp_path, data):
    folder = checkpoints("internvl")
    template = folder / "chat_template.jinja"
    text = template.read_text()
    template.write_text(text.replace("<IMG_CONTEXT>", ""))
    try:
        command = (
            "-m",
            "inference.inference_vllm",
            "--engine",
            "transformers",
            "--checkpoint",
            folder,
            "--data_path",
            data,
        )
        done = run_forked(*command, "--output_path", tmp_path, check=False)
    finally:
        template.write_text(text)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{folder}: its processor (InternVLProcessor) writes no image token into a prompt" in last


def test_a_model_that_the_frameworks_do_not_know_is_refused_before_it_starts(checkpoints, tmp_path):
    folder = build("qwen3_vl", tmp_path / "unknown")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen9_vl"}))
    done = run_forked("-m", "inference.engines.checkpoints", folder, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{folder}/config.json: transformers" in done.stderr and "qwen9_vl" in done.stderr
