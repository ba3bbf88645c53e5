"""The command that makes report.html: what it decodes again, where it looks for images, what it refuses."""

import os
import shutil

import pytest

from inference.report import build
from tests.helpers import report_runs
from tests.helpers.commands import run
from tests.helpers.report_pages import make, remake


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    return report_runs.hostile(tmp_path_factory.mktemp("hostile"))


def test_a_second_report_decodes_no_image_again_and_a_changed_image_is_made_anew(hostile_run, tmp_path):
    folder, data = tmp_path / "run", tmp_path / "data" / "test.jsonl"
    shutil.copytree(hostile_run[0], folder, ignore=shutil.ignore_patterns("thumbnails.json"))
    shutil.copytree(hostile_run[1].parent, data.parent)
    assert "thumbnails: 100%" in make(folder, data, "--processes", "2").stderr
    first = (folder / "report.html").read_bytes()
    again = make(folder, data, "--processes", "1")
    assert "4/4" not in again.stderr and "1/1" in again.stderr  # the torn one is tried again
    assert (folder / "report.html").read_bytes() == first
    image = tmp_path / "data" / "torn.png"
    shutil.copy(tmp_path / "data" / "images" / "0.png", image)
    os.utime(image)
    remake(folder, data.parent)
    assert "image torn.png: cannot be read" not in (folder / "report.html").read_text(encoding="utf-8")


def test_a_cache_that_is_torn_is_made_anew(hostile_run):
    folder, data = hostile_run
    remake(folder, data.parent)
    expected = (folder / "report.html").read_bytes()
    (folder / "thumbnails.json").write_text('{"torn')
    remake(folder, data.parent)
    assert (folder / "report.html").read_bytes() == expected


def test_images_are_found_in_further_folders_and_can_be_left_out(hostile_run, tmp_path):
    folder, data = hostile_run
    remake(folder, data.parent, size=None)
    assert 'id="thumbnails-0"' not in (folder / "report.html").read_text(encoding="utf-8")
    remake(folder, tmp_path, data.parent)
    assert 'id="thumbnails-0"' in (folder / "report.html").read_text(encoding="utf-8")


def test_a_folder_that_was_not_evaluated_is_one_clear_line(tmp_path):
    done = run("-m", "inference.report", "--output_path", tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"no report: {tmp_path / 'metrics.json'}: No such file or directory; evaluate the run"
    )
    (tmp_path / "metrics.json").write_text("{torn")
    with pytest.raises(build.ReportError, match=r"metrics\.json: expected the JSON that evaluation writes"):
        remake(tmp_path)
    assert not (tmp_path / "report.html").exists()
