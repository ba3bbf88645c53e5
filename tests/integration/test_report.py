"""report.html in a real browser: what it shows, how it is used, and that nothing in it can act."""

import json
import shutil
import time

import pytest

from inference.metrics.prediction_table import prediction_table
from inference.metrics.reasoning import has_false_statement
from scripts.toy_world.text import reasoning_facts
from tests.helpers import report_runs
from tests.helpers.commands import read_jsonl, write_jsonl
from tests.helpers.forked import run_forked
from tests.helpers.report_pages import DECODED_WIDTH, count, make, opened, remake, shown_ids
from tests.helpers.toy_responses import misreading


@pytest.fixture(scope="module")
def big_run(tmp_path_factory):
    return report_runs.vecbench_sized(tmp_path_factory.mktemp("big"))


@pytest.fixture(scope="module")
def big_report(big_run):
    done = make(*big_run)
    print(done.stderr.splitlines()[-1])
    return big_run[0] / "report.html"


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    return report_runs.hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def hostile_report(hostile_run):
    make(*hostile_run)
    return hostile_run[0] / "report.html"


def answered(folder):
    """(task, correct, confidence, id) of each response, from what evaluation wrote, independently of the build."""
    rows = read_jsonl(folder / "merged_conf.jsonl")
    return [(row["task"], row["correctness"], row["confidence"], row["sample_id"]) for row in rows]


# What the page shows


def test_every_sample_of_a_benchmark_sized_run_is_there(browser, big_run, big_report):
    with opened(browser, big_report, "#view=samples") as page:
        assert count(page).startswith("8,032 of 8,032 samples · ")
        assert shown_ids(page)[:3] == ["s-0", "s-1", "s-2"]
        assert page.locator("#page").inner_text() == "Page 1 of 161"
        assert page.locator(".row img").evaluate_all("all => all.every(e => e.src.startsWith('data:image/'))")
        assert {image.evaluate(DECODED_WIDTH) for image in page.locator(".row img").all()} == {48}


def test_a_filter_leaves_the_samples_that_evaluation_says(browser, big_run, big_report):
    sentiment = ("FI-2", "WebEmo-2")
    cases = [
        ({"task": "task:FI-2"}, lambda task, correct, confidence: task == "FI-2"),
        ({"task": "group:ID VSA"}, lambda task, correct, confidence: task in sentiment),
        ({"result": "right"}, lambda task, correct, confidence: correct == 1),
        ({"result": "wrong"}, lambda task, correct, confidence: correct == 0),
        ({"result": "malformed"}, lambda task, correct, confidence: confidence is None and correct is not None),
        ({"low": "0.8"}, lambda task, correct, confidence: (confidence or 0) >= 0.8),
        (
            {"low": "0.2", "high": "0.4", "result": "wrong", "task": "task:WebEmo-25"},
            lambda task, correct, confidence: task == "WebEmo-25" and correct == 0 and 0.2 <= (confidence or 0) <= 0.4,
        ),
    ]
    samples = [sample[:3] for sample in answered(big_run[0])]
    samples += [(row["task"], None, None) for row in read_jsonl(big_run[0] / "error.jsonl")]
    with opened(browser, big_report, "#view=samples") as page:
        for choice, expected in cases:
            page.get_by_role("button", name="Clear").click()
            for name, value in choice.items():
                control = page.locator(f"#{name}")
                control.select_option(value) if name in ("task", "result") else control.fill(value)
            n_expected = sum(expected(*sample) for sample in samples)
            assert count(page).startswith(f"{n_expected:,} of 8,032 samples"), choice
            assert n_expected > 0, choice


def test_failed_samples_are_shown_with_their_reason(browser, big_report):
    with opened(browser, big_report, "#view=samples&result=failed") as page:
        assert count(page) == "7 of 8,032 samples"
        page.locator(".row").first.click()
        assert page.locator(".error").inner_text() == "the engine returned nothing"


def test_the_worst_calibrated_sample_comes_first_and_those_without_a_confidence_last(browser, big_run, big_report):
    gaps = {name: (conf - right) ** 2 for _, right, conf, name in answered(big_run[0]) if conf is not None}
    with opened(browser, big_report, "#view=samples&sort=worst") as page:
        shown = [gaps[name] for name in shown_ids(page)]
        assert shown == sorted(gaps.values(), reverse=True)[:50]
        page.evaluate("location.hash = 'view=samples&sort=worst&page=161'")
        page.locator("#page", has_text="Page 161 of 161").wait_for()
        assert not set(shown_ids(page)) & set(gaps)


