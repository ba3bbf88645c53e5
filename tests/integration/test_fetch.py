"""Fetching from a hub: everything arrives and is checked, whatever breaks on the way, and each error is one line."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading

import pytest

from inference.common.locks import hold
from scripts.data.fetch import main
from scripts.data.hub.job import RESUMES_FILES, size
from tests.helpers.archives import IMAGE, archive
from tests.helpers.commands import REPO, run, wait_until
from tests.helpers.hub_server import COMMIT, Hub, git_blob_id

TOKEN = "hf_aSecretThatNobodyMaySee"
RECORD = {"conversations": [{"role": "user", "content": [{"type": "image", "image": "images/1.jpg"}]}]}
TRAINING = {"messages": [{"role": "user", "content": "<image>"}], "images": ["../images/2.jpg"]}
LINES = (json.dumps(RECORD) + "\n").encode()
LONG = random.Random(2).randbytes(22 * 2**20)  # the library writes in pieces of 10 MiB


@pytest.fixture
def hub():
    with Hub() as hub:
        hub.add(
            "datasets",
            "wudq/VECBench",
            {
                "README.md": b"# VECBench",
                "test_8k.jsonl": LINES,
                "images/1.jpg": IMAGE,
                "images/2.jpg": IMAGE[::-1],
                "VEC-CoT/stage1_86k.jsonl": (json.dumps(TRAINING) + "\n").encode() * 100,
            },
        )
        hub.add("models", "wudq/EmoCaliber", {"config.json": b"{}", "model.safetensors": IMAGE})
        hub.add("models", "Qwen/Qwen2.5-VL-7B-Instruct", {"config.json": b'{"model_type": "qwen2_5_vl"}'})
        yield hub


def environment(hub, work, **variables):
    """What a user has, and neither this machine's proxy, token nor cache."""
    foreign = re.compile("HF_|HUGGING|.*PROXY$", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not foreign.match(name)}
    return {**kept, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(work / "cache"), **variables}


@pytest.fixture
def fetch(hub, tmp_path):
    """Run the command: fetch(arguments, VARIABLE=value)."""

    def start(*arguments, **variables):
        command = ("-m", "scripts.data.fetch", *arguments, "--output_dir", tmp_path / "input data")
        return run(*command, check=False, env=environment(hub, tmp_path, **variables))

    return start


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "input data"


def only_line(text):
    (line,) = text.splitlines()
    return line


def test_everything_listed_arrives_and_matches_its_checksum(hub, fetch, folder):
    done = fetch("all")
    assert (done.returncode, done.stderr) == (0, "")
    for (kind, name), files in hub.repositories.items():
        for path, content in files.items():
            base = folder if kind == "datasets" else folder / name.partition("/")[2]
            assert (base / path).read_bytes() == content
    for counts in (
        "vecbench: 4 files listed = 0 already there + 4 fetched + 0 failed",
        "vec-cot: 1 files listed = 0 already there + 1 fetched + 0 failed",
        "emocaliber: 2 files listed = 0 already there + 2 fetched + 0 failed",
        "base-model: 1 files listed = 0 already there + 1 fetched + 0 failed",
    ):
        assert counts in done.stdout
    assert any("cursor=" in path for _, path, _ in hub.requests)  # a listing of several pages
    assert f"{folder / 'test_8k.jsonl'}: 1 records looked at, 1 images named, 0 not found" in done.stdout
    assert f"{folder / 'VEC-CoT/stage1_86k.jsonl'}: 100 records looked at, 100 images named, 0 not found" in done.stdout


def test_the_folder_can_be_named_relative_to_the_working_directory(hub, tmp_path):
    variables = environment(hub, tmp_path, PYTHONPATH=str(REPO))
    done = run("-m", "scripts.data.fetch", "vecbench", cwd=tmp_path, env=variables)
    assert (tmp_path / "input_data/images/1.jpg").read_bytes() == IMAGE
    assert "input_data/test_8k.jsonl: 1 records" in done.stdout


def test_images_that_are_nowhere_are_said(hub, fetch, folder):
    done = fetch("vec-cot")
    assert done.returncode == 0
    assert "100 images named, 100 not found, the first is ../images/2.jpg" in done.stdout
    assert not (folder / "images").exists()


