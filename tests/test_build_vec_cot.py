"""Building VEC-CoT: the split, the checks on a teacher's text, the confidence, and all of it on the toy world."""

import base64
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO, read_jsonl, run, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.prompts import recognition_prompt
from inference.response import REASONING_STEPS, read_response
from inference.results import read_results, shard_path
from inference.vecbench import MIKELS_8
from scripts.build_vec_cot import __main__ as build_command
from scripts.build_vec_cot import assemble, report, split, stages
from scripts.build_vec_cot.confidence import smoothed_confidence
from scripts.build_vec_cot.fingerprints import Fingerprint, fingerprint, like_images
from scripts.build_vec_cot.stages import PUBLISHED_ROWS, STAGES, assign_stages, quotas
from scripts.build_vec_cot.verify import Limits, compose, problems
from scripts.samples import Sample, read_samples
from scripts.toy_world.draw import draw_scene
from scripts.toy_world.world import sample

LIMITS = Limits(5, 60)
SECTIONS = {
    "element": "Warm light falls on the meadow.",
    "human": "Two people smile.",
    "context": "A summer afternoon outdoors.",
    "interaction": "They lean on each other.",
    "analysis": "Warmth and closeness speak of contentment.",
}
GOOD = compose(SECTIONS, "contentment")


def codes(response, label="contentment", limits=LIMITS, truncated=False):
    return [problem.code for problem in problems(response, label, limits, truncated)]


# --- (b) the checks on a teacher's text ---------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        GOOD,
        GOOD.replace("><", ">\n  <") + "\n",
        GOOD + "<confidence>0.8</confidence>",
        GOOD.replace("<answer>contentment", "<answer> Contentment "),
    ],
)
def test_five_sections_and_the_label_pass(response):
    assert problems(response, "contentment", LIMITS) == []


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("", "missing_section"),
        (GOOD.replace("<think>", "").replace("</think>", ""), "missing_section"),
        (GOOD.replace("</human>", ""), "missing_section"),
        (GOOD.replace("<human>Two people smile.</human>", ""), "missing_section"),
        (GOOD.replace("Two people smile.", "  "), "empty_section"),
        (GOOD.replace("</context>", "</context><context>Again.</context>"), "repeated_section"),
        (GOOD.replace("Two people", "<element>Two</element> people"), "repeated_section"),
        (GOOD + "<answer>contentment</answer>", "repeated_section"),
        (GOOD.replace("Two people", "Two <b>people</b>"), "markup"),
        (GOOD.replace("Two people", "<image> Two people"), "markup"),
        (GOOD.replace("smile.", "smile.<|im_end|>"), "markup"),
        ("Here it is: " + GOOD, "layout"),
        (f"```\n{GOOD}\n```", "layout"),
        (GOOD.replace("</think>", " So it is.</think>"), "layout"),
        (GOOD.replace("<think>", "<think></think>").replace("</analysis></think>", "</analysis>"), "layout"),
        (GOOD.replace("element>", "#").replace("human>", "element>").replace("#", "human>"), "layout"),
        (GOOD.replace("<answer>contentment", "<answer>awe"), "wrong_answer"),
        (GOOD.replace("<answer>contentment", "<answer>It is contentment."), "wrong_answer"),
        (GOOD.replace("Warmth and", "The label says contentment: warmth and"), "leak"),
        (GOOD.replace("Two people smile.", "Two people smile." + " They do." * 30), "too_long"),
    ],
)
def test_each_failed_check_has_its_reason(response, code):
    assert codes(response)[0] == code
    assert len(set(codes(response))) == 1


def test_too_few_words_and_a_response_cut_off_have_their_reasons():
    assert codes(compose(dict.fromkeys(SECTIONS, "x"), "awe"), "awe", Limits(6, 60)) == ["too_short"]
    assert codes(GOOD[:-20], truncated=True) == ["truncated"]
    assert codes(GOOD.replace("<answer>contentment", "<answer>awe"), limits=Limits(1, 2)) == [
        "wrong_answer",
        "too_long",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "The label says contentment.",
        "This matches the given emotion.",
        "Ground truth: contentment.",
        "The provided answer is contentment.",
        "As specified, it is contentment.",
        "THE CORRECT ANSWER IS contentment.",
        "It is labeled as contentment.",
        "I was told that it evokes contentment.",
        "According to the prompt, contentment.",
        "The annotators saw contentment.",
        "Of the emotion that was given, much can be seen.",
    ],
)
def test_a_text_that_tells_it_was_told_is_a_leak(sentence):
    assert codes(GOOD.replace("Two people smile.", f"Two people smile. {sentence}")) == ["leak"]


