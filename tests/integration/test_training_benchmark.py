"""The record of the training benchmark: what it reads from the frameworks' output, and what it does with a failure."""

import json
import sys

from scripts.maintenance.benchmark.training import Step, run_step, table

# Lines as ms-swift 4.6.0 and verl 0.9.1 printed them on an H200 and on CPU, shortened.
SWIFT = """
import time
for step in (1, 2, 3):
    time.sleep(0.05)
    print({'loss': '0.11', 'global_step/max_steps': f'{step}/3', 'memory(GiB)': '0.2' + str(step)}, flush=True)
print({'train_runtime': '4.4', 'global_step/max_steps': '3/3', 'memory(GiB)': '0.21'})
"""
VERL = """
for step, seconds in ((1, 37.5), (2, 40.0), (3, 42.0)):
    print(f"(TaskRunnerV1 pid=1) step:{step} - training/epoch:0 - perf/max_memory_reserved_gb:{step}.5 - "
          f"timing_s/step:np.float64({seconds})")
"""


def ran(code, tmp_path):
    return run_step(Step("toy", lambda: [sys.executable, "-c", code], {"steps": 3}), tmp_path / "log.txt")


def test_ms_swifts_steps_are_timed_by_their_lines_and_the_last_one_counts_once(tmp_path):
    result = ran(SWIFT, tmp_path)
    assert (result["steps"], result["exit_status"], result["reserved_gib"]) == (3, 0, 0.23)
    assert len(result["seconds_of_steps"]) == 2
    assert 0.04 < result["seconds_per_step"] < 5
    assert "memory(GiB)" in (tmp_path / "log.txt").read_text()


def test_verls_steps_have_its_own_seconds_and_the_first_is_left_out_of_the_median(tmp_path):
    result = ran(VERL, tmp_path)
    assert (result["steps"], result["seconds_per_step"], result["reserved_gib"]) == (3, 41.0, 3.5)
    assert result["seconds_of_steps"] == [37.5, 40.0, 42.0]


def test_a_failed_run_keeps_the_end_of_its_log(tmp_path):
    result = ran("import sys; print('step 1'); sys.exit('no memory left')", tmp_path)
    assert result["exit_status"] == 1
    assert result["end_of_log"] == ["step 1", "no memory left"]
    assert json.dumps(result)


def test_a_checkpoint_that_cannot_be_made_is_a_failed_run(tmp_path):
    import subprocess

    def command():
        subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)

    result = run_step(Step("3b", command), tmp_path / "log.txt")
    assert result["exit_status"] == 3
    assert table({"runs": {"3b": result}}).splitlines()[-1] == "| 3b | – | – | – | – | – | 3 |"
