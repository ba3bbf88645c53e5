"""What a process inherits: a notebook's MPLBACKEND, a terminal that does not speak UTF-8, a proxy."""

import ast
import importlib.util
import json
import os
import sys
import urllib.request

import pytest

from inference.predictor import split_labels
from tests.helpers.commands import REPO, TOY_PIXELS, free_port, read_jsonl, run, serving, write_jsonl
from tests.helpers.endpoint_server import serve
from tests.helpers.templates import environment

NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
# Python picks the C locale up as UTF-8, unless it is kept from doing so.
TERMINALS = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


AWE_ZH, SMILE = "\u656c\u754f", "\U0001f600"  # "awe" in Chinese, an emoji


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A file of results whose labels and answers are not of Latin-1."""
    rows = [
        {
            "sample_id": f"sample {n}",
            "position": n,
            "ground_truth": AWE_ZH,
            "candidates": [AWE_ZH, f"naïve – joy {SMILE}"],
            "task": "EmoSet-8",
            "response": f"<answer>{AWE_ZH}</answer><confidence>0.{n}</confidence>",
            "model": "\u30e2\u30c7\u30eb",
        }
        for n in range(10)
    ]
    return write_jsonl(tmp_path_factory.mktemp("results") / "results.jsonl", rows)


def test_plots_are_drawn_whatever_mplbackend_says(results, tmp_path):
    output = tmp_path / "run"
    words = ["-m", "inference.evaluate", "--input_file", results, "--output_dir", output, "--n_resamples", 0]
    run(*words, env={**os.environ, **NOTEBOOK})
    assert (output / "reliability.png").stat().st_size > 5000
    words = ["-m", "inference.compare", output, output, "--output_dir", tmp_path / "compared", "--n_resamples", 100]
    run(*words, env={**os.environ, "MPLBACKEND": "no such backend"})
    assert list((tmp_path / "compared").glob("*.png"))


def test_a_backend_that_is_installed_stays_the_callers():
    code = "import os, inference.plots.style as p; print(p.matplotlib.rcParams['backend'], os.environ['MPLBACKEND'])"
    done = run(sys.executable, "-c", code, env={**os.environ, "MPLBACKEND": "svg"})
    assert done.stdout == "svg svg\n"


def python_files():
    for folder in ("inference", "scripts", "train"):
        for path in sorted((REPO / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_matplotlib_is_imported_in_one_place():
    importing = {
        path.name
        for path, tree in python_files()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name.split(".")[0] == "matplotlib" for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        ))
    }  # fmt: skip
    assert importing == {"style.py"}


@pytest.mark.parametrize("terminal", TERMINALS)
def test_an_evaluation_is_printed_on_a_terminal_of_any_encoding(results, tmp_path, terminal):
    surroundings = {**os.environ, **TERMINALS[terminal]}
    done = run(
        "-m", "inference.evaluate", "--input_file", results, "--output_dir", tmp_path, "--n_resamples", 0, "--no_plots",
        env=surroundings, encoding="latin-1",
    )  # fmt: skip
    assert "Overall" in done.stdout and "read 10 = predicted 10 + failed 0" in done.stdout
    assert read_jsonl(tmp_path / "merged.jsonl")[0]["ground_truth"] == AWE_ZH


def test_a_prediction_is_printed_on_a_terminal_that_lacks_its_characters(toy_data):
    images = sorted((toy_data.parent / "images").rglob("*.png"))[:1]
    words = ["-m", "inference.predict", *images, "--engine", "transformers", "--labels", f"{AWE_ZH},naïve {SMILE}"]
    surroundings = {**os.environ, **TERMINALS["latin-1"]}
    as_text = run(*words, env=surroundings, encoding="latin-1")
    assert "confidence" in as_text.stdout and "█" not in as_text.stdout
    line = run(*words, "--json", env=surroundings).stdout
    assert line.isascii() and json.loads(line)["candidates"] == [AWE_ZH, f"naïve {SMILE}"]


def test_a_label_that_the_locale_could_not_decode_is_refused():
    """As Python gives such bytes of the command line: no tokenizer takes them."""
    with pytest.raises(ValueError, match=r"expected labels in the locale's encoding, got 'tr\\udce4ge'"):
        split_labels("calm,tr\udce4ge")


def test_every_command_first_makes_its_output_safe():
    """The first statement of each ``main``: also what argparse prints is then encoded."""
    unsafe = []
    for path, tree in python_files():
        mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        if not mains or path.name == "advisory_snapshot.py":  # which runs without this repository
            continue
        called = [
            node.value.func.id
            for node in mains[0].body[:3]
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        ]
        if not {"plain_output", "start_logging"} & set(called):
            unsafe.append(str(path.relative_to(REPO)))
    assert unsafe == []


SOCKS = {"ALL_PROXY": "socks5://user:secret@127.0.0.1:9", "NO_PROXY": ""}


def asked(server, data, output):
    return [
        "-m", "inference.inference_vllm", "--engine", "openai", "--base_url", server.url, "--model_name", "m",
        "--data_path", data, "--output_path", output, *TOY_PIXELS, "--limit", "2",
    ]  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="httpx takes a SOCKS proxy here")
def test_a_proxy_that_httpx_cannot_use_is_named_in_one_line_unless_the_endpoint_is_in_no_proxy(toy_data, tmp_path):
    with serve() as server:
        words = asked(server, toy_data, tmp_path)
        done = run(*words, check=False, env={**os.environ, **SOCKS})
        assert done.returncode == 1 and "Traceback" not in done.stderr
        last = done.stderr.splitlines()[-1]
        assert "ALL_PROXY=socks5://***@127.0.0.1:9: no connection through this proxy" in last
        assert "put 127.0.0.1 into NO_PROXY" in last and "secret" not in done.stderr
        done = run(*words, env={**os.environ, **SOCKS, "NO_PROXY": "localhost,127.0.0.1"})
    assert "read 2 = predicted 2" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="httpx takes a SOCKS proxy here")
def test_the_demo_starts_behind_a_socks_proxy(tmp_path):
    """It asks no other machine: the proxy is not its concern."""
    port = free_port()
    words = [sys.executable, "-m", "inference.demo", "--port", port]
    with serving(words, f"http://127.0.0.1:{port}/", tmp_path / "log", 300, SOCKS):
        assert "EmoCaliber" in urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read().decode()
    assert "Traceback" not in (tmp_path / "log").read_text()
    words = ["-m", "inference.demo", "--engine", "openai", "--base_url", "http://127.0.0.1:1/v1", "--model_name", "m"]
    done = run(*words, check=False, env={**os.environ, **SOCKS})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "ALL_PROXY=socks5://***@127.0.0.1:9: no connection through this proxy" in done.stderr


def job(data, output, **settings):
    """The main job at an endpoint, its environment without what wandb would read."""
    known = environment(
        engine="openai", model_name="m", data_path=data, output_path=output, python=sys.executable, report="false",
        evaluate_args="--n_resamples 0 --no_plots", inference_args="--max_retries 0", HOME=output.parent, **settings,
    )  # fmt: skip
    known = {name: value for name, value in known.items() if not name.startswith("WANDB") and name != "NETRC"}
    return run("bash", REPO / "inference" / "infer_and_eval_example.sh", check=False, env=known, cwd=output.parent)


def test_a_job_that_predicts_nothing_fails_and_says_why(toy_data, tmp_path):
    done = job(toy_data, tmp_path / "none", base_url=f"http://127.0.0.1:{free_port()}", limit=4)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("nothing was predicted: the most frequent error: line 1: http://127.0.0.1:")
    assert "Connection error" in last and last.endswith("(4 of 4 alike)")
    assert len(read_jsonl(tmp_path / "none" / "error.jsonl")) == 4


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_a_limit_below_one_is_refused(toy_data, tmp_path, limit):
    done = job(toy_data, tmp_path / "run", base_url="http://127.0.0.1:1", limit=limit)
    assert done.returncode == 2
    assert f"--limit: expected a whole number of at least 1, got '{limit}'" in done.stderr
    words = ["-m", "inference.evaluate", "--output_path", tmp_path, "--data_path", toy_data, f"--limit={limit}"]
    assert run(*words, check=False).returncode == 2


def test_a_data_file_without_a_record_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n \n")
    done = job(tmp_path / "empty.jsonl", tmp_path / "run", base_url="http://127.0.0.1:1")
    assert done.returncode == 2
    assert f"--data_path: no record in {tmp_path / 'empty.jsonl'}" in done.stderr


def test_an_evaluation_counts_what_failed_and_shows_the_most_frequent_error(results, tmp_path):
    rows = read_jsonl(results)
    errors = ["line 3: 'a.png': not found", "line 5: 'b/c.png': not found", "line 7: other"]
    failed = [{**row, "error": error} for row, error in zip(rows, errors, strict=False)]
    for name, mixed in (("some", failed + rows[3:]), ("all", failed), ("none", [])):
        given = write_jsonl(tmp_path / f"{name}.jsonl", [
            {key: value for key, value in row.items() if key != "response" or "error" not in row} for row in mixed
        ])  # fmt: skip
        words = ["-m", "inference.evaluate", "--input_file", given, "--output_dir", tmp_path / name]
        done = run(*words, "--no_plots", "--n_resamples", 0, "--quiet", check=False)
        if name == "some":
            assert done.returncode == 0
            last = done.stdout.splitlines()[-2:]
            assert last[0].startswith("read 10 = predicted 7 + failed 3")
            assert last[1] == f"The most frequent error: {errors[0]} (2 of 3 alike)"
        else:
            told = "(2 of 3 alike)" if name == "all" else "it is empty"
            assert (
                done.returncode == 2 and done.stderr.startswith(f"cannot evaluate: {given}: ") and told in done.stderr
            )


def test_wandb_without_a_key_stops_the_job_before_it_starts(toy_data, tmp_path):
    pytest.importorskip("wandb")
    done = job(toy_data, tmp_path / "run", base_url="http://127.0.0.1:1", project_name="p")
    assert done.returncode == 2
    assert "wandb has no key: set WANDB_API_KEY, run `wandb login`, set WANDB_MODE=offline" in done.stderr
    assert not (tmp_path / "run").exists()


def test_wandb_is_asked_for_its_key_by_evaluation_too_and_offline_needs_none(results, tmp_path):
    pytest.importorskip("wandb")
    output = tmp_path / "out"
    words = ["-m", "inference.evaluate", "--input_file", results, "--output_dir", output, "--no_plots", "--quiet"]
    words += ["--n_resamples", 0, "--wandb_project", "p"]
    known = {name: value for name, value in os.environ.items() if not name.startswith("WANDB") and name != "NETRC"}
    known |= {"HOME": str(tmp_path), "PYTHONPATH": str(REPO)}
    done = run(*words, check=False, env=known, cwd=tmp_path)
    assert done.returncode == 2 and not output.exists()
    assert "--wandb_project p: wandb has no key" in done.stderr
    asked = "from inference.runs.wandb_run import why_not; print(why_not())"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password " + 40 * "0")
    assert run(sys.executable, "-c", asked, env=known, cwd=tmp_path).stdout == "None\n"
    (tmp_path / ".netrc").unlink()
    run(*words, env={**known, "WANDB_MODE": "offline"}, cwd=tmp_path)
    assert list(tmp_path.glob("wandb/offline-run-*"))


@pytest.mark.long
def test_a_key_that_wandb_refuses_costs_no_file(results, tmp_path):
    """No connection at that address: said in one line, after everything is written."""
    pytest.importorskip("wandb")
    words = ["-m", "inference.evaluate", "--input_file", results, "--output_dir", tmp_path / "out", "--no_plots"]
    known = {**os.environ, "WANDB_API_KEY": 40 * "0", "WANDB_BASE_URL": f"http://127.0.0.1:{free_port()}",
             "WANDB_INIT_TIMEOUT": "3", "HOME": str(tmp_path), "PYTHONPATH": str(REPO)}  # fmt: skip
    done = run(*words, "--quiet", "--n_resamples", 0, "--wandb_project", "p", env=known, cwd=tmp_path)
    assert "WARNING: not logged to wandb: " in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "out" / "metrics.json").exists()
