"""Converting training files: the frameworks' own loaders read every row that is written."""

import io
import json
import os
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from qwen_vl_utils import fetch_image

from inference.data.images import ImageSource, PixelBudget
from inference.data.vecbench import TASKS
from scripts.data.checks import Checker
from scripts.data.convert import main as convert_main
from scripts.data.convert import stratified
from scripts.data.samples import read_samples
from tests.helpers.commands import TOY_CHECKPOINT, read_jsonl, run, write_jsonl
from tests.helpers.forked import run_forked
from tests.helpers.training_rows import ANSWER, QUESTION, layouts, row, with_an_image
from tests.helpers.verl_process import read_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return with_an_image(tmp_path_factory.mktemp("vec cot"))


def picture(folder, number):
    """The one picture under a name of its own."""
    name = f"{number}.png"
    (folder / name).write_bytes((folder / "good.png").read_bytes())
    return name


def convert(*arguments):
    """The exit status of scripts.data.convert, run in this process."""
    return convert_main([str(argument) for argument in arguments])


READ_BY_SWIFT = """
import json, sys
sys.path.insert(0, "train")
import swift_plugins
from tests.helpers.ms_swift import load_dataset, training_template
template = training_template(sys.argv[1])
train, _ = load_dataset(sys.argv[2], split_dataset_ratio=0, num_proc=1)
image_token = template.tokenizer.convert_tokens_to_ids("<|image_pad|>")
for row in train:
    encoded = template.encode(row)
    learned = [token for token in encoded["labels"] if token != -100]
    tokens = encoded["input_ids"]
    print("row", json.dumps([tokens.count(image_token), len(tokens), template.tokenizer.decode(learned)]))
"""


def test_ms_swifts_own_loader_and_processor_read_every_converted_row(folder, tmp_path):
    source = write_jsonl(folder / "to swift.jsonl", layouts(folder).values())
    assert convert("swift", source, tmp_path / "swift.jsonl") == 0
    environment = {**os.environ, "MIN_PIXELS": "3136", "MAX_PIXELS": "12544", "USE_HF": "1"}
    done = run_forked("-c", READ_BY_SWIFT, TOY_CHECKPOINT, tmp_path / "swift.jsonl", env=environment)
    rows = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("row ")]
    assert len(rows) == len(layouts(folder))
    checker = Checker(ImageSource([folder]), tokenizer=str(TOY_CHECKPOINT))
    for sample, (image_tokens, length, learned) in zip(read_samples(tmp_path / "swift.jsonl"), rows, strict=True):
        assert image_tokens == 9
        assert learned.startswith(ANSWER)
        assert checker.length(sample, image_tokens) == length  # what check_data calls too long


def test_verls_own_data_set_reads_every_converted_row_by_address_and_embedded(folder, tmp_path):
    """Toy budget and the published one: verl's images and image tokens follow the file's budget."""
    source = write_jsonl(folder / "to verl.jsonl", layouts(folder).values())
    toy = ("--min_pixels", 3136, "--max_pixels", 12544)
    assert convert("verl", source, tmp_path / "address.parquet", *toy) == 0
    assert convert("verl", source, tmp_path / "embedded.parquet", "--embed", *toy) == 0
    run("-m", "scripts.data.convert", "verl", source, tmp_path / "published.parquet")
    rows = read_rows(
        tmp_path / "cache", *(tmp_path / f"{name}.parquet" for name in ("address", "embedded", "published"))
    )
    n = len(layouts(folder))
    assert rows[: 2 * n] == [["emocaliber", "joy", [84, 84], 9]] * (2 * n)
    # verl resizes to 256 image tokens; the toy model's own processor then brings them into its budget.
    assert [item[2] for item in rows[2 * n :]] == [[448, 448]] * n
    (first, *_) = pq.read_table(tmp_path / "address.parquet").to_pylist()
    assert [turn["role"] for turn in first["prompt"]] == ["system", "user"]  # the answer is not given away
    assert first["images"][0]["image"] == f"file://{folder}/good.png"


def test_rows_that_cannot_be_used_are_kept_with_their_reason(folder, tmp_path, capsys):
    source = write_jsonl(folder / "some bad.jsonl", [row(), row(images=["nowhere.png"]), row(task=7), row()])
    assert convert("verl", source, tmp_path / "rows.parquet") == 1
    assert "read 4 = written 2 + failed 2" in capsys.readouterr().out
    assert pq.read_metadata(tmp_path / "rows.parquet").num_rows == 2
    first, second = read_jsonl(tmp_path / "rows.parquet.errors.jsonl")
    assert f"{source}, line 2: image nowhere.png: no such file" in first["error"]
    assert f"{source}, line 3, field 'task': expected a task name, got 7" in second["error"]