def test_a_second_start_fetches_nothing_and_checks_everything(hub, fetch, folder):
    fetch("vecbench")
    hub.requests.clear()
    done = fetch("vecbench")
    assert "vecbench: 4 files listed = 4 already there + 0 fetched + 0 failed" in done.stdout
    assert not hub.asked("GET", "/resolve/") + hub.asked("HEAD", "/resolve/") + hub.asked("GET", "/storage/")
    (folder / "images/1.jpg").write_bytes(b"\0" + IMAGE[1:])  # the same size
    (folder / "test_8k.jsonl").write_bytes(LINES[:-5])
    done = fetch("vecbench")
    assert "vecbench: 4 files listed = 2 already there + 2 fetched + 0 failed" in done.stdout
    assert ((folder / "images/1.jpg").read_bytes(), (folder / "test_8k.jsonl").read_bytes()) == (IMAGE, LINES)


def test_sizes_are_said_and_a_dry_run_leaves_nothing(hub, fetch, folder):
    done = fetch("vecbench", "emocaliber", "--dry_run")
    assert done.returncode == 0
    _, vecbench, emocaliber, total = done.stdout.splitlines()
    assert vecbench.split()[:6] == ["vecbench", f"wudq/VECBench@{COMMIT[:8]}", "4", "10.1kB", "0.00B", "10.1kB"]
    assert emocaliber.split()[2:4] == ["2", "5.00kB"]
    assert total.startswith("15.1kB to fetch; ")
    assert not folder.exists()
    assert not hub.asked("HEAD", "/resolve/")


def test_a_full_disk_is_said_before_anything_starts(hub, fetch, folder):
    hub.listed_size["images/1.jpg"] = 10**18
    done = fetch("vecbench")
    assert done.returncode == 2
    assert only_line(done.stderr).startswith("vecbench: the disk is too small: 1.00EB to fetch, ")
    assert not folder.exists()


def test_an_interrupted_download_resumes(hub, fetch, folder):
    hub.add("models", "wudq/EmoCaliber", {"model.safetensors": LONG})
    hub.cut["model.safetensors"] = (15 * 2**20, 1)
    done = fetch("emocaliber")
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "EmoCaliber/model.safetensors").read_bytes() == LONG
    first, second = hub.asked("GET", "/storage/")
    assert ("Range" in first, second["Range"]) == (False, f"bytes={10 * 2**20}-")


