"""vLLM offline, with continuous batching: the engine always has a full batch and a short queue.

    VllmEngine(EngineSettings("Qwen/Qwen2.5-VL-7B-Instruct", model_name="base"))

Requests are added and finished one by one through the engine's own step loop (not
``LLM.generate``, which wants all images in memory and returns nothing before the last).
While no further request is ready, the engine goes on with those that it has.

Requests keep the order in which their images are ready. Several questions about one image come one after the other
(``runs.worker.share``), while vLLM's caches still have the image processed, encoded and, with prefix caching, read by
the model.
"""

from __future__ import annotations

import logging
import multiprocessing.connection
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inference.engines.adapters import room_for_rank
from inference.engines.base import IDLE_SECONDS, EngineFailed, EngineSettings, Output, Request, sample_seed, take_ready
from inference.engines.checkpoints import quantisation
from inference.engines.devices import use_indices
from inference.engines.processor import (
    check_images_one_by_one,
    load_processor,
    pixel_options,
    render_prompt,
    scored_prompts,
)
from inference.engines.root_cause import VLLM_OUT_OF_MEMORY, OwnLog, engine_cause, with_advice
from inference.engines.token_probabilities import (
    CandidateText,
    candidate_probabilities,
    candidate_score,
    candidate_tail,
    response_log_probabilities,
    token_texts,
)
from inference.engines.vllm_cpu import CURRENT, cpu_variables, installed_version

use_indices()
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# No plugins: vLLM would import those of every installed package, ms-swift's among them, which takes a second and
# raises the level of this process's log to errors.
os.environ.setdefault("VLLM_PLUGINS", "")

# On a GPU vLLM forks its engine's process, and CUDA cannot be used in the fork of a process that has asked it
# anything, even only how many devices there are. So no torch.cuda here: vLLM's platform asks the driver's library.
from vllm import LLM, SamplingParams  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402

GPU_MAX_NUM_SEQS = 256
CPU_MAX_NUM_SEQS = 64
# How likely the tokens of a prompt are; one token is the least that vLLM generates.
# Sampled with a seed, although its token is thrown away: on CPU, vLLM ignores every seed of a batch that has a request
# without one, greedy ones included.
SCORED = SamplingParams(
    temperature=1, seed=0, max_tokens=1, prompt_logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY, detokenize=False
)
QUEUE_AHEAD = 32  # requests beyond a full batch, so that a finished one is replaced at once


def prepare_cpu() -> None:
    """Set what vLLM needs on CPU, where the environment does not say otherwise."""
    import torch

    os.environ.update(cpu_variables())
    # Who has imported torch's compiler before has made it read its settings, too.
    torch._dynamo.config.disable = os.environ["TORCH_COMPILE_DISABLE"] == "1"


def cpu_options(settings: EngineSettings, max_num_seqs: int) -> dict[str, Any]:
    """The engine's options on CPU, by what the installed version can do there."""
    dtype = settings.dtype
    if dtype == "auto" and not quantisation(Path(settings.checkpoint)):  # quantised weights are computed in 16 bits
        dtype = "float32"
    # A seeded request whose prompt is prefilled in two parts ends the engine ("CPU Generator does not use offset").
    if installed_version() >= CURRENT:
        tokens, more = max(4096, settings.max_model_len), {"enable_chunked_prefill": False}
    else:
        # 0.11 cannot switch that off: with room for a full batch of prompts in every step, no prompt is ever cut.
        # Sequences that share a cached block end IPEX 2.8's attention, too ("Sliding window unsupported"): several
        # responses to one prompt, or tasks that share images.
        tokens, more = max_num_seqs * settings.max_model_len, {"enable_prefix_caching": False}
    return {"dtype": dtype, "enforce_eager": True, "max_num_batched_tokens": tokens, **more}


@dataclass
class Scoring:
    """A response whose candidates are being scored: what came of those that are done, and how many are not."""

    output: Output
    scores: dict[str, float | None]
    waiting: int


