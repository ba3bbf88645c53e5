"""Rows of training files: a good one in every layout, and the image that it names."""

import base64

from PIL import Image

QUESTION = "Which emotion might this image evoke? Choose the most likely one from [joy, fear]."
THOUGHT = "".join(f"<{step}>something</{step}>" for step in ("element", "human", "context", "interaction", "analysis"))
ANSWER = f"<think>{THOUGHT}</think><answer>joy</answer><confidence>0.80</confidence>"


def with_an_image(folder):
    """The folder, with the image that the rows name."""
    Image.new("RGB", (84, 84), "orange").save(folder / "good.png")
    return folder


def row(**changes):
    """A good training row in ms-swift's layout, with changes; a change to None takes the key away."""
    turns = [{"role": "user", "content": "<image>" + QUESTION}, {"role": "assistant", "content": ANSWER}]
    whole = {"messages": turns, "images": ["good.png"], "ground_truth": "joy", "task": "WebEmo-7", **changes}
    return {key: value for key, value in whole.items() if value is not None}


def layouts(folder):
    """The same sample in every layout."""
    content = (folder / "good.png").read_bytes()
    data_url = "data:image/png;base64," + base64.b64encode(content).decode()
    items = [{"type": "image", "image": "good.png"}, {"type": "text", "text": QUESTION}]
    listed = [{"role": "user", "content": items}, {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}]
    from_value = [{"from": "human", "value": "<image>" + QUESTION}, {"from": "gpt", "value": ANSWER}]
    unmarked = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    return {
        "ms-swift": row(),
        "absolute path": row(images=[str(folder / "good.png")]),
        "file address": row(images=[f"file://{folder}/good.png"]),
        "hub path": row(images=["hf://datasets/someone/VEC-CoT/good.png"]),
        "image object": row(images=[{"path": "good.png", "bytes": None}]),
        "data URL": row(images=[data_url]),
        "content as a list": row(messages=None, images=None, conversations=listed),
        "from and value": row(messages=None, conversations=from_value),
        "image key, no mark": row(messages=unmarked, images=None, image="good.png"),
        "label only in the answer": row(ground_truth=None),
    }