def test_orders_by_confidence_go_both_ways(browser, big_run, big_report):
    confidences = {name: conf for _, _, conf, name in answered(big_run[0]) if conf is not None}
    with opened(browser, big_report, "#view=samples") as page:
        for order, key in (("most", max), ("least", min)):
            page.locator("#sort").select_option(order)
            assert confidences[shown_ids(page)[0]] == key(confidences.values())


def test_the_search_finds_words_in_the_reasoning_wherever_they_stand(browser, big_report):
    with opened(browser, big_report, "#view=samples") as page:
        page.locator("#q").fill("ZEBRA")
        assert shown_ids(page) == [f"s-{n}" for n in range(3, 8032, 1000)]
        page.locator("#q").fill("zebra s-2003")
        assert shown_ids(page) == ["s-2003"]
        page.get_by_role("button", name="Clear").click()
        assert count(page).startswith("8,032 of 8,032")


def test_an_open_sample_shows_the_five_steps_in_order_and_the_whole_response(browser, big_run, big_report):
    result = read_jsonl(big_run[0] / "merged.jsonl")[0]
    with opened(browser, big_report, "#view=samples") as page:
        page.locator(".row").first.click()
        assert page.locator(".steps dt").all_inner_texts() == list(report_runs.STEPS)
        assert page.locator("pre").evaluate("e => e.textContent") == result["response"]
        said = page.locator("dl.facts").inner_text().split("\n")
        assert said[said.index("label") + 1] == result["ground_truth"]
        assert said[said.index("answer probability") + 1] == "0.7788"  # exp(-0.25)


def test_filters_search_and_orders_of_8032_samples_react_at_once(browser, big_report):
    """The times are printed, not judged: machines differ."""
    script = """([id, value]) => {
        const control = document.getElementById(id);
        const start = performance.now();
        control.value = value;
        control.dispatchEvent(new Event('input', {bubbles: true}));
        document.body.offsetHeight; // layout belongs to it
        return performance.now() - start;
    }"""
    start = time.monotonic()
    with opened(browser, big_report, "#view=samples") as page:
        print(f"opened in {time.monotonic() - start:.2f} s")
        actions = (
            ("q", "shadow", "first"),
            ("q", "shadow storm", "next"),
            ("sort", "worst", ""),
            ("result", "wrong", ""),
        )
        for name, value, which in actions:
            milliseconds = page.evaluate(script, [name, value])
            print(f"{which} {name} = {value}: {milliseconds:.0f} ms")
            assert milliseconds < 5000
        assert page.locator(".row").count() == 50


# Keyboard, addresses, small screens, paper


def test_the_keyboard_reaches_everything(browser, big_report):
    with opened(browser, big_report) as page:
        focused = "document.activeElement.textContent"
        page.keyboard.press("/")  # from another view
        page.keyboard.type("s-1/")
        assert page.locator("#q").input_value() == "s-1/"
        page.locator("#q").fill("")
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        assert page.evaluate(focused).endswith("s-0") or "s-0" in page.evaluate(focused)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("j")
        page.keyboard.press("k")
        assert "s-1" in page.evaluate(focused)
        page.keyboard.press("Enter")
        assert page.locator(".details").count() == 1
        assert page.locator(".row[aria-expanded=true]").count() == 1
        page.keyboard.press("Enter")
        assert page.locator(".details").count() == 0
        for _ in range(49):
            page.keyboard.press("j")
        assert page.locator("#page").inner_text() == "Page 2 of 161"
        assert "s-50" in page.evaluate(focused)
        page.keyboard.press("ArrowUp")
        assert page.locator("#page").inner_text() == "Page 1 of 161"
        assert "s-49" in page.evaluate(focused)


