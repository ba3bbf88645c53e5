"""Training and test files: every layout is read, checked, and converted so that the frameworks read it."""

import base64
import io
import json
import os
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.data.images import ImageSource
from inference.data.records import Record, read_records
from inference.data.vecbench import TASKS
from scripts.data import check
from scripts.data.checks import EXPECTATIONS, Checker
from scripts.data.convert import main as convert_main
from scripts.data.convert import stratified
from scripts.data.samples import BrokenSample, read_samples, reward_problem
from tests.helpers.commands import TOY_CHECKPOINT, read_jsonl, run, write_jsonl
from tests.helpers.verl_process import read_rows
from train.cus_reward import compute_score

QUESTION = "Which emotion might this image evoke? Choose the most likely one from [joy, fear]."
THOUGHT = "".join(f"<{step}>something</{step}>" for step in ("element", "human", "context", "interaction", "analysis"))
ANSWER = f"<think>{THOUGHT}</think><answer>joy</answer><confidence>0.80</confidence>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images of several kinds, good and bad."""
    folder = tmp_path_factory.mktemp("vec cot")
    Image.new("RGB", (84, 84), "orange").save(folder / "good.png")
    Image.new("RGB", (10, 400), "orange").save(folder / "thin.png")
    Image.new("L", (8000, 7000)).save(folder / "huge.png")
    (folder / "torn.png").write_bytes((folder / "good.png").read_bytes()[:120])
    return folder


def row(**changes):
    """A good training row in ms-swift's layout, with changes; a change to None takes the key away."""
    turns = [{"role": "user", "content": "<image>" + QUESTION}, {"role": "assistant", "content": ANSWER}]
    whole = {"messages": turns, "images": ["good.png"], "ground_truth": "joy", "task": "WebEmo-7", **changes}
    return {key: value for key, value in whole.items() if value is not None}


def layouts(folder):
    """The same sample in every layout."""
    content = (folder / "good.png").read_bytes()
    data_url = "data:image/png;base64," + base64.b64encode(content).decode()
    items = [{"type": "image", "image": "good.png"}, {"type": "text", "text": QUESTION}]
    listed = [{"role": "user", "content": items}, {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}]
    from_value = [{"from": "human", "value": "<image>" + QUESTION}, {"from": "gpt", "value": ANSWER}]
    unmarked = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    return {
        "ms-swift": row(),
        "absolute path": row(images=[str(folder / "good.png")]),
        "file address": row(images=[f"file://{folder}/good.png"]),
        "hub path": row(images=["hf://datasets/someone/VEC-CoT/good.png"]),
        "image object": row(images=[{"path": "good.png", "bytes": None}]),
        "data URL": row(images=[data_url]),
        "content as a list": row(messages=None, images=None, conversations=listed),
        "from and value": row(messages=None, conversations=from_value),
        "image key, no mark": row(messages=unmarked, images=None, image="good.png"),
        "label only in the answer": row(ground_truth=None),
    }


def test_every_layout_reads_as_the_same_sample(folder):
    path = write_jsonl(folder / "layouts.jsonl", layouts(folder).values())
    for name, sample in zip(layouts(folder), read_samples(path), strict=True):
        assert not isinstance(sample, BrokenSample), (name, sample)
        assert sample.messages == [{"role": "user", "content": "<image>" + QUESTION}], name
        assert (sample.answer, sample.ground_truth, sample.candidates) == (ANSWER, "joy", ["joy", "fear"]), name
        assert len(sample.images) == 1, name


def test_a_json_array_and_a_parquet_file_with_bytes_read_alike(folder):
    (folder / "array.json").write_text(json.dumps([row(id=i) for i in range(20)], indent=1))
    content = (folder / "good.png").read_bytes()
    table = pa.Table.from_pylist([row(images=[{"bytes": content, "path": None}], id=i) for i in range(150)])
    pq.write_table(table, folder / "rows.parquet")
    assert [sample.sample_id for sample in read_samples(folder / "array.json")] == [str(i) for i in range(20)]
    embedded = list(read_samples(folder / "rows.parquet"))
    assert [sample.sample_id for sample in embedded] == [str(i) for i in range(150)]
    assert base64.b64decode(embedded[-1].images[0].partition(",")[2]) == content


def test_a_test_record_without_a_prompt_is_asked_the_released_models_question(folder):
    record = {"image": "good.png", "candidates": ["joy", "fear"], "ground_truth": "joy", "task": "WebEmo-7"}
    (sample,) = read_samples(write_jsonl(folder / "record.jsonl", [record]))
    assert sample.messages[0]["content"].startswith("<image>Which emotion might this image evoke?")
    assert sample.answer is None


def answered(answer):
    return row(messages=[row()["messages"][0], {"role": "assistant", "content": answer}])