class VllmEngine:
    """A vLLM engine on this process's device; settings reach the engine, pixel budget included.

    Raises:
        ValueError, OSError: for a setting or a checkpoint that vLLM refuses.
        EngineFailed: with the cause in one line, when the engine does not start for another reason.
    """

    def __init__(self, settings: EngineSettings):
        on_cpu = current_platform.is_cpu()
        if on_cpu:
            prepare_cpu()
        self.settings = settings
        self.log = OwnLog()
        self.max_num_seqs = settings.max_num_seqs or (CPU_MAX_NUM_SEQS if on_cpu else GPU_MAX_NUM_SEQS)
        self.queue_ahead = QUEUE_AHEAD
        self.adapter = LoRARequest(Path(settings.adapter).name, 1, settings.adapter) if settings.adapter else None
        self.processor = load_processor(settings)
        if settings.max_images > 1:
            check_images_one_by_one(self.processor, settings)
        self.image_token_id = self.processor.image_token_id
        self.answering: dict[str, Request] = {}  # by sample id, while candidates are to be scored afterwards
        self.scoring: dict[str, tuple[str, CandidateText, Scoring]] = {}  # by request id: what it is about
        try:
            self.llm = LLM(**self.options(on_cpu))
        except ValidationError as error:  # of several lines; what vLLM said is in it
            raise ValueError("; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())) from error
        except (ValueError, OSError):
            raise  # a setting or a file; its own line says which
        except Exception as error:
            raise self._failed("did not start", error) from error
        if on_cpu:  # vLLM warns twice per request, whenever images are processed, that the threads stay as they are
            logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)
        self._wake_up_when_killed()

    def options(self, on_cpu: bool) -> dict[str, Any]:
        """What vLLM is started with."""
        settings = self.settings
        placed = cpu_options(settings, self.max_num_seqs) if on_cpu else {"dtype": settings.dtype}
        return {
            "model": settings.checkpoint,
            **placed,
            "seed": settings.seed,
            "max_model_len": settings.max_model_len,
            "max_num_seqs": self.max_num_seqs,
            "gpu_memory_utilization": settings.gpu_memory_utilization,
            "limit_mm_per_prompt": {
                "image": settings.max_images,
                **({"video": 0} if hasattr(self.processor, "video_token") else {}),
            },
            "mm_processor_kwargs": pixel_options(settings),
            "trust_remote_code": settings.trust_remote_code,
            "load_format": "auto" if settings.allow_pickle else "safetensors",
            "logprobs_mode": "raw_logprobs",  # before temperature, whatever this version's default is
            "disable_log_stats": True,
            "worker_extension_cls": "inference.engines.vllm_process.EndsWithItsParent",
            **self.adapter_options(),
        }

    def adapter_options(self) -> dict[str, Any]:
        """Room for the one adapter, if there is one."""
        if not self.settings.adapter:
            return {}
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": room_for_rank(self.settings.adapter)}

    def _failed(self, how: str, error: Exception) -> EngineFailed:
        cause = with_advice(engine_cause(error, self.log.text()), VLLM_OUT_OF_MEMORY)
        return EngineFailed(f"vLLM's engine {how}: {cause}")

    def _wake_up_when_killed(self) -> None:
        """End the wait for a core that was killed in a process of its own: vLLM 0.11 waits for its outputs for ever."""
        core = self.llm.llm_engine.engine_core
        manager = getattr(getattr(core, "resources", None), "engine_manager", None)
        sentinels = [process.sentinel for process in getattr(manager, "processes", [])]
        outputs = getattr(core, "outputs_queue", None)
        if not sentinels or outputs is None:  # the core is in this process
            return

        def wait() -> None:
            multiprocessing.connection.wait(sentinels)
            outputs.put(RuntimeError("its process was killed"))

        threading.Thread(target=wait, daemon=True, name="engine's death").start()

    def sampling(self, sample_id: str) -> SamplingParams:
        return SamplingParams(
            temperature=self.settings.temperature,
            max_tokens=self.settings.max_new_tokens,
            seed=sample_seed(self.settings.seed, sample_id),
            n=self.settings.n_responses,
            logprobs=0 if self.settings.logprobs else None,  # 0: of the sampled tokens only
            output_kind=RequestOutputKind.FINAL_ONLY,  # a request's responses come together, when all are done
            # Decoded once in the end (``_texts``): vLLM decodes each token at every step, twice with log-probabilities,
            # in this process's only thread, which also prepares the next requests' images.
            detokenize=False,
        )

    def prepare(self, request: Request) -> tuple[dict[str, Any], SamplingParams]:
        """(prompt with images, sampling) as vLLM takes them.

        Raises:
            ValueError: when the prompt is not one for so many images.
        """
        prompt = {
            "prompt": render_prompt(self.processor, request, self.settings),
            "multi_modal_data": {"image": list(request.images)},
        }
        return prompt, self.sampling(request.sample_id)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Output]:
        """Outputs as they finish. A request that vLLM refuses (a prompt too long) yields an error.

        ``None`` among the requests says that nothing is ready yet: the engine goes on with what it has.

        Raises:
            EngineFailed: from vLLM's own exception, when the engine itself dies; what was yielded remains valid.
        """
        engine = self.llm.llm_engine
        waiting = iter(requests)
        more = True
        while more or engine.has_unfinished_requests():
            room = self.max_num_seqs + self.queue_ahead - engine.get_num_unfinished_requests()
            if more and room > 0:
                ready, more = take_ready(waiting, -(-room // self.settings.n_responses))
                for request in ready:
                    refusal = self._refusal(request.sample_id, partial(self.prepare, request))
                    if refusal is not None:
                        yield Output(request.sample_id, error=f"vLLM refused the request: {refusal}")
                        continue
                    if self.settings.candidate_probabilities:
                        self.answering[request.sample_id] = request
            if not engine.has_unfinished_requests():
                if more:
                    time.sleep(IDLE_SECONDS)
                continue
            try:
                results = engine.step()
            except Exception as error:
                raise self._failed("died", error) from error
            for result in results:
                if result.finished and (output := self._finish(result)) is not None:
                    yield output

    def _refusal(self, name: str, prepare: Callable[[], tuple[dict[str, Any], SamplingParams]]) -> str | None:
        """Give vLLM what is prepared as the request of that name; returns what it says against it, None if it takes it.

        Raises:
            EngineFailed: when the engine has died.
        """
        try:
            self.llm.llm_engine.add_request(name, *prepare(), lora_request=self.adapter)
        except (ValueError, TypeError, RuntimeError) as error:
            return str(error)
        except Exception as error:
            raise self._failed("died", error) from error
        return None

    def _finish(self, result) -> Output | None:
        """The output that is complete with this result; None while candidates of its response are being scored."""
        if result.request_id in self.scoring:
            return self._scored(result)
        output = self._output(result)
        request = self.answering.pop(output.sample_id, None)
        return output if request is None or self._score(request, output) else None

    def _score(self, request: Request, output: Output) -> bool:
        """Ask for the score of each candidate in the response; True when there is nothing to wait for."""
        prompts = scored_prompts(self.processor, request, output.response, self.settings)
        scoring = Scoring(output, dict.fromkeys(prompts), 0)
        for number, (candidate, (prompt, end)) in enumerate(prompts.items()):
            name = f"{output.sample_id} candidate {number} {uuid.uuid4().hex}"  # like no sample's
            prompt = {"prompt": prompt, "multi_modal_data": {"image": list(request.images)}}
            if self._refusal(name, lambda asked=prompt: (asked, SCORED)) is not None:
                continue  # longer than the model's context, by a few tokens: the response has no probabilities
            self.scoring[name] = candidate, end, scoring
            scoring.waiting += 1
        return not scoring.waiting

    def _scored(self, result) -> Output | None:
        candidate, end, scoring = self.scoring.pop(result.request_id)
        tail = candidate_tail(end)
        tokens = result.prompt_token_ids[-tail:]
        places = zip(tokens, result.prompt_logprobs[-tail:], strict=True)
        texts = token_texts(self.processor.tokenizer, tokens)
        scoring.scores[candidate] = candidate_score(texts, [place[token].logprob for token, place in places], end)
        scoring.waiting -= 1
        if scoring.waiting:
            return None
        return scoring.output.with_candidates(candidate_probabilities(scoring.scores), self.settings)

    def _texts(self, completion) -> tuple[str, list[str | None]]:
        """(the response, the text of each of its tokens); as vLLM decodes them, the token it stopped at left out."""
        texts = token_texts(self.processor.tokenizer, completion.token_ids)
        written = texts[:-1] if completion.finish_reason == "stop" else texts
        return "".join(filter(None, written)), texts

    def _output(self, result) -> Output:
        completion, *others = sorted(result.outputs, key=lambda output: output.index)
        response, texts = self._texts(completion)
        mean, answer = None, None
        if completion.logprobs is not None:
            tokens = completion.token_ids
            values = [of_place[token].logprob for token, of_place in zip(tokens, completion.logprobs, strict=True)]
            mean, answer = response_log_probabilities(texts, values)
        return Output(
            sample_id=result.request_id,
            response=response,
            image_tokens=sum(token == self.image_token_id for token in result.prompt_token_ids),
            prompt_tokens=len(result.prompt_token_ids),
            output_tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
            mean_log_probability=mean,
            answer_log_probability=answer,
            other_responses=[self._texts(other)[0] for other in others] or None,
        )