def test_tab_goes_through_the_controls_in_the_order_in_which_they_stand(browser, big_report):
    with opened(browser, big_report, "#view=samples") as page:
        page.locator("#q").focus()
        visited = []
        for _ in range(7):
            visited.append(page.evaluate("document.activeElement.id || document.activeElement.type"))
            page.keyboard.press("Tab")
        assert visited == ["q", "task", "result", "low", "high", "sort", "reset"]
        assert page.evaluate("document.activeElement.className") == "row"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_every_control_has_a_name_and_the_count_is_announced(browser, big_report):
    with opened(browser, big_report, "#view=samples") as page:
        for name in ("Search", "Task", "Result", "lowest confidence", "highest confidence", "Order"):
            assert page.get_by_label(name, exact=True).is_visible(), name
        assert page.locator("#count").get_attribute("aria-live") == "polite"


def test_a_shared_address_shows_the_same_view(browser, big_report):
    with opened(browser, big_report, "#view=samples") as page:
        page.locator("#task").select_option("group:OOD VER")
        page.locator("#high").fill("0.5")
        page.locator("#sort").select_option("least")
        page.locator("#next").click()
        page.locator(".row").nth(4).click()
        address, expected = page.evaluate("location.hash"), (count(page), shown_ids(page))
        opened_sample = page.locator(".details").inner_text()
    with opened(browser, big_report, address) as page:
        assert (count(page), shown_ids(page)) == expected
        assert page.locator(".details").inner_text() == opened_sample


def test_an_address_with_nonsense_shows_the_report_all_the_same(browser, big_report):
    with opened(browser, big_report, "#view=samples&task=nothing&sort=nothing&low=abc&page=-3&sample=none") as page:
        assert count(page).startswith("8,032 of 8,032")
        assert page.locator("#page").inner_text() == "Page 1 of 161"


def test_a_name_in_a_table_leads_to_its_samples_and_back_leads_to_the_table(browser, big_report):
    with opened(browser, big_report) as page:
        page.get_by_role("link", name="ID VSA").first.click()
        page.locator("#samples").wait_for()
        assert count(page).startswith("2,000 of 8,032 samples")
        page.go_back()
        page.locator("#tables").wait_for()


@pytest.mark.parametrize("view", ["tables", "plots", "samples"])
def test_a_phone_never_scrolls_sideways(browser, hostile_report, view):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, hostile_report, f"#view={view}", **phone) as page:
        for row in page.locator(".row").all():
            row.click() if view == "samples" else None
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
        assert page.locator(f"#{view}").is_visible()


@pytest.mark.parametrize("view", ["tables", "plots", "samples"])
def test_the_notice_stands_above_every_view(browser, big_report, view):
    with opened(browser, big_report, f"#view={view}") as page:
        notice = page.locator(".notice")
        assert notice.inner_text() == report_runs.NOTICE
        assert notice.bounding_box()["y"] == 0
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(100)
        assert notice.bounding_box()["y"] == 0


def test_paper_gets_tables_and_plots(browser, hostile_report):
    with opened(browser, hostile_report, "#view=samples") as page:
        page.emulate_media(media="print")
        visible = [name for name in ("tables", "plots", "samples") if page.locator(f"#{name}").is_visible()]
        assert visible == ["tables", "plots"]


def test_tables_and_plots_need_no_javascript(browser, hostile_report):
    with opened(browser, hostile_report, java_script_enabled=False) as page:
        assert page.get_by_role("heading", name="Corrected protocol").is_visible()
        assert page.locator("figure img").first.is_visible()


# Nothing in it can act


def test_hostile_text_is_shown_as_text_and_never_runs(browser, hostile_report):
    with opened(browser, hostile_report) as page:
        page.locator("[data-view=samples]").click()
        for row in page.locator(".row").all():
            row.click()
        for folded in page.locator("details > summary").all():
            folded.evaluate("e => { e.parentElement.open = true; }")
        page.locator("#task").select_option(f"task:{report_runs.TASK}")
        assert count(page).startswith("7 of 10 samples")
        page.wait_for_timeout(200)
        assert page.evaluate("window.hacked === undefined")
        assert (
            page.locator("#list script, #list b, #list img[src='x'], .notice script, h1 b, figure img[src='x']").count()
            == 0
        )
        assert page.locator("h1").inner_text() == "run <b>&name"
        assert page.locator(".notice").inner_text().splitlines()[0] == f"made up {report_runs.SCRIPT}"
        assert page.locator(".where").first.inner_text().startswith(report_runs.TASK)
        assert f"label: {report_runs.TRUTH}" in page.locator(".row").first.inner_text()
        assert report_runs.IMAGE in page.locator("figcaption").last.evaluate("e => e.textContent")


