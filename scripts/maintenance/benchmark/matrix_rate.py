"""The rate of one large matrix product: what a card's processors reach when nothing else holds them up."""

from __future__ import annotations

import time

GPU_SIZE, CPU_SIZE = 8192, 1024
WARM_UPS, REPEATS = 3, 20


def matrix_rate() -> tuple[str, float]:
    """(device's name, operations per second) of bfloat16 products of random 8192 × 8192 matrices.

    On CPU float32 and 1024. Call it in a process of its own: it asks CUDA.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    size, dtype, device = (GPU_SIZE, torch.bfloat16, "cuda") if on_gpu else (CPU_SIZE, torch.float32, "cpu")
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    result = torch.empty_like(left)

    def seconds(repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            torch.matmul(left, right, out=result)
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(WARM_UPS)
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    return name, REPEATS * 2 * size**3 / seconds(REPEATS)
