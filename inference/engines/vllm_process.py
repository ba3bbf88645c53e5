"""What runs in the process that vLLM starts for its engine, and imports there by name (``worker_extension_cls``)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


class EndsWithItsParent:
    """An extension of vLLM's worker: its process ends with the one that started it, however that one ends.

    Left alone, vLLM's engine waits for requests forever after its parent was killed, and keeps the GPU's memory.
    """

    def __new__(cls, *_, **__):
        if parent := multiprocessing.parent_process():  # None where the engine is in the process that uses it

            def end() -> None:
                parent.join()
                os.kill(os.getpid(), signal.SIGKILL)

            threading.Thread(target=end, daemon=True, name="end with the parent").start()
        return super().__new__(cls)
