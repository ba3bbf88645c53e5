"""What the teacher is asked: to write the five sections that lead from the image to its label.

    from scripts.build_vec_cot.teacher import load_template, teacher_question
    teacher_question(load_template("label"), record)

The paper does not print its teacher's prompt; this one is ours. ``label`` states the label and asks for
the reasoning of someone who does not know it. ``recognition`` is the released model's own question,
without the label: a teacher that can answer it explains only what it recognised itself, and
verification keeps the answers that are right. A file's text is used as it is, with {label} and
{candidates} filled in.
"""

from __future__ import annotations

from pathlib import Path

from inference.data.prompts import recognition_prompt
from inference.data.records import Record

LABEL_TEMPLATE = """\
People say that this image evokes {label}, out of [{candidates}]. Write down how a careful viewer who knows nothing \
of this infers it from the image alone. Write exactly the following, in this order, and nothing before, between or \
after it; replace each description in braces by one to three plain sentences about what can be seen:
<think><element>{the prominent visual elements: objects, colours, light}</element>\
<human>{the people: faces, posture, gestures; or that there are none}</human>\
<context>{the setting: place, time, occasion}</context>\
<interaction>{how people and things act on one another, or that they do not}</interaction>\
<analysis>{how all this together leads to {label} rather than to another of these emotions}</analysis></think>\
<answer>{label}</answer>
Use no other tags and no markup. Do not write or hint that an emotion, label, answer or list was given to you."""
RECOGNITION = "recognition"


def load_template(name: str) -> str:
    """The template called ``label`` or ``recognition``, or the text of the file of that name.

    Raises:
        ValueError: when it is neither.
    """
    if name == "label":
        return LABEL_TEMPLATE
    if name == RECOGNITION:
        return RECOGNITION
    if not Path(name).is_file():
        raise ValueError(f"--teacher_prompt: expected label, recognition or a text file, got {name}")
    return Path(name).read_text(encoding="utf-8").strip()


def teacher_question(template: str, record: Record) -> str:
    """The text that goes with the record's image."""
    if template == RECOGNITION:
        return recognition_prompt(record.candidates, with_confidence=False)
    text = template.replace("{candidates}", ", ".join(record.candidates))
    return text.replace("{label}", record.ground_truth)