BAD_ROWS = {
    "label outside the candidates": row(ground_truth="zest"),
    "answer is not the label": row(ground_truth="fear"),
    "image missing": row(images=["nowhere.png"]),
    "image unreadable": row(images=["torn.png"]),
    "image too small": row(images=["thin.png"]),
    "image too large": row(images=["huge.png"]),
    "reasoning steps missing": answered(ANSWER.replace("human", "x")),
    "confidence out of range": answered(ANSWER.replace("0.80", "80")),
    "no confidence": answered(ANSWER.split("<confidence>")[0]),
    "no answer": row(messages=row()["messages"][:1]),
    "unreadable": row(images=["good.png", "good.png"]),
    "too long": row(messages=[{"role": "user", "content": "<image>" + QUESTION + " so" * 2000}, row()["messages"][1]]),
    "duplicate id": row(id="twice"),
}  # fmt: skip


@pytest.fixture(scope="module")
def checked(folder):
    """check_data --fix over good rows, every kind of bad row and a line that is no JSON."""
    rows = [row(id="first"), row(id="twice"), *BAD_ROWS.values()]
    source = write_jsonl(folder / "mixed.jsonl", rows)
    with open(source, "a") as handle:
        handle.write('{"messages": [torn\n')
    done = run(
        "-m", "scripts.data.check", source, "--expect", "stage2", "--tokenizer", TOY_CHECKPOINT, "--processes", "1",
        "--fix", "--output_dir", folder / "fixed", check=False,
    )  # fmt: skip
    return folder, source, done


def test_each_kind_of_bad_row_is_found_and_named_with_its_line(checked):
    _, _, done = checked
    assert done.returncode == 1
    for line, kind in enumerate(BAD_ROWS, 3):
        section = done.stdout[done.stdout.index(f" × {kind} (") :]
        assert f"\n    line {line}: " in section, kind
    assert "2 × unreadable" in done.stdout  # the line that is no JSON, too
    assert "expected one JSON object" in done.stdout
    assert "WebEmo-7" in done.stdout and "7806  differs" in done.stdout


def test_rows_are_counted_by_every_task_and_by_the_source_that_they_name(folder):
    unusual = [row(task=task, source="WebEmo", images=["nowhere.png"]) for task in TASKS]
    source = write_jsonl(folder / "sources.jsonl", [*unusual, row(source="WebEmo"), row(source="another")])
    done = run("-m", "scripts.data.check", source, "--processes", "1", check=False)
    lines = done.stdout.splitlines()
    assert lines[lines.index("WebEmo-7               3       2       1") + 1 :][:2] == [
        "  WebEmo               2       1       1",
        "  another              1       1       0",
    ]
    missing = next(line for line in lines if line.startswith("9 × image missing"))
    assert all(f"{task} 1" in missing for task in TASKS)


def test_unusual_candidates_are_a_remark_and_make_no_row_bad(folder):
    usual = row(candidates=list(TASKS["WebEmo-7"].labels))
    source = write_jsonl(folder / "candidates.jsonl", [usual, row(candidates=["joy", "calm"])])
    done = run("-m", "scripts.data.check", source, "--processes", "1")
    remarks = done.stdout.partition("Remarks; they make no row bad\n")[2]
    assert remarks.startswith(
        "1 × candidates differ from the published ones (WebEmo-7 1)\n    line 2: WebEmo-7 without"
    )
    assert "with calm" in remarks


def test_fix_parts_good_rows_from_bad_ones_and_loses_none(checked):
    folder, source, _ = checked
    good = read_jsonl(folder / "fixed" / "mixed.good.jsonl")
    bad = read_jsonl(folder / "fixed" / "mixed.bad.jsonl")
    assert [item["id"] for item in good] == ["first", "twice"]
    assert len(good) + len(bad) == len(source.read_text().splitlines())
    assert all(item["reasons"] for item in bad)
    assert [item["line"] for item in bad] == list(range(3, 3 + len(BAD_ROWS) + 1))


def test_good_rows_in_other_numbers_than_the_published_ones_are_told_by_the_exit_status(folder, monkeypatch, capsys):
    source = write_jsonl(folder / "few.jsonl", [row(candidates=["joy", "fear"])] * 2)
    words = ["check_data", str(source), "--processes", "1"]
    for more, numbers, status in (
        ([], {}, 0),
        (["--expect", "test"], {"WebEmo-7": 1000}, 1),
        (["--expect", "test"], {"WebEmo-7": 2, "FI-8": 0}, 0),
        (["--expect", "test"], {"WebEmo-7": 2, "FI-8": 1}, 1),
    ):
        monkeypatch.setitem(EXPECTATIONS, "test", numbers)
        monkeypatch.setattr(sys, "argv", words + more)
        assert check.main() == status
        assert ("differs" in capsys.readouterr().out) == bool(status)