@pytest.mark.parametrize(
    "sentence",
    [
        "A bottle with a torn label stands near.",
        "They have given each other flowers.",
        "The true colours are muted.",
        "Strong emotion is visible.",
        "The ground is true to nature.",
        "He answers her smile.",
        "Nothing is asked of them.",
    ],
)
def test_a_text_about_the_image_is_no_leak(sentence):
    assert codes(GOOD.replace("Two people smile.", f"Two people smile. {sentence}")) == []


PLAIN = st.text(st.characters(exclude_characters="<>", exclude_categories=("Cs",)), min_size=1).filter(str.strip)


@given(st.fixed_dictionaries({step: PLAIN for step in REASONING_STEPS}), st.sampled_from(MIKELS_8))
def test_whatever_plain_text_the_sections_have_their_form_passes(sections, label):
    assert set(codes(compose(sections, label), label, Limits(1, 10**6))) <= {"leak", "too_short"}


@given(st.data(), st.text(st.characters(exclude_characters="<>"), min_size=1).filter(str.strip))
def test_text_between_any_two_sections_is_found(data, text):
    places = [match.start() for match in re.finditer(r"<(?!/)", GOOD)] + [len(GOOD), GOOD.index("</think>")]
    place = data.draw(st.sampled_from(sorted(set(places) - {GOOD.index("<element>")})))
    assert "layout" in codes(GOOD[:place] + text + GOOD[place:])


# --- (d) the confidence -------------------------------------------------------------------


@given(st.integers(1, 200), st.floats(0, 5), st.data())
def test_a_confidence_is_near_its_share_in_steps_of_005_and_never_certain(sample_count, smoothing, data):
    label_count = data.draw(st.integers(0, sample_count))
    value = smoothed_confidence(label_count, sample_count, smoothing)
    assert 0.05 <= value <= 0.95
    assert value == round(round(20 * value) / 20, 10)
    share = (label_count + smoothing) / (sample_count + 2 * smoothing)
    assert abs(value - min(0.95, max(0.05, share))) <= 0.025 + 1e-9
    if label_count:
        assert smoothed_confidence(label_count - 1, sample_count, smoothing) <= value


def test_ten_samples_give_these_confidences():
    values = [smoothed_confidence(k, 10, 0.5) for k in range(11)]
    assert values == [0.05, 0.15, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85, 0.95]


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match="expected 0 <= k <= K"):
        smoothed_confidence(*counts, 0.5)


# --- (c) the same picture -----------------------------------------------------------------


def scene(seed):
    rng = random.Random(seed)
    return draw_scene(sample("EmoSet-8", rng)[1], "plain", rng)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer).convert("RGB")


def resized(image, factor):
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def copies(image):
    yield from (resized(image, factor) for factor in (0.5, 0.75, 1.5, 2.5))
    yield from (encoded(image, "JPEG", quality=quality) for quality in (90, 50))
    yield encoded(resized(image, 0.7), "JPEG", quality=60)
    yield encoded(image, "WEBP", quality=60)


def test_resized_and_re_encoded_copies_of_a_scene_are_one_picture_and_other_scenes_are_not():
    scenes = [scene(seed) for seed in range(40)]
    families = [[image, *copies(image)] for image in scenes]
    groups = like_images([fingerprint(image) for family in families for image in family]).reshape(len(scenes), -1)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0].tolist())) == len(scenes)


def test_scenes_that_differ_in_colour_alone_are_different_pictures():
    """A grey hash cannot see it; the thumbnail can."""
    image = scene(1)
    red, green, blue = image.split()
    groups = like_images([fingerprint(image), fingerprint(Image.merge("RGB", (green, red, blue)))])
    assert groups[0] != groups[1]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_like_images_are_those_that_a_comparison_of_all_pairs_finds(seed):
    rng = np.random.default_rng(seed)
    bits = np.repeat(rng.integers(0, 2, (6, 64)), 5, axis=0)
    for row in bits:
        row[rng.choice(64, rng.integers(0, 9), replace=False)] ^= 1
    tones = rng.integers(0, 3, (30, 1)) * np.ones((30, 192), dtype=int) * 2
    prints = [
        Fingerprint(np.packbits(b).tobytes(), t.astype(np.uint8).tobytes()) for b, t in zip(bits, tones, strict=True)
    ]
    alike = ((bits[:, None] != bits[None]).sum(-1) <= 8) & (np.abs(tones[:, None] - tones[None]).mean(-1) <= 3.0)
    expected = np.arange(30)
    for _ in range(30):  # the least number that can be reached
        expected = np.where(alike, expected[None], 30).min(axis=1)
    found = like_images(prints)
    assert ((found[:, None] == found[None]) == (expected[:, None] == expected[None])).all()