@pytest.mark.parametrize("label", ["very happy", "self-confident", "don't know"])
def test_labels_that_the_reward_never_counts_do_not_get_into_stage_3(folder, tmp_path, capsys, label):
    labelled = {"candidates": ["joy", label], "messages": [{"role": "user", "content": "<image>Which?"}]}
    source = write_jsonl(tmp_path / "labels.jsonl", [row(**labelled), row(**labelled, ground_truth=label)])
    assert convert("verl", source, tmp_path / "out.parquet", "--image_root", folder) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    wanted = "line 2: field 'ground_truth': expected one word without punctuation, which is all that the reward"
    assert f"{source}, {wanted}" in told and repr(label)[1:-1] in told
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 1
    done = run("-m", "scripts.data.check", source, "--expect", "stage3", "--processes", "1", "--image_root", folder,
               check=False)  # fmt: skip
    assert "1 × label that the reward cannot count" in done.stdout and "line 2: field 'ground_truth'" in done.stdout


ODD_COLUMNS = {  # of row i
    "objects in all rows": lambda i: {"objects": ["dog", "tree"]},
    "objects in half of the rows": lambda i: {"objects": ["dog"]} if i % 2 else {},
    "columns of other trainings": lambda i: {
        "channel": "web", "label": "joy", "loss": 1, "margin": "x", "rejected_response": "no", "system": "s",
        "query": "q", "response": "r", "solution": "s", "videos": [], "audios": [], "tools": "",
        "id": i if i % 2 else f"img_{i}",
    },
    "other types after 10 MB, which a loader guesses from": lambda i: {
        "note": None if i < 60 else "checked by hand",
        "id": "2019-03-04" if i < 60 else f"img_{i}",
        "meta": {"source": "EmoSet"} if i < 60 else {"source": "FI", "url": "x"},
        **({} if i < 60 else {"late": 1}),
    },
}  # fmt: skip

COUNT_BY_SWIFT = """
import sys
from tests.helpers.ms_swift import load_dataset
for path in sys.argv[1:]:
    train, _ = load_dataset(path, split_dataset_ratio=0, num_proc=1)
    print("rows", len(train), all(row["images"] and row["messages"] for row in train))
"""


def test_ms_swift_reads_every_row_whatever_the_other_columns_which_are_kept_beside(folder, tmp_path, capsys):
    targets = []
    for name, columns in ODD_COLUMNS.items():
        answer = ANSWER.replace("<analysis>", "<analysis>" + "x " * (100_000 if "10 MB" in name else 10))
        turns = [{"role": "user", "content": "<image>" + QUESTION}, {"role": "assistant", "content": answer}]
        plain_row = {"messages": turns, "images": ["good.png"]}
        source = write_jsonl(folder / f"{name}.jsonl", [{**plain_row, **columns(i)} for i in range(64)])
        targets.append(tmp_path / f"{name}.jsonl")
        assert convert("swift", source, targets[-1]) == 0
        assert f"{targets[-1]}.columns.jsonl" in capsys.readouterr().out
        kept = {row.pop("line"): row for row in read_jsonl(f"{targets[-1]}.columns.jsonl")}
        assert [kept.get(i + 1, {}) for i in range(64)] == [columns(i) for i in range(64)]
        assert all(row.keys() == {"messages", "images"} for row in read_jsonl(targets[-1]))
    done = run_forked("-c", COUNT_BY_SWIFT, *targets, env={**os.environ, "USE_HF": "1"})
    assert [line for line in done.stdout.splitlines() if line.startswith("rows")] == ["rows 64 True"] * len(targets)


@pytest.mark.parametrize("form", ["swift", "verl"])
def test_a_source_that_is_not_there_leaves_no_file_behind(tmp_path, form, capsys):
    with pytest.raises(SystemExit, match="2"):
        convert(form, tmp_path / "none.jsonl", tmp_path / "out")
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{tmp_path}/none.jsonl: cannot be converted")
    assert not list(tmp_path.iterdir())


def test_a_subset_is_stratified_repeatable_and_disjoint_from_the_rest(folder, tmp_path, capsys):
    tasks = ["EmoSet-8"] * 50 + ["FI-2"] * 30 + ["WebEmo-7"] * 20
    rows = [row(task=task, id=i, images=[picture(folder, i)]) for i, task in enumerate(tasks)]
    source = write_jsonl(folder / "hundred.jsonl", rows)
    indices = []
    for name in ("a", "b"):
        rest = tmp_path / f"{name}_rest.parquet"
        assert convert("verl", source, tmp_path / f"{name}.parquet", "--subset", 10, "--rest", rest) == 0
        assert "read 100 = written 10 + rest 90 + failed 0" in capsys.readouterr().out
        chosen, rest = (pq.read_table(tmp_path / f"{name}{part}.parquet").to_pylist() for part in ("", "_rest"))
        assert Counter(item["extra_info"]["task"] for item in chosen) == {"EmoSet-8": 5, "FI-2": 3, "WebEmo-7": 2}
        indices.append([item["extra_info"]["index"] for item in chosen])
        assert sorted(indices[-1] + [item["extra_info"]["index"] for item in rest]) == list(range(100))
    assert indices[0] == indices[1]


