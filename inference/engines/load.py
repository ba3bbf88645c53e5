"""The one place that names the engines.

    engine = load_engine("vllm", settings)
    for output in engine.run(requests): ...

imports the engine that is asked for, with its framework, and no other.
"""

from __future__ import annotations

from inference.engines.base import Engine, EngineSettings
from inference.engines.checkpoints import check_checkpoint


def load_engine(name: str, settings: EngineSettings) -> Engine:
    """The engine called ``vllm``, ``transformers``, ``openai`` or ``ray``, ready for requests.

    Raises:
        ValueError: for another name.
        CheckpointRefused: for a checkpoint that ``inference.engines.checkpoints`` refuses.
    """
    if name != "openai":
        check_checkpoint(settings.checkpoint, settings.allow_pickle, settings.trust_remote_code)
    if name == "vllm":
        from inference.engines.vllm import VllmEngine

        return VllmEngine(settings)
    if name == "transformers":
        from inference.engines.hf import TransformersEngine

        return TransformersEngine(settings)
    if name == "openai":
        from inference.engines.openai import OpenAIEngine

        return OpenAIEngine(settings)
    if name == "ray":
        from inference.engines.ray import RayEngine

        return RayEngine(settings)
    raise ValueError(f"expected the engine vllm, transformers, openai or ray, got {name!r}")