# --- (c) the split ------------------------------------------------------------------------


def test_the_published_rows_are_the_papers():
    assert [sum(rows) for rows in PUBLISHED_ROWS.values()] == [49_939, 20_518, 26_065, 5_821, 35_370, 5_643]
    by_stage = [sum(rows) for rows in zip(*PUBLISHED_ROWS.values(), strict=True)]
    assert by_stage == [86_067, 43_033 - 90, 14_346]  # the paper's own total of stage 2 is 90 higher
    assert stages.PUBLISHED_TOTAL == (86_067, 43_033, 14_346)
    for source, rows in PUBLISHED_ROWS.items():
        assert quotas(source, sum(rows)) == list(rows)
    assert quotas("a new source", 1000) == [600, 300, 100]


@given(st.dictionaries(st.sampled_from([*PUBLISHED_ROWS, "other"]), st.integers(1, 300), min_size=1))
def test_one_row_an_image_meets_every_quota_exactly(counts):
    groups = {f"{source}/{i}": Counter([source]) for source, count in counts.items() for i in range(count)}
    assigned = assign_stages(groups)
    assert assigned.keys() == groups.keys()
    for source, count in counts.items():
        got = Counter(stage for name, stage in assigned.items() if source in groups[name])
        assert [got[stage] for stage in STAGES] == quotas(source, count)


@given(st.lists(st.sets(st.sampled_from(["WebEmo-2", "WebEmo-7", "WebEmo-25"]), min_size=1), min_size=1, max_size=400))
def test_images_with_rows_in_several_sources_miss_a_quota_by_little(shared):
    groups = {str(i): Counter(sources) for i, sources in enumerate(shared)}
    assigned = assign_stages(groups)
    for source in {source for sources in shared for source in sources}:
        got = Counter(assigned[name] for name, rows in groups.items() if source in rows)
        for stage, quota in zip(STAGES, quotas(source, got.total()), strict=True):
            assert abs(got[stage] - quota) <= 3 + 0.01 * got.total()


def labelled(folder, name, image, task="EmoSet-8", label="awe", **more):
    """Save an image and return its record."""
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / name)
    return {"image": name, "ground_truth": label, "candidates": list(MIKELS_8), "task": task, **more}


