"""Let verl 0.6.1's own trainer run without a GPU; the GPU path never loads this file.

verl imports it in each of its processes when the environment names it:

    VERL_USE_EXTERNAL_MODULES=scripts.toy_world.verl_cpu_0_6 PYTHONPATH=. bash train/step3_example.sh

``bash scripts/toy_world/stage3_cpu.sh`` sets that and the settings that go with it. Nothing of
the algorithm is touched: where verl, FSDP or Ray take a GPU for granted, the same call is
answered by the CPU. With a GPU in the machine the import fails rather than slow a real run.
"""

from __future__ import annotations

import psutil
import torch
import torch.distributed as dist
import torch.distributed.fsdp._init_utils as fsdp_init

if torch.cuda.is_available():
    raise RuntimeError("scripts.toy_world.verl_cpu_0_6 is for machines without a GPU: unset VERL_USE_EXTERNAL_MODULES")


def _fill_device_namespace() -> None:
    """verl asks torch.<device> for memory use and random states that torch.cpu does not have."""
    missing = {
        "max_memory_allocated": lambda *_, **__: 0,
        "max_memory_reserved": lambda *_, **__: 0,
        "memory_allocated": lambda *_, **__: 0,
        "memory_reserved": lambda *_, **__: 0,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda *_: None,
        "mem_get_info": lambda *_: (psutil.virtual_memory().available, psutil.virtual_memory().total),
        "get_device_name": lambda *_: "CPU",
        "get_rng_state": torch.get_rng_state,
        "set_rng_state": torch.set_rng_state,
        "manual_seed": torch.manual_seed,
    }
    for name, function in missing.items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)


def _use_gloo() -> None:
    """verl asks for nccl; gloo is the CPU's backend, and stricter in two of the calls verl makes."""
    init_process_group, all_gather, all_reduce = dist.init_process_group, dist.all_gather, dist.all_reduce

    def init_with_gloo(backend=None, *args, **kwargs):
        return init_process_group("gloo", *args, **kwargs)

    def gather_equal_shapes(tensors, tensor, *args, **kwargs):
        # The profiler gathers a 0-dimensional tensor into tensors of one element.
        return all_gather(tensors, tensor.reshape(tensors[0].shape), *args, **kwargs)

    def reduce_with_average(tensor, op=dist.ReduceOp.SUM, group=None, async_op=False):
        if op != dist.ReduceOp.AVG:
            return all_reduce(tensor, op, group, async_op)
        all_reduce(tensor, dist.ReduceOp.SUM, group)
        tensor.div_(dist.get_world_size(group))
        return None

    dist.init_process_group = init_with_gloo
    dist.all_gather = gather_equal_shapes
    dist.all_reduce = reduce_with_average


def _let_fsdp_stay_on_cpu() -> None:
    """FSDP refuses to broadcast CPU modules, though gloo can; pinning memory needs a GPU's driver."""
    fsdp_init._check_module_states_for_sync_module_states = lambda *_: None
    torch.Tensor.pin_memory = lambda tensor, *_, **__: tensor


_fill_device_namespace()
_use_gloo()
_let_fsdp_stay_on_cpu()
