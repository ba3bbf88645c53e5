"""The rate of one large matrix product: what a card's processors reach when nothing else holds them up."""

from __future__ import annotations

import time

WARM_UPS, REPEATS = 3, 20


def matrix_rate(device: str = "cuda", size: int = 8192) -> float:
    """Operations per second of bfloat16 products of random square matrices. Asks CUDA: for a process of its own."""
    import torch

    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    result = torch.empty_like(left)

    def seconds(repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            torch.matmul(left, right, out=result)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(WARM_UPS)
    return REPEATS * 2 * size**3 / seconds(REPEATS)
