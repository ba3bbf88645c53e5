"""Which GPU a worker gets: one reading of CUDA_VISIBLE_DEVICES for every command."""

import os
import sys

import pytest

from inference.engines.devices import device_of, use_indices, visible_devices
from tests.helpers.commands import REPO, run


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose nvidia-smi lists three GPUs, the environment naming none."""
    lines = "".join(f"GPU {index}: made up (UUID: GPU-{uuid}-1)\n" for index, uuid in enumerate("abc"))
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("named", "devices"),
    [
        (None, ["0", "1", "2"]),
        ("", []),
        (" ", []),
        ("-1", []),
        ("none", []),
        ("0,", ["0"]),
        ("0,1", ["0", "1"]),
        (" 2 , 0 ", ["2", "0"]),
        ("1,-1,2", ["1"]),
        ("GPU-a-1,MIG-b/1/0", ["GPU-a-1", "MIG-b/1/0"]),
    ],
)
def test_the_visible_devices_are_read_as_cuda_reads_them(machine, monkeypatch, named, devices):
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_devices() == devices
    assert run("-m", "inference.engines.devices").stdout.split() == devices
    assert device_of(0) == (devices[0] if devices else None)


def test_a_machine_without_nvidia_smi_has_no_gpu_and_any_number_of_workers(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices() == []
    assert device_of(7) is None


def test_a_worker_too_many_is_refused_with_what_there_is(machine, monkeypatch):
    with pytest.raises(ValueError, match=r"nvidia-smi lists 3 GPU\(s\), worker 3 has none: set n_gpu to at most 3"):
        device_of(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,")
    with pytest.raises(ValueError, match=r"CUDA_VISIBLE_DEVICES=0, names 1 GPU"):
        device_of(1)


@pytest.mark.parametrize(
    ("named", "given"),
    [("GPU-c-1, 0", "2,0"), ("0,1", "0,1"), ("", ""), ("GPU-elsewhere", "GPU-elsewhere"), ("MIG-a", "MIG-a")],
)
def test_vllm_is_given_indices_in_nvidia_smis_order_for_uuids(machine, monkeypatch, named, given):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    use_indices()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == given
    assert os.environ.get("CUDA_DEVICE_ORDER") == ("PCI_BUS_ID" if given == "2,0" else None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_gpu": "4"}, "nvidia-smi lists 3 GPU(s)"),
        ({"n_gpu": "2", "CUDA_VISIBLE_DEVICES": "1,"}, "CUDA_VISIBLE_DEVICES=1, names 1 GPU(s)"),
    ],
)
def test_the_main_job_refuses_more_workers_than_gpus_before_any_starts(machine, tmp_path, toy_data, settings, said):
    given = {"python": sys.executable, "data_path": str(toy_data), "output_path": str(tmp_path / "run"), **settings}
    job = ["bash", REPO / "inference" / "infer_and_eval_example.sh"]
    done = run(*job, env={**os.environ, **given}, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert not (tmp_path / "run").exists()
