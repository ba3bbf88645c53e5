"""Several runs on one page, in a real browser: the answers beside each other, the filters, who is better than whom."""

import json
import shutil
import time

import pytest

from inference.metrics.paired_comparison import aligned_runs, pairwise_differences, read_evaluated
from tests.helpers import report_runs
from tests.helpers.commands import read_jsonl, write_jsonl
from tests.helpers.forked import run_forked
from tests.helpers.report_pages import count, opened, shown_ids

expect = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser").expect

STAGES = ["stage1", "stage2", "stage3"]


def make(folders, *more, check=True):
    return run_forked("-m", "inference.report", "--runs", *folders, *more, check=check)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """(run folders, data file)"""
    return report_runs.three_stages(tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def page_of_stages(stages):
    folders, data = stages
    done = make(folders, "--data_path", data, "--processes", "1")
    path = folders[0] / "report_of_3_runs.html"
    assert done.stdout == f"report: {path}\n"
    return path


def right_of(folders):
    """Per run, sample id → 1 where the answer is right; what failed is not there."""
    return [{row["sample_id"]: row["correctness"] for row in read_jsonl(f / "merged_conf.jsonl")} for f in folders]


def responses_of(folder):
    return {row["sample_id"]: row["response"] for row in read_jsonl(folder / "merged.jsonl")}


# Samples


def test_the_answers_to_an_image_are_beside_each_other(browser, stages, page_of_stages):
    records = read_jsonl(stages[1])
    with opened(browser, page_of_stages, "#view=samples", viewport={"width": 1200, "height": 900}) as page:
        assert count(page) == "36 of 36 samples · right: stage1 42.9 %, stage2 82.9 %, stage3 91.7 %"
        assert shown_ids(page) == [record["id"] for record in records]
        row = page.locator(".row").first
        assert row.locator("img").evaluate("e => e.naturalWidth") == 48
        truth, (first, *_, last) = records[0]["ground_truth"], records[0]["candidates"]
        assert row.locator(".truth").inner_text() == f"label: {truth}"
        assert row.locator(".run").all_inner_texts() == STAGES
        assert row.locator(".answer").all_inner_texts() == [first, last, last]
        assert row.locator(".number").all_inner_texts() == ["0.90", "0.80", "0.99"]
        boxes = [reply.bounding_box() for reply in row.locator(".reply").all()]
        assert len({box["y"] for box in boxes}) == 1
        assert [box["x"] for box in boxes] == sorted({box["x"] for box in boxes})


def test_a_filter_leaves_the_samples_that_evaluation_says(browser, stages, page_of_stages):
    right = right_of(stages[0])
    answers = [{row["sample_id"]: row["response"].split("<answer>")[1] for row in read_jsonl(f / "merged.jsonl")}
               for f in stages[0]]  # fmt: skip
    marks = {r["id"]: [run_right.get(r["id"]) for run_right in right] for r in read_jsonl(stages[1])}
    said = {name: {a[name].split("</answer>")[0] for a in answers if name in a} for name in marks}
    cases = {
        "differ": lambda name: len(said[name]) > 1,
        "right": lambda name: marks[name] == [1, 1, 1],
        "wrong": lambda name: marks[name] == [0, 0, 0],
        "failed": lambda name: None in marks[name],
        "only:stage3": lambda name: marks[name][2] == 1 and 1 not in marks[name][:2],
        "only:stage1": lambda name: marks[name][0] == 1 and 1 not in marks[name][1:],
        "not:stage1": lambda name: marks[name][0] != 1 and marks[name][1:] == [1, 1],
    }
    with opened(browser, page_of_stages, "#view=samples") as page:
        texts = page.locator("#result option").all_inner_texts()
        assert texts[:5] == ["all", "models disagree", "all right", "all wrong", "not answered by all"]
        assert texts[5:] == [*(f"only {name} right" for name in STAGES), *(f"all but {name} right" for name in STAGES)]
        for choice, expected in cases.items():
            page.locator("#result").select_option(choice)
            wanted = [name for name in marks if expected(name)]
            assert wanted and shown_ids(page) == wanted, choice


def test_an_open_sample_shows_what_each_model_wrote(browser, stages, page_of_stages):
    name = "EmoSet-8-3"
    with opened(browser, page_of_stages, f"#view=samples&sample={name}") as page:
        columns = page.locator("section.whole")
        expect(columns).to_have_count(3)
        assert columns.locator("h4").all_inner_texts() == STAGES
        assert columns.first.locator(".steps dt").all_inner_texts() == list(report_runs.STEPS)
        assert columns.locator("pre").evaluate_all("all => all.map(e => e.textContent)") == [
            responses_of(folder)[name] for folder in stages[0]
        ]


def test_a_sample_that_a_run_does_not_have_or_did_not_answer_says_so(browser, page_of_stages):
    with opened(browser, page_of_stages, "#view=samples&sample=FI-2-5") as page:
        expect(page.locator(".error")).to_have_text("the engine returned nothing")
        page.evaluate("location.hash = 'view=samples&sample=Artphoto-8-11'")
        expect(page.locator(".error")).to_have_text("the run has no line of this sample")


def test_the_search_finds_words_of_any_response_also_from_a_shared_address(browser, page_of_stages):
    with opened(browser, page_of_stages, "#view=samples") as page:
        page.locator("#q").fill("ZEBRA")
        expect(page.locator("#count")).to_contain_text("1 of 36")
        assert shown_ids(page) == ["Artphoto-8-6"]
        assert page.evaluate("document.activeElement.id") == "q"
        page.locator("#q").fill("zebra nowhere")
        assert count(page) == "0 of 36 samples"
    with opened(browser, page_of_stages, "#view=samples&q=zebra&sample=Artphoto-8-6") as page:
        expect(page.locator("section.whole")).to_have_count(3)


def test_confidences_and_orders_are_over_all_answers(browser, page_of_stages):
    with opened(browser, page_of_stages, "#view=samples") as page:
        page.locator("#low").fill("0.85")
        page.locator("#high").fill("0.95")  # stage1 states 0.9; it does not have the last sample
        assert count(page).startswith("35 of 36")
        page.get_by_role("button", name="Clear").click()
        page.locator("#sort").select_option("worst")
        # All three are wrong, or two of the three: the mean of the squared gaps is largest there.
        first = page.locator(".row").first.locator(".mark").all_inner_texts()
        assert first == ["wrong", "wrong", "wrong"]
        page.locator("#sort").select_option("apart")
        assert shown_ids(page)[0] == "FI-2-0" and shown_ids(page)[-1] == "FI-2-5"  # 0.19 apart; 0.09 without stage2


def test_keys_and_addresses_are_those_of_the_report_of_one_run(browser, page_of_stages):
    with opened(browser, page_of_stages) as page:
        page.keyboard.press("/")
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert "FI-2-1" in page.evaluate("document.activeElement.textContent")
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        expect(page.locator("section.whole")).to_have_count(3)
        page.locator("#task").select_option("group:OOD VER")
        page.locator("#result").select_option("only:stage3")
        address, expected = page.evaluate("location.hash"), (count(page), shown_ids(page))
    with opened(browser, page_of_stages, address) as page:
        assert (count(page), shown_ids(page)) == expected


# Tables and plots


def test_the_tables_have_a_row_per_run_with_its_intervals(browser, stages, page_of_stages):
    with opened(browser, page_of_stages) as page:
        table = page.get_by_role("region", name="Corrected protocol: Overall", exact=True)
        assert table.locator("tbody th").all_inner_texts() == STAGES
        for folder, row in zip(stages[0], table.locator("tbody tr").all(), strict=True):
            known = json.loads((folder / "metrics.json").read_text())["corrected"]["metric"][-1]
            bounds = known["intervals"]["accuracy"]
            interval = f"{100 * bounds['low']:.2f} to {100 * bounds['high']:.2f}"
            assert row.locator("td").first.inner_text().split() == [f"{100 * known['accuracy']:.2f}", *interval.split()]
        page.locator("summary", has_text="Tasks and groups").first.click()
        table = page.get_by_role("region", name="Corrected protocol: EmoSet-8", exact=True)
        table.get_by_role("link", name="stage2").click()
        expect(page.locator("#count")).to_contain_text("12 of 36")  # the address changes after the click


def test_who_is_better_than_whom_is_what_the_paired_comparison_says(browser, stages, page_of_stages):
    aligned = aligned_runs({folder.name: read_evaluated(folder) for folder in stages[0]})
    found = pairwise_differences({name: each.table for name, each in aligned.items()}, 2000)
    with opened(browser, page_of_stages) as page:
        said = page.locator("#tables").inner_text()
        assert "over the 34 samples that every run answered" in said
        assert "Holm's correction for the 3 pairs of runs of the metric" in said
        table = page.get_by_role("region", name="Differences in Acc")
        cells = [[c.inner_text() for c in row.locator("td").all()] for row in table.locator("tbody tr").all()]
        for (a, b), items in found.items():
            item = items[0]
            cell = cells[STAGES.index(b)][STAGES.index(a)]
            assert cell.startswith(f"{100 * item.difference:+.2f}".replace("-", "−"))
            assert f"p {item.p_holm:.3f}" in cell
            assert ("better" in cell, "worse" in cell) == (item.verdict == "better", item.verdict == "worse")
        assert page.locator(".verdicts").first.locator("li").all_inner_texts() == [
            "stage2 is better than stage1.",
            "stage3 is better than stage1.",
        ]
        left_out = [line for line in said.splitlines() if "left out of the paired" in line]
        assert [line.rsplit(": ", 1)[1] for line in left_out] == ["1", "1", "2"]


def test_the_reliability_plots_of_the_runs_are_in_one_picture(browser, page_of_stages):
    with opened(browser, page_of_stages, "#view=plots") as page:
        captions = page.locator("figcaption").all_inner_texts()
        assert [text.split(":")[0].removeprefix("Reliability, ") for text in captions] == [
            "Overall", "ID VSA", "ID VER", "OOD VER",
        ]  # fmt: skip
        assert page.locator("figure img").evaluate_all("all => all.every(e => e.naturalWidth > 1500)")


# Size


@pytest.mark.long
def test_ten_runs_of_the_benchmarks_size_open_and_react(browser, tmp_path):
    """Size and times are printed; only what no one would wait for fails."""
    first, data = report_runs.vecbench_sized(tmp_path)
    folders = [first, *report_runs.further_runs(tmp_path, 9)]
    done = make(folders, "--data_path", data)
    print(done.stderr.splitlines()[-1])
    path = first / "report_of_10_runs.html"
    start = time.monotonic()
    with opened(browser, path, "#view=samples") as page:
        assert count(page).startswith("8,032 of 8,032 samples")
        print(f"opened in {time.monotonic() - start:.2f} s")
        assert time.monotonic() - start < 30
        start = time.monotonic()
        page.locator(".row").first.click()
        expect(page.locator("section.whole")).to_have_count(10)
        print(f"a sample opened in {time.monotonic() - start:.2f} s")
        start = time.monotonic()
        page.locator("#q").fill("zebra s-2003")
        expect(page.locator("#count")).to_contain_text("1 of 8,032", timeout=120_000)
        print(f"first search in {time.monotonic() - start:.2f} s")
        page.get_by_role("button", name="Clear").click()
        page.locator("#result").select_option("differ")
        assert not count(page).startswith(("0 of", "8,032 of"))


# Screens, and what cannot act


@pytest.mark.parametrize("view", ["tables", "plots", "samples"])
def test_a_phone_never_scrolls_sideways(browser, page_of_stages, view):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, page_of_stages, f"#view={view}", **phone) as page:
        if view == "samples":
            page.locator(".row").first.click()
            expect(page.locator("section.whole")).to_have_count(3)
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]


