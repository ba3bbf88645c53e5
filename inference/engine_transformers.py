"""Hugging Face transformers: slow, portable, the reference that vLLM is compared with.

    TransformersEngine(EngineSettings(checkpoint="scripts/toy_world/checkpoint", model_name="toy"))

Greedy decoding runs in batches. Sampling runs one request at a time, each with a seed of its
own, so that a response depends neither on its neighbours nor on where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from transformers import AutoModelForImageTextToText

from inference.engines import EngineSettings, Output, Request, load_processor, render_prompt, sample_seed

BATCH = 16


class TransformersEngine:
    """A transformers model on the GPU if there is one, otherwise on CPU in float32."""

    def __init__(self, settings: EngineSettings):
        self.settings = settings
        self.processor = load_processor(settings)
        self.processor.tokenizer.padding_side = "left"
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if self.device == "cpu" and settings.dtype == "auto" else settings.dtype
        self.model = AutoModelForImageTextToText.from_pretrained(
            settings.checkpoint, dtype=dtype, trust_remote_code=settings.trust_remote_code
        )
        self.model.to(self.device).eval()
        # Only what the settings say: a checkpoint's own top_k or top_p would make engines differ.
        self.options = {"max_new_tokens": settings.max_new_tokens, "do_sample": settings.temperature > 0}
        if settings.temperature > 0:
            self.options.update(temperature=settings.temperature, top_p=1.0, top_k=0)
        ends = self.model.generation_config.eos_token_id
        self.end_ids = set(ends if isinstance(ends, list) else [ends])

    def run(self, requests: Iterable[Request]) -> Iterator[Output]:
        """Outputs batch by batch, in the order of the requests; a refused request yields an error."""
        waiting = iter(requests)
        size = 1 if self.settings.temperature > 0 else self.settings.max_num_seqs or BATCH
        while batch := list(islice(waiting, size)):
            yield from self._attempt(batch)

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
        prompts = [render_prompt(self.processor, request) for request in batch]
        images = [request.image for request in batch]
        inputs = self.processor(text=prompts, images=images, padding=True, return_tensors="pt").to(self.device)
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        if max(lengths) >= self.settings.max_model_len:
            raise ValueError(f"a prompt of {max(lengths)} tokens leaves no room in {self.settings.max_model_len}")
        image_tokens = (inputs["input_ids"] == self.processor.image_token_id).sum(dim=1).tolist()
        outputs = []
        torch.manual_seed(sample_seed(self.settings.seed, batch[0].sample_id))
        generated = self.model.generate(**inputs, **self.options)[:, inputs["input_ids"].shape[1] :].tolist()
        for request, tokens, length, n_image in zip(batch, generated, lengths, image_tokens, strict=True):
            end = next((i for i, token in enumerate(tokens) if token in self.end_ids), None)
            written = tokens if end is None else tokens[:end]
            outputs.append(
                Output(
                    sample_id=request.sample_id,
                    response=self.processor.tokenizer.decode(written, skip_special_tokens=True),
                    image_tokens=n_image,
                    prompt_tokens=length,
                    output_tokens=len(written) + (end is not None),
                    finish_reason="length" if end is None else "stop",
                )
            )
        return outputs
