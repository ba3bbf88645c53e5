"""One writer per shard, whichever process it is in."""

import subprocess
import sys

import pytest

from inference.common.locks import Held, hold
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


@pytest.mark.parametrize("left", ["", "1234567890\n"])  # nothing, or the pid of a process that was killed
def test_a_process_that_has_just_taken_a_lock_is_named_although_it_has_not_yet_written_its_pid(tmp_path, left):
    lock = tmp_path / "job.lock"
    lock.write_text(left)
    take = (
        "import fcntl, os, sys, time\n"
        f"with open({str(lock)!r}, 'r+') as lock:\n"
        "    fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True); time.sleep(0.3)\n"
        "    lock.truncate(0); print(os.getpid(), file=lock, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", take], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Held, match=f"^{holder.pid}$"):
            hold(lock)
    finally:
        holder.communicate("")