@pytest.mark.parametrize(("how", "whole"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_a_download_that_was_stopped_goes_on_at_the_next_start(hub, fetch, folder, tmp_path, how, whole):
    hub.add("models", "wudq/EmoCaliber", {"model.safetensors": LONG})
    hub.stalled["model.safetensors"] = (12 * 2**20, threading.Event())
    command = [sys.executable, "-m", "scripts.data.fetch", "emocaliber", "--output_dir", folder]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    # A background job starts with SIGINT ignored, which would be inherited.
    ctrl_c = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, cwd=REPO, env=environment(hub, tmp_path), **pipes, **ctrl_c) as process:
        wait_until(lambda: any(path.stat().st_size >= 10 * 2**20 for path in folder.glob("**/*.incomplete")), process)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert (process.returncode, said) == (130, "interrupted: start again to go on\n")
    hub.stalled.pop("model.safetensors")[1].set()
    assert not (folder / "EmoCaliber/model.safetensors").exists()
    partial = list(folder.glob("**/*.incomplete"))
    assert len(partial) == 1
    if RESUMES_FILES and not whole:  # whatever wrote it: longer than the file is
        partial[0].write_bytes(LONG + b"more")
    done = fetch("emocaliber")
    assert (done.returncode, done.stderr) == (0, "")
    to_fetch = len(LONG) if not RESUMES_FILES else len(LONG) - 10 * 2**20 if whole else 0
    assert f"{size(to_fetch)} to fetch; " in done.stdout  # less what is there in part and serves
    assert (folder / "EmoCaliber/model.safetensors").read_bytes() == LONG
    start = None if not RESUMES_FILES else f"bytes={10 * 2**20 if whole else len(LONG) + 4}-"
    assert hub.asked("GET", "/storage/")[1]["Range"] == start
    assert not list(folder.glob("**/*.incomplete"))


@pytest.mark.parametrize("path", ["images/1.jpg", "test_8k.jsonl"])
def test_a_corrupted_file_is_fetched_again_and_then_reported(hub, fetch, folder, path):
    content = hub.repositories["datasets", "wudq/VECBench"][path]
    hub.spoiled[path] = 1
    done = fetch("vecbench")
    assert (done.returncode, done.stderr, (folder / path).read_bytes()) == (0, "", content)

    (folder / path).unlink()
    hub.spoiled[path] = 100
    hub.requests.clear()
    done = fetch("vecbench")
    assert done.returncode == 1
    line = only_line(done.stderr)
    spoiled = b"\0" + content[1:]
    large = path.endswith("jpg")
    expected, actual = (
        (hashlib.sha256(content).hexdigest(), hashlib.sha256(spoiled).hexdigest())
        if large
        else (git_blob_id(content), git_blob_id(spoiled))
    )
    kind = "SHA-256" if large else "git blob id"
    assert line.startswith(f"vecbench: {folder / path}: expected {kind} {expected}, got {actual}; from {hub.address}")
    sent_from = "/storage/" if large else "/resolve/"
    assert (
        len([asked for asked in hub.requests if sent_from in asked[1] and path in asked[1] and asked[0] == "GET"]) == 2
    )
    assert not (folder / path).exists()
    assert "vecbench: 4 files listed = 3 already there + 0 fetched + 1 failed" in done.stdout


def test_a_listing_of_another_size_is_reported(hub, fetch, folder):
    hub.listed_size["images/1.jpg"] = 4999
    done = fetch("vecbench")
    assert done.returncode == 1
    assert "images/1.jpg: expected 4999 bytes, got 5000; from http" in only_line(done.stderr)
    assert not (folder / "images/1.jpg").exists()


def test_no_network_is_one_clear_line(hub, fetch, folder):
    done = fetch("all", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert only_line(done.stderr) == (
        "vecbench: http://127.0.0.1:9/datasets/wudq/VECBench cannot be reached ([Errno 111] Connection refused): "
        "check the network, or set HF_ENDPOINT to a mirror"
    )
    assert (done.stdout, folder.exists()) == ("", False)


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["vecbench"], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set: set HF_HUB_OFFLINE=0"),
        (["vecbench"], {"HF_ENDPOINT": "mirror"}, "mirror/datasets/wudq/VECBench cannot be reached ("),
        (["vecbench"], {"VECBENCH_REPO": "a/b"}, "a/b does not exist or is private: name another one with --repo vecb"),
        (["emocaliber"], {"EMOCALIBER_REPO": "a/b"}, "a/b does not exist or is private"),
        (["emocaliber", "--repo", "emocaliber=a/b c"], {}, "expected a repository of the form OWNER/NAME, got 'a/b c'"),
        (["emocaliber", "--revision", "v9"], {}, "wudq/EmoCaliber has no revision 'v9'"),
        (["vec-cot", "--repo", "vec-cot=other/flat"], {}, "vec-cot: no file in other/flat at main, folder VEC-CoT/"),
        (["vecbench", "--repo", "vecbench=other/evil"], {}, "it lists a path outside the repository, '../evil'"),
        (["emocaliber"], {"HF_ENDPOINT": "{hub}/elsewhere"}, "answers with status 404"),
        (["emocaliber"], {"HF_ENDPOINT": "http://me:password@127.0.0.1:9"}, "http://***@127.0.0.1:9/wudq/EmoCaliber"),
    ],
)  # fmt: skip
def test_what_cannot_be_listed_is_one_line_that_says_what_to_do(hub, fetch, folder, arguments, variables, message):
    hub.add("datasets", "other/flat", {"stage1_86k.jsonl": LINES})
    hub.add("datasets", "other/evil", {"../evil": LINES})
    done = fetch(*arguments, **{name: value.format(hub=hub.address) for name, value in variables.items()})
    assert done.returncode == 2
    assert message in only_line(done.stderr)
    assert "password" not in done.stderr
    assert not folder.exists()