def test_hostile_runs_are_shown_as_text_and_never_run(browser, tmp_path):
    (tmp_path / "one").mkdir()
    folder, data = report_runs.hostile(tmp_path / "one")
    again = tmp_path / "two" / folder.name
    shutil.copytree(folder, again)
    path = tmp_path / "both.html"
    make([folder, again], "--data_path", data, "--processes", "1", "--output", path)
    with opened(browser, path, "#view=samples") as page:
        assert count(page).startswith("10 of 10 samples")
        for row in page.locator(".row").all():
            row.click()
        expect(page.locator("section.whole")).to_have_count(2 * page.locator(".row").count())
        page.locator("#q").fill("bold")
        expect(page.locator("#count")).not_to_contain_text("unpacking")
        assert page.locator(".run").first.inner_text() == "one/run <b>&name"
        page.evaluate("location.hash = 'view=tables'")
        assert page.locator("#tables b").count() == 2  # the names in the list of the runs are bold, nothing else
        assert page.evaluate("window.hacked === undefined")


# The command


def test_only_the_named_file_is_written_and_a_page_of_the_first_samples_says_so(browser, stages, tmp_path):
    folders, _ = stages
    copies = [tmp_path / folder.name for folder in folders[:2]]
    for folder, copy in zip(folders, copies, strict=False):
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.html", "thumbnails.json"))
    before = {path for path in tmp_path.rglob("*")}
    make(copies, "--output", tmp_path / "mine.html", "--no_thumbnails", "--max_samples", "3")
    assert {path for path in tmp_path.rglob("*")} - before == {tmp_path / "mine.html"}
    with opened(browser, tmp_path / "mine.html", "#view=samples") as page:
        assert count(page).startswith("3 of 3 samples")
        assert count(page).endswith("the runs have 36; the first are here")
        page.locator(".row").nth(2).click()
        expect(page.locator("section.whole")).to_have_count(2)
        page.evaluate("location.hash = 'view=tables'")
        assert "over the 34 samples that every run answered" in page.locator("#tables").inner_text()


def test_runs_that_cannot_be_compared_are_one_line_and_exit_status_2(stages, tmp_path):
    (one, two, _), _ = stages
    other = tmp_path / "other"
    shutil.copytree(two, other)
    renamed = [{**row, "sample_id": f"other {row['sample_id']}"} for row in read_jsonl(two / "merged.jsonl")]
    write_jsonl(other / "merged.jsonl", renamed)
    empty = tmp_path / "empty"
    empty.mkdir()
    for folders, line in (
        ([one], "--runs: expected two runs or more, got 1; of one: --output_path RUN"),
        ([one, one], f"{one}: expected each run once"),
        ([one, other], "runs stage1 and other have no sample in common: were they made from the same data file?"),
        ([one, empty], f"{empty / 'metrics.json'}: No such file or directory; evaluate the run first: "
                       f"python -m inference.evaluate --output_path {empty}"),
    ):  # fmt: skip
        done = make(folders, "--output", tmp_path / "none.html", check=False)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"no report: {line}\n")
    assert not (tmp_path / "none.html").exists()
