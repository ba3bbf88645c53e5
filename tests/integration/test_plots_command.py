"""The command that draws a run's plots."""

from tests.helpers.commands import run, write_jsonl
from tests.helpers.plots import STEMS, is_drawn, some_results


def test_the_command_draws_a_run_again(tmp_path):
    results = [{**result, "answer_log_probability": -0.2} for result in some_results(3, ["FI-2"])]
    write_jsonl(tmp_path / "merged.jsonl", results)
    done = run("-m", "inference.plots", "--output_path", tmp_path, "--output_dir", tmp_path / "out", "--formats", "png")
    written = sorted((tmp_path / "out").iterdir())
    assert sorted(done.stdout.splitlines()) == [str(path) for path in written]
    assert {path.name for path in written} == {
        f"{stem}.png" for stem in (*STEMS, "confusion_FI-2", "confidence_sources")
    }
    for path in written:
        assert is_drawn(path), path.name


def test_a_folder_without_results_is_one_clear_line(tmp_path):
    done = run("-m", "inference.plots", "--output_path", tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot draw: {tmp_path}: expected result shards")
