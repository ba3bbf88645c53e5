"""Hugging Face transformers: slow, portable, the reference that vLLM is compared with.

    TransformersEngine(EngineSettings(checkpoint="scripts/toy_world/checkpoint", model_name="toy"))

Greedy decoding runs in batches. Sampling runs one request at a time, each with a seed of its
own, so that a response depends neither on its neighbours nor on where a run was resumed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig, LogitsProcessor
from transformers.utils.logging import disable_progress_bar

from inference.engines.base import IDLE_SECONDS, EngineFailed, EngineSettings, Output, Request, sample_seed, take_ready
from inference.engines.checkpoints import CheckpointRefused
from inference.engines.processor import load_processor, render_prompt, scored_prompts
from inference.engines.root_cause import TRANSFORMERS_OUT_OF_MEMORY, with_advice
from inference.engines.token_probabilities import (
    candidate_probabilities,
    candidate_score,
    candidate_tail,
    response_log_probabilities,
    token_texts,
)

BATCH = 16


def _failed(error: Exception) -> EngineFailed:
    cause = with_advice(f"{type(error).__name__}: {error}", TRANSFORMERS_OUT_OF_MEMORY)
    return EngineFailed(f"transformers failed: {cause}")


class SampledLogProbabilities(LogitsProcessor):
    """Notes what each sampled token's log-probability was; changes nothing.

    ``generate`` could return all logits, but for a real vocabulary that is gigabytes per batch. It calls
    this before temperature is applied, and with the token of the step before: one step is kept.
    """

    def __init__(self):
        self.columns: list[torch.Tensor] = []
        self.last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._note(input_ids)
        self.last = torch.log_softmax(scores.float(), dim=-1)
        return scores

    def _note(self, input_ids: torch.Tensor) -> None:
        if self.last is not None:
            self.columns.append(self.last.gather(1, input_ids[:, -1:]))

    def of(self, sequences: torch.Tensor) -> list[list[float]]:
        """One list per sequence, one number per generated token, when generation is done."""
        self._note(sequences)
        return torch.cat(self.columns, dim=1).tolist()


class TransformersEngine:
    """A transformers model on the GPU if there is one, otherwise on CPU in float32."""

    def __init__(self, settings: EngineSettings):
        self.settings = settings
        self.max_num_seqs = 1 if settings.temperature > 0 else settings.max_num_seqs or BATCH
        self.processor = load_processor(settings)
        self.processor.tokenizer.padding_side = "left"
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if self.device == "cpu" and settings.dtype == "auto" else settings.dtype
        disable_progress_bar()  # transformers 5 draws one for every load, among what the caller prints
        try:
            self.model, loading = AutoModelForImageTextToText.from_pretrained(
                settings.checkpoint,
                dtype=dtype,
                trust_remote_code=settings.trust_remote_code,
                use_safetensors=None if settings.allow_pickle else True,  # None: whichever is there
                output_loading_info=True,
            )
        except ImportError as error:  # a quantisation that needs a package of its own
            raise CheckpointRefused(f"{settings.checkpoint}: {' '.join(str(error).split())}") from None
        if missing := sorted(loading["missing_keys"]):  # transformers fills them with random numbers, and goes on
            raise CheckpointRefused(
                f"{settings.checkpoint}: its weights lack {len(missing)} tensors of the model that config.json names, "
                f"{missing[0]} among them: do config.json and weights belong together?"
            )
        self.end_ids = self._only_these_settings()
        if settings.adapter:
            self._add_adapter(settings.adapter)
        try:
            self.model.to(self.device).eval()
        except torch.cuda.OutOfMemoryError as error:
            raise _failed(error) from error

    def _only_these_settings(self) -> set[int]:
        """Have the model generate by the settings alone; returns the tokens that end a response.

        A checkpoint's own top_k, min_p or penalties would make engines differ. As with vLLM, the tokenizer's end of a
        turn counts beside those that generation_config.json names.
        """
        own, settings = self.model.generation_config, self.settings
        ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        ends = {*ends, self.processor.tokenizer.eos_token_id} - {None}
        sampling = {"do_sample": True, "temperature": settings.temperature, "top_p": 1.0, "top_k": 0}
        self.model.generation_config = GenerationConfig(
            bos_token_id=own.bos_token_id,
            pad_token_id=own.pad_token_id,
            eos_token_id=sorted(ends),
            max_new_tokens=settings.max_new_tokens,
            **(sampling if settings.temperature > 0 else {"do_sample": False}),
        )
        return ends

    def _add_adapter(self, folder: str) -> None:
        """Put the adapter's matrices beside the layers, unmerged."""
        from peft import PeftModel

        with warnings.catch_warnings(record=True) as said:  # peft only warns, and leaves random or zero matrices there
            warnings.simplefilter("always")
            self.model = PeftModel.from_pretrained(self.model, folder)
        if missing := [str(item.message) for item in said if "missing adapter keys" in str(item.message)]:
            raise CheckpointRefused(f"{folder}: {' '.join(missing[0].split())[:300]}")

    def run(self, requests: Iterable[Request | None]) -> Iterator[Output]:
        """Outputs batch by batch, in the order of the requests; a refused request yields an error.

        A batch holds what is ready when the one before it is done.

        Raises:
            EngineFailed: when a batch ends in anything but a refusal, as for want of memory;
                what was yielded remains valid.
        """
        waiting = iter(requests)
        more = True
        while more:
            batch, more = take_ready(waiting, self.max_num_seqs)
            if batch:
                try:
                    outputs = self._attempt(batch)
                except Exception as error:
                    raise _failed(error) from error
                yield from outputs
            elif more:
                time.sleep(IDLE_SECONDS)

    def _attempt(self, batch: list[Request]) -> list[Output]:
        """The batch's outputs. If it is refused its requests go one by one, so that only the bad one fails."""
        try:
            return self._generate(batch)
        except ValueError as error:
            if len(batch) == 1:
                return [Output(batch[0].sample_id, error=f"transformers refused the request: {error}")]
            return [output for request in batch for output in self._attempt([request])]

    @torch.inference_mode()
    def _generate(self, batch: list[Request]) -> list[Output]:
        prompts = [render_prompt(self.processor, request, self.settings) for request in batch]
        images = [list(request.images) for request in batch]  # a list per prompt: some processors take no other
        inputs = self.processor(text=prompts, images=images, padding=True, return_tensors="pt").to(self.device)
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        if max(lengths) >= self.settings.max_model_len:
            raise ValueError(f"a prompt of {max(lengths)} tokens leaves no room in {self.settings.max_model_len}")
        image_tokens = (inputs["input_ids"] == self.processor.image_token_id).sum(dim=1).tolist()
        noted, generated = self._sample(inputs, batch[0].sample_id)
        others = [
            self._text(self._sample(inputs, batch[0].sample_id, index)[1][0])
            for index in range(1, self.settings.n_responses)
        ]
        outputs = []
        for row, (request, length, n_image) in enumerate(zip(batch, lengths, image_tokens, strict=True)):
            tokens = self._until_end(generated[row])
            mean, answer = None, None
            if noted is not None:
                texts = token_texts(self.processor.tokenizer, tokens)
                mean, answer = response_log_probabilities(texts, noted[row][: len(tokens)])
            response = self._text(tokens)
            output = Output(
                sample_id=request.sample_id,
                response=response,
                image_tokens=n_image,
                prompt_tokens=length,
                output_tokens=len(tokens),
                finish_reason="stop" if tokens and tokens[-1] in self.end_ids else "length",
                mean_log_probability=mean,
                answer_log_probability=answer,
                other_responses=others or None,
            )
            outputs.append(output.with_candidates(self._candidate_probabilities(request, response), self.settings))
        return outputs

    def _candidate_probabilities(self, request: Request, response: str) -> dict[str, float] | None:
        """Those of the request's candidates in their place, by a forward pass each; None if not asked for."""
        if not self.settings.candidate_probabilities:
            return None
        scores = {}
        for candidate, (prompt, end) in scored_prompts(self.processor, request, response, self.settings).items():
            inputs = self.processor(text=[prompt], images=[list(request.images)], return_tensors="pt").to(self.device)
            tokens = inputs["input_ids"][0, -candidate_tail(end) :]
            # The logits of a place are about the token after it.
            logits = self.model(**inputs, logits_to_keep=len(tokens) + 1, use_cache=False).logits[
                0, -len(tokens) - 1 : -1
            ]
            values = torch.log_softmax(logits.float(), dim=-1).gather(1, tokens[:, None])[:, 0].tolist()
            scores[candidate] = candidate_score(token_texts(self.processor.tokenizer, tokens.tolist()), values, end)
        return candidate_probabilities(scores)

    def _sample(self, inputs, sample_id: str, index: int = 0) -> tuple[list[list[float]] | None, list[list[int]]]:
        """(log-probabilities or None, tokens) that were generated for each row, padding included."""
        note = SampledLogProbabilities() if self.settings.logprobs and index == 0 else None
        torch.manual_seed(sample_seed(self.settings.seed, sample_id, index))
        sequences = self.model.generate(**inputs, logits_processor=[note] if note else None)
        generated = sequences[:, inputs["input_ids"].shape[1] :].tolist()
        return (note.of(sequences) if note else None), generated

    def _until_end(self, tokens: list[int]) -> list[int]:
        """The tokens up to and with the end of the turn; what follows is padding."""
        end = next((i for i, token in enumerate(tokens) if token in self.end_ids), len(tokens))
        return tokens[: end + 1]

    def _text(self, tokens: list[int]) -> str:
        written = [token for token in self._until_end(tokens) if token not in self.end_ids]
        return "".join(filter(None, token_texts(self.processor.tokenizer, written)))  # as vLLM decodes them
