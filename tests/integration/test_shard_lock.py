"""One writer per shard, whichever process it is in."""

import subprocess
import sys

import pytest

from inference.runs.shards import ShardBusy, ShardWriter, finished_samples


def test_a_second_writer_of_the_same_shard_is_refused_with_the_firsts_pid(tmp_path):
    hold = (
        "import sys, time; from inference.runs.shards import ShardWriter\n"
        f"with ShardWriter({str(tmp_path)!r}, 0, 1): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ShardBusy, match=str(holder.pid)), ShardWriter(tmp_path, 0, 1):
            pass
    finally:
        holder.communicate("")
    with ShardWriter(tmp_path, 0, 1) as writer:  # free again
        writer.write({"sample_id": "s0", "position": 0, "response": "awe"})
    assert finished_samples(tmp_path) == {"s0"}
