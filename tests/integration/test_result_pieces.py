"""Results that several processes read in pieces."""

import pandas as pd

from inference.data.vecbench import TASKS
from inference.metrics import results
from inference.metrics.result_lines import pieces_of
from inference.metrics.results import read_shards
from tests.helpers.results import results_of, write_run


def test_small_pieces_in_parallel_give_the_table_of_one_reading(monkeypatch, tmp_path):
    write_run(tmp_path, results_of(list(TASKS), 20))
    whole = read_shards(tmp_path)
    monkeypatch.setattr(results, "SMALL_BYTES", 0)
    monkeypatch.setattr(pieces_of, "__defaults__", (5_000,))
    pieces = read_shards(tmp_path)
    pd.testing.assert_frame_equal(pieces.table, whole.table)
    assert list(pieces.lines()) == list(whole.lines())
    assert pieces.candidates == whole.candidates