@pytest.mark.parametrize("arguments", [["nothing"], ["vecbench", "--repo", "nothing=a/b"], ["--repo", "vecbench=gpt2"]])
def test_a_wrong_command_line_says_what_was_expected(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["fetch", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "error: " in (line := capsys.readouterr().err.splitlines()[-1]) and "expected" in line


def test_without_a_resource_the_command_lists_them_and_asks_nobody(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fetch", "--output_dir", "data"])
    monkeypatch.setenv("BASE_MODEL_REPO", "Qwen/Qwen2.5-VL-3B-Instruct")
    main()  # it could not ask: tests are offline
    rows = [(line.split()[0], *line.split()[-2:]) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ("vecbench", "wudq/VECBench", "data"),
        ("vec-cot", "wudq/VECBench/VEC-CoT", "data/VEC-CoT"),
        ("emocaliber", "wudq/EmoCaliber", "data/EmoCaliber"),
        ("base-model", "Qwen/Qwen2.5-VL-3B-Instruct", "data/Qwen2.5-VL-3B-Instruct"),
    ]


def test_another_repository_can_be_named_and_a_model_has_a_folder_of_its_name(hub, fetch, folder):
    hub.add("models", "other/Small", {"config.json": b"{}"})
    assert fetch("base-model", "--repo", "base-model=other/Small").returncode == 0
    assert fetch("emocaliber", EMOCALIBER_REPO="other/Small").returncode == 0
    assert (folder / "Small/config.json").read_bytes() == b"{}"
    assert not (folder / "EmoCaliber").exists()


@pytest.mark.parametrize("token", [None, "hf_anotherSecretThatNobodyMaySee"])
def test_a_gated_repository_asks_for_a_token_and_never_prints_it(hub, fetch, token):
    hub.gated, hub.token = {"wudq/VECBench"}, TOKEN
    done = fetch("vecbench", "--workers", "1", **({"HF_TOKEN": token} if token else {}))
    assert done.returncode == 2
    line = only_line(done.stderr)
    assert f"{hub.address}/datasets/wudq/VECBench is gated: accept its terms there, then set HF_TOKEN" in line
    assert ("the token that was sent has no access" in line) == (token is not None)
    assert "4 files listed = 0 already there + 0 fetched + 4 failed" in done.stdout
    assert "Secret" not in done.stdout + done.stderr


def test_a_path_out_of_the_folder_is_not_written_even_if_only_the_description_names_it(hub, fetch, tmp_path):
    hub.unlisted = {"../evil", "images/../../evil", str(tmp_path / "evil")}
    hub.repositories["datasets", "wudq/VECBench"] |= dict.fromkeys(hub.unlisted, IMAGE)
    done = fetch("vecbench")
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.rglob("*evil*"))


def test_the_token_of_the_environment_is_sent(hub, fetch):
    hub.gated, hub.token = {"wudq/VECBench"}, TOKEN
    done = fetch("vecbench", HF_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    # Not to storage, whose addresses are signed, and not with what the library asks about itself.
    asked = [headers for _, path, headers in hub.requests if "wudq/VECBench" in path and "/storage/" not in path]
    assert {headers.get("Authorization") for headers in asked} == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout


def test_a_hub_that_asks_for_patience_gets_it(hub, fetch):
    hub.refused["images/1.jpg"] = (429, {"RateLimit": '"resolvers";r=0;t=1'}, 1)
    hub.refused["test_8k.jsonl"] = (429, {"Retry-After": "1"}, 1)
    done = fetch("vecbench")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 files listed = 0 already there + 4 fetched + 0 failed" in done.stdout


def test_what_was_fetched_before_the_hub_refused_is_counted_and_kept(hub, fetch, folder):
    hub.refused["images/2.jpg"] = (403, {}, 100)
    done = fetch("vecbench", "--workers", "1")
    assert done.returncode == 2
    expected = f"vecbench: {hub.address}/datasets/wudq/VECBench refuses access (403): set HF_TOKEN"
    assert only_line(done.stderr).startswith(expected)
    assert "4 files listed = 0 already there + 3 fetched + 1 failed" in done.stdout
    assert (folder / "images/1.jpg").read_bytes() == IMAGE


def test_two_starts_at_once_do_not_get_in_each_others_way(fetch, folder):
    folder.mkdir()
    with hold(folder / ".fetch.lock"):
        done = fetch("vecbench")
    said = f"{folder}: another fetch (pid {os.getpid()}) is writing there: wait for it"
    assert (done.returncode, only_line(done.stderr)) == (2, said)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_unpacked_once_beside_itself(hub, fetch, folder, kind):
    packed = archive({"images/1.jpg": IMAGE, "test_8k.jsonl": b"another"}, kind)
    hub.add("datasets", "wudq/VECBench", {"test_8k.jsonl": LINES, f"images.{kind}": packed})
    done = fetch("vecbench")
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "images/1.jpg").read_bytes() == IMAGE
    assert (folder / "test_8k.jsonl").read_bytes() == LINES  # the repository's own file stays
    assert "1 images named, 0 not found" in done.stdout
    done = fetch("vecbench")
    assert "2 already there + 0 fetched" in done.stdout and "unpacking" not in done.stdout


def test_an_unsafe_archive_is_one_line_and_a_failure(hub, fetch, folder):
    hub.add("datasets", "wudq/VECBench", {"images.tgz": archive({"link": None}, "tgz")})
    done = fetch("vecbench")
    assert done.returncode == 1
    expected = f"vecbench: {folder / 'images.tgz'} cannot be unpacked: it holds a link or device, 'link'"
    assert only_line(done.stderr) == expected
