"""The command that compares two runs."""

import csv

from tests.helpers.commands import run, write_jsonl
from tests.helpers.results import THREE_TASKS, improved, results_of


def test_the_command_counts_what_only_one_run_has_and_writes_a_table(tmp_path):
    rows = results_of(THREE_TASKS, 30)
    for name, kept in (("a", rows[:-1]), ("b", improved(rows[2:]))):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "merged.jsonl", [{**row, "notice": "made up"} for row in kept])
    done = run("-m", "inference.compare", tmp_path / "a", tmp_path / "b", "--n_resamples", "100",
               "--formats", "png", "svg")  # fmt: skip
    assert "NOTE: made up" in done.stdout
    assert "87 samples in both runs; left out: 2 only in A, 1 only in B" in done.stdout
    written = tmp_path / "b" / "compared_with_a"
    with open(written / "comparison.tsv", encoding="utf-8") as handle:
        lines = list(csv.DictReader(handle, delimiter="\t"))
    overall = next(line for line in lines if (line["row"], line["figure"]) == ("Overall", "accuracy"))
    assert float(overall["b"]) == 1.0
    assert (written / "comparison.png").stat().st_size > 10_000
    assert "made up" in (written / "comparison.svg").read_text(encoding="utf-8")
