"""What a dead process is said to have died of: the exception of vLLM's own process, not its parent's forty lines."""

import json
import os
import subprocess
import sys

import pytest

from inference.engines.root_cause import VLLM_OUT_OF_MEMORY, child_cause, engine_cause, last_words, with_advice
from tests.helpers.commands import REPO, TOY_CHECKPOINT, TOY_PIXELS, run

CHILD = "\x1b[1;36m(EngineCore_DP0 pid=17843)\x1b[0;0m "
LOGGER = "ERROR 11-26 20:44:12 [core.py:708] "
CAUSE = "ValueError: No available memory for the cache blocks."
SEE_ABOVE = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
TRACEBACK = ["Traceback (most recent call last):", '  File "core.py", line 699, in run', "    raise ValueError("]


def log(*lines, prefix=""):
    return "".join(f"{prefix}{line}\n" for line in lines)


# As vLLM 0.11 writes it: by its logger, once more by multiprocessing, then the parent.
DEAD_CHILD = (
    log("INFO 11-26 20:44:06 [core.py:77] Initializing a V1 LLM engine", prefix=CHILD)
    + log("EngineCore failed to start.\r", *TRACEBACK, CAUSE, prefix=CHILD + LOGGER)
    + log("Process EngineCore_DP0:", *TRACEBACK, CAUSE, prefix=CHILD)
)
PARENT = log(*TRACEBACK, SEE_ABOVE)


def test_the_childs_exception_is_the_cause_and_names_its_process():
    error = RuntimeError(SEE_ABOVE.partition(": ")[2])
    assert engine_cause(error, DEAD_CHILD) == f"{CAUSE} (EngineCore_DP0 pid=17843)"
    assert child_cause(DEAD_CHILD + PARENT) == f"{CAUSE} (EngineCore_DP0 pid=17843)"


def test_of_a_worker_below_the_engines_process_it_is_the_workers():
    """From vLLM 0.20 on a CPU's worker is one more process down, and both of its parents only refer to it."""
    worker, core = "(Worker pid=12) ", "(EngineCore pid=11) "
    refers = "Exception: WorkerProc initialization failed in a background process. See stack trace for root cause."
    text = (
        log("WorkerProc failed to start.", *TRACEBACK, "ValueError: invalid literal for int() with base 10: 'all'",
            prefix=f"{core}{worker}{LOGGER}")
        + log("EngineCore failed to start.", *TRACEBACK, refers, prefix=core + LOGGER)
    )  # fmt: skip
    assert child_cause(text) == f"ValueError: invalid literal for int() with base 10: 'all' {core}{worker}".strip()


def test_without_a_traceback_of_a_child_it_is_the_error_itself():
    assert engine_cause(KeyError("x"), "some log\n") == "KeyError: 'x'"
    assert engine_cause(RuntimeError("its process was killed"), "") == "RuntimeError: its process was killed"


def test_a_process_that_a_library_ended_leaves_its_last_line():
    """OpenMP's library, for instance, ends the process without an exception."""
    text = log("INFO starting", "libnuma: Warning: unparseable cpu description `bogus'", "")
    error = RuntimeError("Engine core initialization failed. See root cause above.")
    assert engine_cause(error, text).endswith(
        "The last line before that: libnuma: Warning: unparseable cpu description `bogus'"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (log("one", "inference failed: no such file", "[rank0]: a library chats on"), "inference failed: no such file"),
        (
            log(*TRACEBACK, "ValueError: of the worker's own", "UserWarning: leaked objects"),
            "ValueError: of the worker's own",
        ),
        (DEAD_CHILD + PARENT, SEE_ABOVE),
        (log("Killed", ""), "Killed"),
        ("", ""),
        (log("inference failed: \x1b[31mred"), "inference failed: \ufffd[31mred"),
    ],
)
def test_the_last_words_are_the_workers_and_no_librarys(text, words):
    assert last_words(text) == words


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (
            "ValueError: Free memory on device cuda:0 (20.1/79.1 GiB) on startup is less than desired GPU memory "
            "utilization (0.9, 71.2 GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
            "processes.",
            "lower --gpu_memory_utilization, or end what else uses the GPU",
        ),
        (CAUSE, "raise --gpu_memory_utilization or lower --max_num_seqs"),
        (
            "ValueError: To serve at least one request with the model's max seq len (4096), (0.2 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (0.1 GiB). (EngineCore pid=7)",
            "raise --gpu_memory_utilization or lower --max_model_len",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. (EngineCore pid=7)",
            "lower --gpu_memory_utilization, beside whose share it needs some more, or --max_num_seqs",
        ),
        (
            "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests. Please try "
            "lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine.",
            "lower --gpu_memory_utilization, beside whose share it needs some more, or --max_num_seqs",
        ),
    ],
)
def test_too_little_memory_is_said_with_the_setting_that_helps(cause, advice):
    """As vLLM 0.11 and 0.24 and torch 2.8 and 2.11 say it."""
    assert with_advice(cause, VLLM_OUT_OF_MEMORY) == f"{cause.rstrip('.')}. Too little memory: {advice}."


def test_another_cause_gets_no_advice():
    assert with_advice("ValueError: no such file.", VLLM_OUT_OF_MEMORY) == "ValueError: no such file."


def test_an_engine_reads_what_its_child_wrote_into_the_log_that_both_share(tmp_path):
    """A real child, and a log that holds another start's cause already."""
    code = f"""
import subprocess, sys
from inference.engines.root_cause import OwnLog, engine_cause
log = OwnLog()
subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write(sys.argv[1])", {DEAD_CHILD!r}])
print("CAUSE", engine_cause(RuntimeError("See root cause above"), log.text()), flush=True)
"""
    path = tmp_path / "worker.log"
    path.write_text(DEAD_CHILD.replace("No available memory", "An older start"))
    with open(path, "ab") as handle:
        subprocess.run([sys.executable, "-c", code], cwd=REPO, stdout=handle, stderr=handle, check=True)
    assert path.read_text().splitlines()[-1] == f"CAUSE {CAUSE} (EngineCore_DP0 pid=17843)"


@pytest.mark.faults
def test_an_engine_that_cannot_start_ends_the_job_with_its_own_cause_and_the_workers_log(toy_data, tmp_path):
    """vLLM's engine in a process of its own, as on a GPU, with an impossible cache."""
    settings = {
        "python": sys.executable, "checkpoint": TOY_CHECKPOINT, "data_path": toy_data, "output_path": tmp_path / "run",
        "n_gpu": "1", "min_pixels": TOY_PIXELS[1], "max_pixels": TOY_PIXELS[3], "max_new_tokens": "16",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_CPU_KVCACHE_SPACE": "-1",
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    done = run("bash", REPO / "inference" / "infer_and_eval_example.sh", env=environment, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    said = "inference failed: vLLM's engine did not start: ValueError: No available memory for the cache blocks."
    assert last.startswith(f"Worker 0 failed (status 1, log {tmp_path / 'run' / 'worker_0.log'}): {said}")
    assert "Traceback" not in done.stderr
    assert "ended" not in json.loads((tmp_path / "run" / "run.json").read_text())["starts"][0]