def run_split(data, test, output, *more):
    split.main(["--data_path", *map(str, data), "--test_path", *map(str, test), "--output_dir", str(output), *more])
    return {stage: read_jsonl(output / f"stage{stage}_records.jsonl") for stage in STAGES}, read_jsonl(
        output / "rejected.jsonl"
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Forty scenes in two sources that share ten of them, copies among them, and a test set of five."""
    folder = tmp_path_factory.mktemp("source s")
    rows = [labelled(folder, f"{i}.png", scene(i), "FI-8", number=i) for i in range(30)]
    rows += [labelled(folder, f"two {i}.bmp", scene(i), "FI-2", number=i) for i in range(20, 40)]
    rows.append(labelled(folder, "copy.jpg", resized(scene(3), 1.7), "FI-8", number=3))  # the label of 3.png
    rows.append(labelled(folder, "conflict.jpg", scene(4), "FI-8", "fear", number=4))  # another label than 4.png
    test = [labelled(folder / "test", f"renamed-{i}.jpg", resized(scene(i), 0.8)) for i in (5, 6, 7, 25, 100)]
    return write_jsonl(folder / "labelled.jsonl", rows), write_jsonl(folder / "test" / "test.jsonl", test)


@pytest.fixture(scope="module")
def done(sources, tmp_path_factory):
    data, test = sources
    return run_split([data], [test], tmp_path_factory.mktemp("split"))


def test_no_picture_is_in_two_stages_nor_in_the_test_set(done):
    kept, rejected = done
    numbers = [{row["number"] for row in rows} for rows in kept.values()]
    assert sum(map(len, numbers)) == len(set.union(*numbers))
    assert sum(map(len, kept.values())) + len(rejected) == 52
    out = {row["number"] for row in rejected if row["reason"] == "test_image"}
    assert out == {5, 6, 7, 25}  # though renamed, scaled and saved as JPEG
    assert set.union(*numbers) == set(range(40)) - out - {4}
    assert all("renamed-" in row["explanation"] for row in rejected if row["number"] in out)


def test_two_labels_for_one_picture_are_rejected_with_both_files(done):
    rejected = [row for row in done[1] if row["reason"] == "label_conflict"]
    assert [(row["number"], row["line"]) for row in rejected] == [(4, 5), (4, 52)]
    assert all("awe and fear" in row["explanation"] and "conflict.jpg" in row["explanation"] for row in rejected)


def test_a_kept_row_has_what_the_next_steps_read(done):
    for stage, rows in done[0].items():
        for row in rows:
            assert row["stage"] == stage and os.path.isabs(row["image"]) and Path(row["image"]).is_file()
            assert row["ground_truth"] in row["candidates"] and row["id"] and row["task"] in PUBLISHED_ROWS


def test_the_split_depends_on_pictures_not_on_names_nor_order(sources, done, tmp_path):
    data, test = sources
    rows = read_jsonl(data)
    random.Random(1).shuffle(rows)
    moved = []
    for i, row in enumerate(rows):
        with Image.open(data.parent / row["image"]) as image:
            moved.append({**labelled(tmp_path, f"{i:03d}.tiff", image.convert("RGB")), **row, "image": f"{i:03d}.tiff"})
    kept, _ = run_split([write_jsonl(tmp_path / "moved.jsonl", moved)], [test], tmp_path / "split")
    for stage in STAGES:
        assert [(row["task"], row["number"]) for row in kept[stage]] == [
            (r["task"], r["number"]) for r in done[0][stage]
        ]
    other, _ = run_split([data], [test], tmp_path / "other", "--seed", "1")
    assert [row["number"] for row in other[1]] != [row["number"] for row in done[0][1]]


def test_bad_lines_are_rejected_by_file_line_and_field_and_nothing_is_lost(sources, tmp_path, capsys):
    rows = [labelled(tmp_path, f"{i}.png", scene(i)) for i in range(6)]
    (tmp_path / "torn.png").write_bytes((tmp_path / "0.png").read_bytes()[:100])
    bad = [
        {**rows[0], "image": "gone.png"},
        {**rows[0], "image": "torn.png"},
        {**rows[0], "image": "https://example.org/1.png"},
        {**rows[0], "ground_truth": "joy"},
        {key: value for key, value in rows[0].items() if key != "candidates"},
    ]
    data = write_jsonl(tmp_path / "data.jsonl", [*bad, *rows])
    with open(data, "a") as handle:
        handle.write("{torn\n")
    kept, rejected = run_split([data], [], tmp_path / "split")
    assert sum(map(len, kept.values())) == 6
    explanations = [row["explanation"] for row in rejected]
    fields = ("image", "image", "image", "ground_truth", "candidates", "(line)")
    for line, field, text in zip((1, 2, 3, 4, 5, 12), fields, explanations, strict=True):
        assert text.startswith(f"{data}, line {line}, field '{field}': ")
    assert "read 12 = kept 6 + rejected 6 (broken_row 6)" in capsys.readouterr().out
    with pytest.raises(SystemExit):  # what cannot be looked at cannot be kept out of training
        run_split([data], [data], tmp_path / "test")
    assert "rows of the test set cannot be used" in capsys.readouterr().err


def test_an_interrupted_split_goes_on_where_it_was(sources, done, tmp_path):
    data, test = sources
    run_split([data], [test], tmp_path)
    cache = shard_path(tmp_path / "fingerprints", 0, 1)
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2])  # killed in the middle of a line
    for stage in STAGES:
        (tmp_path / f"stage{stage}_records.jsonl").unlink()
    assert run_split([data], [test], tmp_path) == done
    assert cache.read_bytes() == whole


def test_the_published_size_is_a_limit_for_each_source_and_stage(sources, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLISHED_ROWS, "FI-8", (6, 3, 1))
    kept, rejected = run_split([sources[0]], [], tmp_path, "--published_size")
    got = Counter((row["task"], row["stage"]) for rows in kept.values() for row in rows)
    assert [got["FI-8", stage] for stage in STAGES] == [6, 3, 1]
    assert sum(got["FI-2", stage] for stage in STAGES) == 20
    assert Counter(row["reason"] for row in rejected)["beyond_size"] == 20


# --- (a, b) asking a teacher through an endpoint ------------------------------------------


class Teacher(BaseHTTPRequestHandler):
    """A made-up teacher: reads the label off the prompt; what it writes depends on the request's seed."""

    protocol_version = "HTTP/1.1"
    delay = 0.0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        image, text = body["messages"][0]["content"]
        Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2]))).load()
        label = re.search(r"evokes (\w+), out of", text["text"])[1]
        sections = {**SECTIONS, "analysis": f"All this speaks of {label}, variant {body['seed'] % 1000}."}
        kind = body["seed"] % 3
        if kind == 1:
            sections["human"] = "As specified, two people smile."
        answer = compose(sections, "awe" if kind == 2 else label)
        time.sleep(self.delay)
        reply = json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def teacher():
    with ThreadingHTTPServer(("127.0.0.1", 0), Teacher) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def write_command(data, output, url, *more):
    return [
        "-m", "scripts.build_vec_cot.write_reasoning", "--data_path", data, "--output_path", output,
        "--engine", "openai", "--base_url", url, "--model_name", "made-up", "--max_num_seqs", "4",
        "--max_retries", "0", "--min_words", "5", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Thirty good rows (never labelled awe), and two that cannot be used."""
    folder = tmp_path_factory.mktemp("records")
    labels = [label for label in MIKELS_8 if label != "awe"]
    rows = [labelled(folder, f"{i}.png", scene(i), label=labels[i % 7], id=f"r{i}", stage=1) for i in range(30)]
    rows[10:10] = [{**rows[0], "id": "gone", "image": "gone.png"}, {**rows[0], "id": "joy", "ground_truth": "joy"}]
    return write_jsonl(folder / "records.jsonl", rows)


@pytest.fixture(scope="module")
def written(records, teacher, tmp_path_factory):
    output = tmp_path_factory.mktemp("written")
    return output, run(*write_command(records, output, teacher)).stdout


def three_files(output):
    return {name: (output / f"{name}.jsonl").read_bytes() for name in ("reasoning", "rejected", "error")}


def test_what_fails_is_asked_again_then_rejected_with_all_its_reasons_and_counts_add_up(written, records):
    output, printed = written
    good, rejected, error = (read_jsonl(output / f"{name}.jsonl") for name in ("reasoning", "rejected", "error"))
    assert f"read 32 = written {len(good)} + rejected {len(rejected)} + failed 2" in printed
    assert len(good) + len(rejected) == 30 and len(good) > 10 and len(rejected) > 2
    assert {row["id"] for row in error} == {"gone", "joy"}
    assert f"{records}, line 12, field 'ground_truth': expected one of the candidates" in error[1]["error"]
    assert {row["attempt"] for row in good} == {0, 1, 2}
    for row in good:
        assert row["reasoning"].keys() == SECTIONS.keys() and row["ground_truth"] in row["reasoning"]["analysis"]
    for row in rejected:
        found = [problem["code"] for attempt in row["attempts"] for problem in attempt["problems"]]
        assert len(row["attempts"]) == 3 and set(found) <= {"leak", "wrong_answer"} and row["reason"] == found[-1]
        assert len({attempt["response"] for attempt in row["attempts"]}) == 3  # other seeds, other texts
    assert {row["ground_truth"] for row in good} <= set(MIKELS_8)


def test_writing_killed_in_the_middle_and_started_again_equals_an_uninterrupted_run(
    written, records, teacher, tmp_path
):
    Teacher.delay = 0.1
    command = [str(word) for word in (sys.executable, *write_command(records, tmp_path, teacher))]
    worker = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shard = shard_path(tmp_path, 0, 1)
    deadline = time.monotonic() + 120
    while not (shard.exists() and shard.read_bytes().count(b"\n") >= 32):  # the second round has begun
        assert worker.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    Teacher.delay = 0.0
    asked = len(list(read_results(shard)))
    assert not (tmp_path / "reasoning.jsonl").exists()
    with open(shard, "ab") as handle:
        handle.write(b'{"sample_id": "r1#2", "respon')
    run(*write_command(records, tmp_path, teacher))
    assert asked < len(list(read_results(shard)))
    assert three_files(tmp_path) == three_files(written[0])
    assert shard.read_bytes() == shard_path(written[0], 0, 1).read_bytes()


def test_two_workers_and_a_collection_give_what_one_worker_gives(written, records, teacher, tmp_path):
    for index in (0, 1):
        run(*write_command(records, tmp_path, teacher, "--index", index, "--n_shards", 2))
        assert not (tmp_path / "reasoning.jsonl").exists()
        early = run(*write_command(records, tmp_path, teacher, "--collect_only"), check=False)
        assert early.returncode == (1 if index == 0 else 0)
        assert index or "15 records are still to be asked; run all workers first" in early.stderr
    assert three_files(tmp_path) == three_files(written[0])


def test_an_endpoint_that_fails_leaves_error_rows_that_the_next_start_asks_again(written, records, teacher, tmp_path):
    done = run(*write_command(records, tmp_path, "http://127.0.0.1:9/v1"), check=False)  # nobody listens there
    assert "read 32 = written 0 + rejected 0 + failed 32" in done.stdout
    assert done.returncode == 1 and "nothing was written" in done.stderr.splitlines()[-1]
    run(*write_command(records, tmp_path, teacher))
    assert three_files(tmp_path) == three_files(written[0])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "1"], "has results of another run: settings.seed was 0, is 1; take another output_path"),
        (["--teacher_prompt", "recognition"], "settings.teacher_prompt was 'People say"),
        (["--teacher_prompt", "nowhere.txt"], "expected label, recognition or a text file, got nowhere.txt"),
        (["--temperature", "0"], "at --temperature 0 every attempt is the same"),
        (["--min_words", "9", "--max_words", "3"], "expected 0 < min_words <= max_words, got 9 and 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(written, records, teacher, more, message):
    done = run(*write_command(records, written[0], teacher, *more), check=False)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]


class FakeProcess:
    def __init__(self, status=0):
        self.status = status

    def wait(self):
        return self.status


def test_each_worker_has_a_gpu_and_a_share_of_its_own_and_one_process_collects(monkeypatch):
    started = []

    def start(module, *options, **environment):
        started.append(([str(option) for option in options], environment))
        return FakeProcess()

    monkeypatch.setattr(build_command, "start", start)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    build_command.sample("step", ["--x"], 3)
    for index, device in enumerate("457"):
        options = ["--x", "--index", str(index), "--n_shards", "3"]
        assert started[index] == (options, {"CUDA_VISIBLE_DEVICES": device})
    assert started[3:] == [(["--x", "--collect_only"], {})]
    with pytest.raises(SystemExit, match="names 3"):
        build_command.sample("step", [], 4)
    monkeypatch.setattr(build_command, "start", lambda *_, **__: FakeProcess(1))
    with pytest.raises(SystemExit, match=r"workers \[0, 1\] failed"):
        build_command.sample("step", [], 2)


# --- all of it, on the toy world with vLLM -------------------------------------------------


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """(folder, printed) of a build from 36 toy scenes; the toy model is teacher and scaffold, on vLLM."""
    work = tmp_path_factory.mktemp("it's a build")
    command = ["-m", "scripts.build_vec_cot", "--toy", "6", "--work", work, "--scaffold", "--samples 4"]
    return work, run(*command).stdout, command


def test_the_counts_of_a_build_add_up_and_it_says_that_it_is_a_toy(build):
    work, printed, _ = build
    found = json.loads((work / "report.json").read_text())
    assert (
        f"read 36 = kept {sum(found['split']['kept'])} + rejected {found['split']['rejected'].get('test_image', 0)}"
        in printed
    )
    counts = found["reasoning"]
    assert counts["asked"] == counts["written"] + sum(counts["rejected"].values()) + counts["failed"] > 20
    assert counts["written"] >= 16 and counts["failed"] == 0
    assert found["confidence"]["asked"] == found["confidence"]["measured"] > 0
    assert "NOTE: toy world: generated scenes" in printed and "NOTE: toy model" in printed
    assert "not done" not in printed
    assert (work / "report.txt").read_text() in printed
    assert Image.open(work / "report.png").size[0] > 1000


def test_only_answers_that_equal_the_label_become_reasoning(build):
    work, _, _ = build
    shards = {row["sample_id"]: row for row in read_results(shard_path(work / "reasoning", 0, 1))}
    for row in read_jsonl(work / "reasoning" / "reasoning.jsonl"):
        answer = shards[f"{row['id']}#{row['attempt']}"]
        assert read_response(answer["response"], row["candidates"]).label == row["ground_truth"]
        assert answer["image_tokens"] == 9  # the pixel budget reached the engine
    for row in read_jsonl(work / "reasoning" / "rejected.jsonl"):
        assert len(row["attempts"]) == 3 and all(attempt["problems"] for attempt in row["attempts"])


def test_stage_2_confidence_is_the_share_of_the_samples_on_disk(build):
    work, _, _ = build
    rows = read_jsonl(work / "confidence" / "confidence.jsonl")
    shards = list(read_results(shard_path(work / "confidence", 0, 1)))
    assert len(shards) == 4 * len(rows)
    for row in rows:
        labels = [read_response(s["response"], row["candidates"]).label for s in shards if s["record_id"] == row["id"]]
        assert row["sample_count"] == 4 == len(labels)
        assert row["label_count"] == labels.count(row["ground_truth"])
        assert row["sampled_answers"] == Counter(labels)
        assert row["confidence"] == smoothed_confidence(row["label_count"], 4, 0.5)
    assert len({row["response"] for row in shards}) > len(rows)  # the samples of an image differ


def test_the_training_files_have_the_form_that_the_stages_read(build):
    work, _, _ = build
    images = {}
    for stage, name in ((1, "stage1"), (2, "stage2_w_conf"), (3, "stage3")):
        rows = read_jsonl(work / f"{name}.jsonl")
        images[stage] = {row["images"][0] for row in rows}
        for row in rows:
            user, *answer = row["messages"]
            assert user == {"role": "user", "content": "<image>" + recognition_prompt(row["candidates"], stage > 1)}
            assert len(row["images"]) == 1 and Path(row["images"][0]).is_file()
            assert row["notice"].startswith("toy world")
            if stage == 3:
                assert answer == []
                continue
            reading = read_response(answer[0]["content"], row["candidates"], with_confidence=stage == 2)
            assert answer[0]["role"] == "assistant" and reading.well_formed and reading.label == row["ground_truth"]
            assert reading.confidence == (row["confidence"] if stage == 2 else None)
    assert all(images.values()) and sum(map(len, images.values())) == len(set.union(*images.values()))
    samples = list(read_samples(work / "stage3.jsonl"))
    assert len(samples) == len(images[3])
    assert all(isinstance(sample, Sample) and sample.answer is None for sample in samples)


def test_a_second_start_asks_no_model_and_changes_nothing(build):
    work, _, command = build
    before = {path: path.read_bytes() for path in work.rglob("*.jsonl")}
    again = run(*command)
    assert "0 of them still to infer" in again.stderr and "inferred" not in again.stderr
    assert {path: path.read_bytes() for path in work.rglob("*.jsonl")} == before


def test_without_a_scaffold_stage_2_is_left_for_later(build, tmp_path, capsys):
    work, _, _ = build
    files = ["--split", work / "split", "--reasoning", work / "reasoning" / "reasoning.jsonl", "--output_dir", tmp_path]
    assemble.main([str(word) for word in files])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage1.jsonl", "stage3.jsonl"]
    for name in ("split", "reasoning"):
        (tmp_path / name).symlink_to(work / name)
    report.main(["--work", str(tmp_path)])
    printed = capsys.readouterr().out
    assert re.search(r"confidence: read (\d+) = measured 0 \+ failed 0; not done \1$", printed, re.MULTILINE)


def test_a_row_without_what_its_stage_needs_is_named(build, tmp_path, capsys):
    work, _, _ = build
    rows = read_jsonl(work / "confidence" / "confidence.jsonl")
    del rows[0]["confidence"]
    broken = write_jsonl(tmp_path / "confidence.jsonl", rows)
    files = ["--split", work / "split", "--reasoning", work / "reasoning" / "reasoning.jsonl", "--confidence", broken]
    with pytest.raises(SystemExit):
        assemble.main([str(word) for word in (*files, "--output_dir", tmp_path)])
    assert f"{broken}, line 1, field 'confidence': expected it in a row of stage 2" in capsys.readouterr().err
