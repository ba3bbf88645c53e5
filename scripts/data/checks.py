"""What makes a row of test or training data bad; each check in one place.

from scripts.data.checks import Checker
Checker(ImageSource([Path("input_data")])).problems(sample)   # [("image", "no such file …"), …]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from inference.common.json_lines import describe, one_line
from inference.data.images import FACTOR, ImageError, ImageSource
from inference.data.layouts import IMAGE
from inference.data.records import RecordError, parse_record
from inference.data.response import REASONING_STEPS, UNKNOWN, normal_label, read_response, reasoning_steps, tag_text
from inference.data.vecbench import TASKS
from scripts.build_vec_cot.stages import PUBLISHED_ROWS
from scripts.data.samples import Sample, reward_problem

SMALLEST_SIDE = FACTOR  # pixels; below it an image is less than one image token high or wide
LARGEST_AREA = 50_000_000  # pixels
IMAGE_MARKS = "<|vision_start|><|vision_end|>"

# Rows by source: the published tables of VEC-CoT and of the test set.
EXPECTATIONS = {
    **{f"stage{i + 1}": {task: counts[i] for task, counts in PUBLISHED_ROWS.items()} for i in range(3)},
    "test": {name: task.n_test for name, task in TASKS.items()},
}


@dataclass
class Checker:
    """Finds what is wrong with a row.

    Attributes:
        source: where images are looked for; its pixel budget is what image tokens are counted with.
        tokenizer: model folder or hub name; None leaves the text's length unchecked.
        max_length: tokens that question, image and answer may have together.
        expect: "stage1", "stage2", "stage3", "test" or None: whether an answer and a confidence have to be
            there, the reward has to read the label, inference has to read the row. None checks what is there.
    """

    source: ImageSource
    tokenizer: str | None = None
    max_length: int = 2048
    expect: str | None = None

    @cached_property
    def _tokenizer(self):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.tokenizer, trust_remote_code=False)

    def problems(self, sample: Sample) -> list[tuple[str, str]]:
        """(kind, what was expected and found) of each problem; empty for a good row."""
        image_tokens, problems = self._image(sample)
        if self.expect == "test":
            problems += self._refusal(sample)
        return problems + self._labels(sample) + self._answer(sample) + self._length(sample, image_tokens)

    def _refusal(self, sample: Sample) -> list[tuple[str, str]]:
        """What inference, whose own reader this is, refuses in the row."""
        try:
            parse_record(sample.raw, "", sample.line_number)
        except RecordError as error:
            return [("no record for inference", f"field '{error.field}': expected {error.expected}")]
        return []

    def _image(self, sample: Sample) -> tuple[int, list[tuple[str, str]]]:
        """(image tokens, problems). The header gives the size; a size that is right has its pixels decoded, too."""
        try:
            width, height = self.source.original_size(sample.images[0])
            if min(width, height) < SMALLEST_SIDE:
                return 0, [("image too small", f"{width} × {height}, expected sides of {SMALLEST_SIDE} pixels or more")]
            if width * height > LARGEST_AREA:
                return 0, [("image too large", f"{width} × {height}, expected at most {LARGEST_AREA:,} pixels")]
            self.source.original_size(sample.images[0], decode=True)
            tokens = self.source.budget.image_tokens(width, height)
        except ImageError as error:
            text = str(error)
            kinds = {"no such file": "image missing", "--image_root": "image not allowed"}
            return 0, [(next((kind for part, kind in kinds.items() if part in text), "image unreadable"), text)]
        return tokens, []

    def _labels(self, sample: Sample) -> list[tuple[str, str]]:
        if not sample.ground_truth:
            return [("no label", "expected ground_truth, or an <answer> to take it from")]
        problem = reward_problem(sample.ground_truth, sample.candidates) if self.expect == "stage3" else None
        if problem:
            return [("label that the reward cannot count", problem)]
        if sample.candidates is None:
            return []
        if sample.ground_truth.lower() not in {label.lower() for label in sample.candidates}:
            shown = ", ".join(sample.candidates[:8]) + (", …" if len(sample.candidates) > 8 else "")
            text = f"{describe(sample.ground_truth)}, expected one of {one_line(shown)}"
            return [("label outside the candidates", text)]
        return []

    def remarks(self, sample: Sample) -> list[tuple[str, str]]:
        """(kind, text) of what is unusual and makes no row bad."""
        remarks = self._refusal(sample) if self.expect is None and sample.answer is None else []
        if sample.answer is not None and read_response(sample.answer, ()).confidence in (0.0, 1.0):
            remarks.append(("confidence of 0 or 1", "the reward of stage 3 takes a response with it for malformed"))
        known = TASKS.get(sample.task or "")
        if known is None or sample.candidates is None:
            return remarks
        usual, own = ({label.lower() for label in labels} for labels in (known.labels, sample.candidates))
        if usual == own:
            return remarks
        shown = [f"without {', '.join(sorted(usual - own))}"] if usual - own else []
        shown += [f"with {', '.join(sorted(own - usual))}"] if own - usual else []
        text = one_line(f"{known.name} {' and '.join(shown)}")
        return [*remarks, ("candidates differ from the published ones", text)]

    def _answer(self, sample: Sample) -> list[tuple[str, str]]:
        if sample.answer is None:
            wanted = self.expect in ("stage1", "stage2")
            return [("no answer", "expected the assistant's turn at the end")] if wanted else []
        problems = []
        steps = reasoning_steps(sample.answer)
        missing = [step for step in REASONING_STEPS if not steps.get(step)]
        if missing:
            problems.append(("reasoning steps missing", f"expected all five in <think>, missing {', '.join(missing)}"))
        reading = read_response(sample.answer, sample.candidates or [sample.ground_truth or ""])
        if reading.label == UNKNOWN:
            problems.append(
                ("no answer among the candidates", f"<answer> {describe(tag_text(sample.answer, 'answer'))}")
            )
        elif sample.ground_truth and reading.label != normal_label(sample.ground_truth):
            both = f"{describe(reading.label)}, expected {describe(sample.ground_truth)}"
            problems.append(("answer is not the label", both))
        stated = tag_text(sample.answer, "confidence")
        if stated is None and self.expect == "stage2":
            problems.append(("no confidence", "expected <confidence> after the answer"))
        if stated is not None and reading.confidence is None:
            problems.append(("confidence out of range", f"{stated[:40]!r}, expected a number from 0 to 1"))
        return problems

    def length(self, sample: Sample, image_tokens: int) -> int:
        """Tokens of question, image and answer together, as training sees them."""
        turns = sample.messages + ([{"role": "assistant", "content": sample.answer}] if sample.answer else [])
        # Beside its own tokens, an image has the two marks around them.
        turns = [{**turn, "content": turn["content"].replace(IMAGE, IMAGE_MARKS)} for turn in turns]
        tokens = self._tokenizer.apply_chat_template(turns, return_dict=False)  # transformers 5's default is True
        return len(tokens) + image_tokens

    def _length(self, sample: Sample, image_tokens: int) -> list[tuple[str, str]]:
        length = 0 if self.tokenizer is None else self.length(sample, image_tokens)
        if length <= self.max_length:
            return []
        text = f"{length} tokens, {image_tokens} of them the image's"
        return [("too long", f"{text}, expected at most {self.max_length}")]