def test_even_script_that_got_into_the_file_does_not_run_and_fetches_nothing(browser, hostile_report, tmp_path):
    """The second lock: should escaping ever have a hole, the page's own policy holds."""
    holed = tmp_path / "holed.html"
    attack = (
        f"{report_runs.SCRIPT}<img src=x onerror='window.hacked=2'><img src='http://127.0.0.1:9/a.png'>"
        "<style>h1 { color: rgb(1, 2, 3) }</style><iframe src='http://127.0.0.1:9/'></iframe></body>"
    )
    text = hostile_report.read_text(encoding="utf-8")
    head, end = text.rsplit("</body>", 1)
    holed.write_text(head + attack + end, encoding="utf-8")
    page = browser.new_page()
    refused, finished = [], []
    page.on("console", lambda message: refused.append(message.text))
    page.on("response", lambda answer: finished.append(answer.url))
    page.goto(holed.as_uri())
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked === undefined")
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(1, 2, 3)"
    assert any("Content Security Policy" in text for text in refused)
    assert [url for url in finished if url.startswith("http")] == []
    page.close()


def test_the_data_in_the_file_cannot_end_their_own_element(hostile_report):
    text = hostile_report.read_text(encoding="utf-8")
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert "<" not in data and "\u2028" not in data and "\u2029" not in data
    samples = {sample["id"]: sample for sample in json.loads(data)["samples"]}
    assert samples["torn"]["response"] == report_runs.CLOSING
    assert samples["embedded"]["response"].endswith("\udc80 \x00 end")


# Samples that are not as they should be


def test_an_image_that_cannot_be_shown_says_why_and_all_others_are_there(browser, hostile_report):
    reasons = {
        "torn": "image torn.png: cannot be read",
        "missing": "no such file",
        "web": "is a URL: give --allow_url",
        "imageless": "the record names no image",
        "long": "no such file",
    }
    with opened(browser, hostile_report, "#view=samples") as page:
        for name, reason in reasons.items():
            page.locator("#q").fill(name)
            row = page.locator(".row", has_text=f" · {name}")
            assert row.locator(".missing").inner_text() == "no image"
            row.click()
            assert reason in page.locator(".details dl.facts").inner_text(), name
        page.locator("#q").fill("embedded")
        assert page.locator(".row", has_text=" · embedded").locator("img").evaluate(DECODED_WIDTH) == 30


def test_a_response_without_steps_or_confidence_says_so(browser, hostile_report):
    with opened(browser, hostile_report, "#view=samples&q=imageless") as page:
        assert "no confidence" in page.locator(".row").inner_text()
        assert "malformed" in page.locator(".row").inner_text()
        page.locator(".row").click()
        assert page.locator(".steps dd.none").all_inner_texts() == ["not in the response"] * 5


def test_false_statements_are_marked_with_what_would_be_true_and_can_be_filtered(browser, tmp_path):
    rows = misreading(6, ["FI-2", "EmoSet-8"])
    rows[0]["response"] = "<think><element>The background is red.</element></think><answer>positive</answer>"
    rows[0]["reasoning_facts"] = reasoning_facts("FI-2", {**rows[0]["cues"], "colour": "yellow"})
    results = write_jsonl(tmp_path / "results.jsonl", rows)
    folder = tmp_path / "run"
    run_forked("-m", "inference.evaluate", "--input_file", results, "--output_dir", folder, "--quiet", "--no_plots",
        "--n_resamples", "20")  # fmt: skip
    remake(folder, size=None)
    table = prediction_table(rows)
    false = [name for name, one in zip(table["sample_id"], has_false_statement(table), strict=True) if one]
    assert 0 < len(false) < len(rows)
    with opened(browser, folder / "report.html", "#view=samples&result=false") as page:
        assert shown_ids(page) == false
        assert page.locator(".mark.false").all_inner_texts() == ["untrue"] * len(false)
        page.locator(".row").first.click()
        steps = page.locator(".steps").inner_text()
        assert "false: red (true: yellow)" in steps and "missing: " in steps
        page.evaluate("location.hash = 'view=tables'")
        assert page.get_by_role("heading", name="Reasoning held against the facts of the records").is_visible()