def test_rows_that_inference_refuses_are_bad_in_a_test_file_and_a_remark_in_any_other(folder):
    """check_data asks the reader that will read: a record needs task and candidates of its own."""
    asked = {"messages": [{"role": "user", "content": "<image>" + QUESTION}], "images": ["good.png"]}
    good = {**asked, "ground_truth": "joy", "candidates": ["joy", "fear"], "task": "WebEmo-7"}
    refused = [{**good, "candidates": None}, {**good, "task": None}, {**good, "ground_truth": None}]
    source = write_jsonl(folder / "asked.jsonl", [good, {**good, "ground_truth": None, "label": "joy"}, *refused])
    assert [isinstance(item, Record) for item in read_records(source)] == [True, True, False, False, False]
    checked = ("-m", "scripts.data.check", source, "--processes", "1")
    done = run(*checked, "--expect", "test", check=False)
    assert "3 × no record for inference" in done.stdout
    assert "line 3: field 'candidates': expected a non-empty list of labels, got None" in done.stdout
    assert "\nall                    5       2       3" in done.stdout
    done = run(*checked, check=False)
    problems, remarks = done.stdout.split("Remarks; they make no row bad")
    assert "no record for inference" not in problems and "3 × no record for inference" in remarks


def test_a_test_file_that_inference_cannot_read_is_not_called_good(folder):
    (folder / "test.json").write_text(json.dumps([row(), row()], indent=1))
    done = run("-m", "scripts.data.check", folder / "test.json", "--expect", "test", "--processes", "1", check=False)
    assert done.returncode == 2 and "expected JSON lines, found a JSON array" in done.stderr


def test_a_json_array_in_another_encoding_names_the_byte(folder):
    text = json.dumps([row(id="é"), row(id="e")], ensure_ascii=False)
    (folder / "latin.json").write_bytes(text.encode("latin-1"))
    broken, good = read_samples(folder / "latin.json")
    assert "line 1, field '(line)': expected UTF-8 text, got the byte 0xe9: iconv" in broken.error
    assert good.sample_id == "e"


def counted_as_right(label):
    """Whether the reward of stage 3 counts an answer as right that is the label itself."""
    response = f"<think>{THOUGHT}</think><answer>{label}</answer><confidence>0.5</confidence>"
    return compute_score(response, label)["correctness"] == 1.0


@given(st.text(alphabet="aZ é_-.'\u00a0\u0130ß\u611f", min_size=1, max_size=6))
def test_labels_are_refused_exactly_when_the_reward_never_counts_them(label):
    assert (reward_problem(label, None) is None) == counted_as_right(label)


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


def test_candidates_that_the_reward_cannot_tell_apart_are_refused():
    assert "candidates" in reward_problem("calm", ["calm", "Calm!", "sad"])
    assert reward_problem("calm", ["calm", "calm", "calmness", "very calm"]) is None


def test_good_rows_of_every_layout_pass_and_parquet_stays_parquet(folder):
    source = write_jsonl(folder / "good rows.jsonl", layouts(folder).values())
    content = (folder / "good.png").read_bytes()
    broken = row(images=[{"bytes": content[:99]}])
    pq.write_table(pa.Table.from_pylist([row(images=[{"bytes": content}]), broken]), folder / "embedded.parquet")
    assert run("-m", "scripts.data.check", source, "--processes", "1").returncode == 0
    done = run("-m", "scripts.data.check", folder / "embedded.parquet", "--processes", "1", "--fix", check=False)
    assert done.returncode == 1
    (kept,) = pq.read_table(folder / "embedded.good.parquet").to_pylist()
    assert kept["images"][0]["bytes"] == content


def test_a_file_that_cannot_be_read_is_one_line_and_status_two(tmp_path):
    (tmp_path / "no.parquet").write_bytes(b"PAR0")
    done = run("-m", "scripts.data.check", tmp_path / "no.parquet", tmp_path / "none.jsonl", check=False)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "cannot be checked" in line]
    assert len(lines) == 2 and "Traceback" not in done.stderr


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
    done = run(sys.executable, "-c", READ_BY_SWIFT, TOY_CHECKPOINT, tmp_path / "swift.jsonl", env=environment)
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
    done = run(sys.executable, "-c", COUNT_BY_SWIFT, *targets, env={**os.environ, "USE_HF": "1"})
    assert [line for line in done.stdout.splitlines() if line.startswith("rows")] == ["rows 64 True"] * len(targets)


@pytest.mark.parametrize("form", ["swift", "verl"])
def test_a_source_that_is_not_there_leaves_no_file_behind(tmp_path, form, capsys):
    with pytest.raises(SystemExit, match="2"):
        convert(form, tmp_path / "none.jsonl", tmp_path / "out")
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{tmp_path}/none.jsonl: cannot be converted")
    assert not list(tmp_path.iterdir())


def test_a_subset_is_stratified_repeatable_and_disjoint_from_the_rest(folder, tmp_path, capsys):
    tasks = ["EmoSet-8"] * 50 + ["FI-2"] * 30 + ["WebEmo-7"] * 20
    source = write_jsonl(folder / "hundred.jsonl", [row(task=task, id=i) for i, task in enumerate(tasks)])
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
