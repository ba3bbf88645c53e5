"""The task of lmms-eval: its numbers are those of ``inference.evaluate``, from requests that are the same."""

import base64
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import sys
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.metrics.corrected import estimate
from inference.metrics.prediction_table import prediction_table
from inference.metrics.results import read_file
from scripts.lmms_eval import vecbench
from tests.helpers.commands import REPO, TOY_PIXELS, read_jsonl, run, write_jsonl
from tests.helpers.endpoint_server import JsonHandler, completion
from tests.helpers.results import THREE_TASKS, results_of

LMMS_EVAL = "lmms-eval==0.7.3"


def of_rows(metrics):
    """ "metric/row" → value of ``metrics.json``'s corrected rows, for the metrics of the task."""
    rows = metrics["corrected"]["metric"]
    return {f"{name}/{row['name']}": row.get(name) for row in rows for name in vecbench.ASKED}


@pytest.mark.parametrize("seed", range(5))
def test_an_aggregated_metric_is_that_of_the_corrected_protocol(seed):
    random = np.random.default_rng(seed)
    table = prediction_table(results_of(THREE_TASKS, 30, seed))
    table.loc[random.random(len(table)) < 0.1, "confidence"] = np.nan
    correct = (table["label"] == table["truth"]).astype(int)
    for row in estimate(table):
        mine = {"task": table["task"], "group": table["group"], "overall": table["task"].map(lambda _: "Overall")}
        index = np.flatnonzero(mine[row.kind] == row.name)
        for metric in vecbench.ASKED:
            values = [[None if np.isnan(table["confidence"][n]) else table["confidence"][n], correct[n]] for n in index]
            values = [correct for _, correct in values] if metric == "accuracy" else values
            expected = row.metrics.get(metric)
            assert vecbench.aggregate(metric, values) == (expected if expected is None else pytest.approx(expected))


# --- the real thing --------------------------------------------------------------------------


class Model(JsonHandler):
    """Answers by the question and the image's pixels, however they are encoded; now and then not at all."""

    def do_POST(self):
        texts, pixels = [], []
        for turn in json.loads(self.read_body())["messages"]:
            for item in turn["content"] if isinstance(turn["content"], list) else [{"text": turn["content"]}]:
                if "image_url" in item:
                    content = base64.b64decode(item["image_url"]["url"].partition(",")[2])
                    with Image.open(io.BytesIO(content)) as image:
                        pixels.append(image.convert("RGB").tobytes())
                else:
                    texts.append(item["text"])
        question = "".join(texts)
        digest = hashlib.sha256(b"".join([question.encode(), *pixels])).digest()
        with self.server.lock:
            self.server.asked.append(digest.hex())
        if digest[0] % 8 == 0:
            self.reply({"error": {"message": "made-up refusal"}}, 400)
            return
        labels = re.search(r"\[(.*?)\]", question)[1].split(", ")
        # The reasoning names labels, has an empty line and ends in blanks: all that a harness may cut away.
        text = f"<think><element>{labels[0]}\n\n{labels[-1]}</element></think>\n\n"
        text += f"<answer>{labels[digest[1] % min(3, len(labels))]}</answer>"
        text += "" if digest[2] % 6 == 0 else f"<confidence>0.{10 + digest[3] % 90}</confidence>"
        self.reply(completion(text + "\n"))


@contextmanager
def model():
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        server.lock, server.asked = threading.Lock(), []
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def lmms_eval(tmp_path_factory):
    """A Python with lmms-eval, and with this environment's packages, which are not installed anew."""
    uv = shutil.which("uv") or str(Path(sys.prefix) / ".uv" / "bin" / "uv")
    if not os.access(uv, os.X_OK):
        pytest.skip("needs uv, which scripts/setup.sh installs")
    folder = tmp_path_factory.mktemp("lmms-eval")
    python = folder / "bin" / "python"
    ours = {name for package in importlib.metadata.distributions() if (name := package.metadata["Name"])}
    # A marker that never holds: uv leaves these out. lmms-eval needs an older filelock, which comes first on the path.
    excluded = [f"{name} ; python_version < '3'\n" for name in sorted(ours - {"filelock"})]
    (folder / "overrides.txt").write_text("".join(excluded))
    run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder)
    options = ["--quiet", "--python", python, "--overrides", folder / "overrides.txt"]
    run(uv, "pip", "install", *options, LMMS_EVAL, "filelock<4")
    (packages,) = folder.glob("lib/python3*/site-packages")
    (here,) = {Path(np.__file__).parents[1]}
    (packages / "this_environment.pth").write_text(f"{here}\n")
    return python