def test_no_image_is_both_in_the_subset_and_in_the_rest(folder, tmp_path, capsys):
    """Three tasks about the same 20 images, and one about 20 others."""
    tasks = {"WebEmo-2": range(20), "WebEmo-7": range(20), "WebEmo-25": range(10), "FI-2": range(20, 40)}
    rows = [row(task=task, images=[picture(folder, i)]) for task, numbers in tasks.items() for i in numbers]
    source = write_jsonl(folder / "shared.jsonl", rows)
    subset, rest = tmp_path / "subset.parquet", tmp_path / "rest.parquet"
    assert convert("verl", source, subset, "--subset", 14, "--rest", rest) == 0
    chosen, others = (
        {item["images"][0]["image"] for item in pq.read_table(path).to_pylist()} for path in (subset, rest)
    )
    assert chosen and others and not chosen & others
    n_rest = pq.read_metadata(rest).num_rows
    assert (
        f"read 70 = written 14 + rest {n_rest} + left out {56 - n_rest} + failed 0\n"
        f"left out: rows of images that are in {subset}, too\n"
    ) in capsys.readouterr().out
    assert 56 - n_rest <= 6  # the tasks have chosen the same images, where each has them


@given(st.dictionaries(st.sampled_from(sorted(TASKS)), st.integers(1, 500), min_size=1), st.integers(0, 2000))
def test_strata_add_up_and_are_within_one_of_their_share(tasks, size):
    shares = stratified(Counter(tasks), size)
    total = sum(tasks.values())
    wanted = min(size, total)
    assert sum(shares.values()) == wanted
    for task, count in tasks.items():
        assert 0 <= shares[task] <= count
        assert abs(shares[task] - count * wanted / total) < 1


def test_parquet_is_written_in_row_groups(folder, tmp_path):
    source = write_jsonl(folder / "many.jsonl", [row(id=i) for i in range(600)])
    assert convert("verl", source, tmp_path / "rows.parquet") == 0
    assert pq.read_metadata(tmp_path / "rows.parquet").num_row_groups == 3


def test_an_embedded_image_becomes_a_file_for_frameworks_that_want_one(folder, tmp_path):
    content = (folder / "good.png").read_bytes()
    pq.write_table(pa.Table.from_pylist([row(images=[{"bytes": content}])] * 2), tmp_path / "in.parquet")
    assert convert("swift", tmp_path / "in.parquet", tmp_path / "out.jsonl") == 0
    first, second = read_jsonl(tmp_path / "out.jsonl")
    assert first["images"] == second["images"]
    with Image.open(io.BytesIO(open(first["images"][0], "rb").read())) as image:
        assert image.size == (84, 84)


def odd_pictures(folder):
    """Names of pictures that a reader without EXIF, transparency or 16 bits shows otherwise."""
    colours = np.zeros((112, 224, 3), np.uint8)
    colours[:, :112], colours[:56, 112:], colours[56:, 112:] = (220, 30, 30), (30, 30, 220), (240, 220, 40)
    picture, alpha = Image.fromarray(colours), np.full((112, 224), 255, np.uint8)
    alpha[:, :112] = 0
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    picture.save(folder / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(np.dstack([colours, alpha])).save(folder / "alpha.png")
    Image.fromarray(np.dstack([colours[..., 0], alpha])).save(folder / "grey and alpha.png")
    picture.quantize(8).save(folder / "palette.png", transparency=0)
    picture.save(folder / "one transparent colour.png", transparency=(220, 30, 30))
    Image.fromarray(np.linspace(0, 65535, 112 * 224, dtype=np.uint16).reshape(112, 224)).save(folder / "16 bits.png")
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", ["swift", "verl", "verl, embedded"])
def test_the_frameworks_are_shown_the_pixels_that_inference_shows(tmp_path, form):
    """As they read images: verl leaves all to qwen_vl_utils, ms-swift makes RGB of them first."""
    names = odd_pictures(tmp_path)
    source = write_jsonl(tmp_path / "in.jsonl", [row(images=[name]) for name in names])
    target = tmp_path / "out"
    kind, *embedded = form.split(", ")
    assert convert(kind, source, target, *(["--embed"] if embedded else [])) == 0
    rows = read_jsonl(target) if kind == "swift" else pq.read_table(target).to_pylist()
    budget = PixelBudget()
    limits = {"min_pixels": budget.min_pixels, "max_pixels": budget.max_pixels}
    for name, written in zip(names, rows, strict=True):
        (image,) = written["images"]
        if kind == "swift":
            image = {"image": Image.open(image).convert("RGB"), **limits}
        elif embedded:
            image = {**image, "image": Image.open(io.BytesIO(image["bytes"]))}
        expected = ImageSource([tmp_path], budget).load(name)
        assert np.array_equal(np.asarray(fetch_image(image)), np.asarray(expected)), name
