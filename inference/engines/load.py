"""The one place that names the engines.

    engine = load_engine(settings)
    for output in engine.run(requests): ...

imports the engine that is asked for, with its framework, and no other.
"""

from __future__ import annotations

import importlib
import logging

from inference.engines.adapters import base_doubt, check_adapter
from inference.engines.base import Engine, EngineSettings
from inference.engines.checkpoints import check_checkpoint

log = logging.getLogger("inference")

ENGINES = {  # name: (module, class)
    "vllm": ("vllm", "VllmEngine"),
    "transformers": ("hf", "TransformersEngine"),
    "openai": ("openai", "OpenAIEngine"),
    "ray": ("ray", "RayEngine"),
}


def check_model(settings: EngineSettings) -> None:
    """Look at checkpoint and adapter, where the engine has any, before anything is loaded.

    Raises:
        CheckpointRefused: in one line, naming the file and what to do.
    """
    if settings.engine != "openai":
        check_checkpoint(settings.checkpoint, settings.allow_pickle, settings.trust_remote_code)
        if settings.adapter:
            engine = settings.actor_engine if settings.engine == "ray" else settings.engine
            check_adapter(settings.adapter, settings.checkpoint, engine)


def load_engine(settings: EngineSettings) -> Engine:
    """The engine ``settings.engine``, a key of ``ENGINES``, ready for requests; says what is doubtful of an adapter.

    Raises:
        ValueError: for another name.
        CheckpointRefused: for a checkpoint that ``inference.engines.checkpoints`` refuses.
    """
    if settings.engine not in ENGINES:
        raise ValueError(f"expected one of the engines {', '.join(ENGINES)}, got {settings.engine!r}")
    check_model(settings)
    if settings.adapter and (doubt := base_doubt(settings.adapter, settings.checkpoint)):
        log.warning("%s", doubt)
    module, name = ENGINES[settings.engine]
    return getattr(importlib.import_module(f"inference.engines.{module}"), name)(settings)