def test_a_run_without_facts_has_no_word_about_them(browser, big_report):
    with opened(browser, big_report, "#view=samples&result=false") as page:
        assert count(page).startswith("8,032 of 8,032")
        assert page.locator(".mark.false").count() == 0 and page.locator("option[value=false]").count() == 0


def test_lines_without_task_or_id_are_in_the_report_too(browser, hostile_report):
    with opened(browser, hostile_report, "#view=samples&task=task:(no+task)") as page:
        assert count(page) == "2 of 10 samples"
        page.locator(".row").first.click()
        assert page.locator(".error").inner_text() == "not even an id"


def test_a_run_that_is_longer_than_the_report_says_so(browser, hostile_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(hostile_run[0], folder)
    remake(folder, hostile_run[1].parent, max_samples=3)
    with opened(browser, folder / "report.html", "#view=samples") as page:
        assert count(page).startswith("3 of 3 samples")
        assert count(page).endswith("the run has 10; the first are here")


# The tables


def test_metrics_that_the_report_never_heard_of_and_intervals_and_other_confidences_are_shown(browser, hostile_run):
    folder, data = hostile_run
    kept = (folder / "metrics.json").read_text()
    metrics = json.loads(kept)
    row = {
        "name": "FI-2", "kind": "task", "n_samples": 1234, "accuracy": 0.5, "novel_error": -0.125, "log_loss": 0.6931,
        "intervals": {"accuracy": {"low": 0.25, "high": 0.75}}, "odd": "text", "flag": True,
    }  # fmt: skip
    metrics["confidence"] = {"answer probability": [row], "broken": "text", "empty": []}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    remake(folder, data.parent)
    (folder / "metrics.json").write_text(kept)
    with opened(browser, folder / "report.html") as page:
        region = page.get_by_role("region", name="Confidence: answer probability", exact=True)
        assert region.locator("tbody tr").all_inner_texts() == ["FI-2\t50.00\n25.00 to 75.00\n\t1,234"]
        region.locator("xpath=following-sibling::details[1]").locator("summary").click()
        full = page.get_by_role("region", name="Confidence: answer probability: all metrics")
        lines = dict(line.split("\t", 1) for line in full.locator("tbody tr").all_inner_texts())
        assert lines["novel error"] == "−12.50" and lines["Log loss, nats"] == "0.693"
        assert "odd" not in lines and "flag" not in lines
    remake(folder, data.parent)


def test_the_tables_hold_the_numbers_of_metric_conf_log(browser, big_run, big_report):
    log = (big_run[0] / "metric_conf.log").read_text()
    with opened(browser, big_report) as page:
        region = page.get_by_role("region", name="Published protocol, with confidence")
        for line in region.locator("tbody tr").all_inner_texts():
            name, *numbers = line.split("\t")
            (printed,) = [text for text in log.split("Tab-separated")[0].splitlines() if text.startswith(f"| {name} ")]
            cells = [cell.strip().replace("N/A", "–") for cell in printed.strip("|").split("|")]
            assert cells[1:-1] == numbers[:-1] and cells[-1] == numbers[-1].replace(",", "")


def test_votes_are_in_the_tables_beside_the_samples_and_as_a_plot(browser, tmp_path):
    rows = report_runs.voted_results()
    data = write_jsonl(tmp_path / "results.jsonl", rows)
    run_forked(
        "-m", "inference.evaluate", "--input_file", data, "--output_dir", tmp_path, "--quiet", "--n_resamples", "20"
    )
    make(tmp_path, data, "--no_thumbnails")
    metrics = json.loads((tmp_path / "metrics.json").read_text())["corrected"]["metric"][-1]
    with opened(browser, tmp_path / "report.html") as page:
        assert page.get_by_role("columnheader", name="|c − vote share|").count() == 2  # corrected, and by the majority
        assert f"{100 * metrics['vote_distance']:.2f}" in page.locator("#tables").inner_text()
        assert page.locator("figcaption", has_text="Votes: their share of the answer").count() == 1
    with opened(browser, tmp_path / "report.html", "#view=samples") as page:
        page.locator(".row").first.click()
        said = page.locator("dl.facts").inner_text().split("\n")
        assert said[said.index("votes") + 1] == "fear 75.0 %, awe 25.0 %"
        assert said[said.index("vote share of the answer") + 1] == "0.25"