def evaluated_by_lmms_eval(python, data, output, server, check=True):
    """(lmms-eval's process, its aggregated results, the file of its samples)."""
    environment = {
        **os.environ, "PYTHONPATH": str(REPO), "HF_HOME": str(output / "cache"), "OPENAI_API_KEY": "none",
        "data_path": str(data), "min_pixels": TOY_PIXELS[1], "max_pixels": TOY_PIXELS[3],
    }  # fmt: skip
    done = run(
        python, "-m", "lmms_eval", "eval", "--model", "openai",
        "--model_args", f"model=made-up,base_url={server.url},max_retries=1,num_concurrent=2",
        "--include_path", REPO / "scripts" / "lmms_eval", "--tasks", "vecbench", "--batch_size", 1,
        "--log_samples", "--output_path", output, env=environment, cwd=output, check=check,
    )  # fmt: skip
    found = [list(output.glob(f"made-up/*_{end}")) for end in ("results.json", "samples_vecbench.jsonl")]
    return done, *(paths[0] if paths else None for paths in found)


def evaluation(output, *source):
    run("-m", "inference.evaluate", *source, "--output_dir", output, "--no_plots", "--n_resamples", 0)
    return json.loads((output / "metrics.json").read_text())


@pytest.mark.long
def test_lmms_eval_gives_the_numbers_of_inference_evaluate(lmms_eval, toy_data, tmp_path):
    with model() as server:
        done, results, samples = evaluated_by_lmms_eval(lmms_eval, toy_data, tmp_path, server)
        assert results, done.stdout + done.stderr
        asked = sorted(server.asked)
        server.asked.clear()
        run(
            "-m", "inference.inference_vllm", "--engine", "openai", "--base_url", server.url, "--model_name", "made-up",
            "--data_path", toy_data, "--output_path", tmp_path / "own", "--temperature", 0, "--max_retries", 0,
            *TOY_PIXELS, check=False,
        )  # fmt: skip
        assert sorted(server.asked) == asked  # the same questions and pixels
    own = evaluation(tmp_path / "own evaluated", "--output_path", tmp_path / "own")
    of_samples = evaluation(tmp_path / "samples evaluated", "--input_file", samples)

    assert of_samples["counts"] == own["counts"] and own["counts"]["failed"] > 0
    for part in ("published", "corrected", "emobserver", "reasoning"):
        assert of_samples[part] == own[part]
    aggregated = json.loads(results.read_text())
    theirs = aggregated["results"]["vecbench"]
    numbers = {name.removesuffix(",none"): value for name, value in theirs.items() if name.endswith(",none")}
    assert numbers["failed"] == own["counts"]["failed"]
    assert aggregated["n-samples"]["vecbench"]["effective"] == own["counts"]["read"]
    expected = of_rows(own)
    assert len(expected) == 4 * 13 and sum(value is not None for value in expected.values()) > 40
    for name, value in expected.items():
        assert numbers.get(name) == (value if value is None else pytest.approx(value, abs=1e-12)), name
    assert "toy world" in done.stderr

    # The same samples as a task folder logs them that keeps no record: by --data_path.
    bare = [{k: v for k, v in row.items() if k != "failed"} for row in read_jsonl(samples)]
    matched = read_file(write_jsonl(tmp_path / "bare.jsonl", bare), toy_data)
    in_order = read_file(samples).table
    assert matched.table["sample_id"].tolist() == in_order["sample_id"].tolist()
    assert (matched.table["label"] == in_order["label"]).all()


@pytest.mark.long
def test_records_that_cannot_be_asked_stop_lmms_eval_in_one_line(lmms_eval, toy_data, tmp_path):
    rows = read_jsonl(toy_data)
    rows[3]["candidates"] = []
    data = write_jsonl(toy_data.with_name("broken.jsonl"), rows)
    with model() as server:
        done, results, _ = evaluated_by_lmms_eval(lmms_eval, data, tmp_path, server, check=False)
    assert done.returncode == 1 and results is None
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"vecbench: {data}, line 4, field 'candidates': expected a non-empty list of labels")
    assert "1 of 36 records cannot be asked" in last and "--fix" in last
