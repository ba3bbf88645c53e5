"""What the tests of building VEC-CoT share: good sections, pictures, labelled rows, a made-up teacher."""

import base64
import io
import json
import random
import re
import time

from PIL import Image

from inference.data.vecbench import MIKELS_8
from scripts.build_vec_cot.verify import compose
from scripts.toy_world.draw import draw_scene
from scripts.toy_world.world import sample
from tests.helpers.endpoint_server import JsonHandler, completion

SECTIONS = {
    "element": "Warm light falls on the meadow.",
    "human": "Two people smile.",
    "context": "A summer afternoon outdoors.",
    "interaction": "They lean on each other.",
    "analysis": "Warmth and closeness speak of contentment.",
}


def scene(seed):
    rng = random.Random(seed)
    return draw_scene(sample("EmoSet-8", rng)[1], "plain", rng)


def resized(image, factor):
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def labelled(folder, name, image, task="EmoSet-8", label="awe", **more):
    """Save an image and return its record."""
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / name)
    return {"image": name, "ground_truth": label, "candidates": list(MIKELS_8), "task": task, **more}


class Teacher(JsonHandler):
    """A made-up teacher: reads the label off the prompt; what it writes depends on the request's seed."""

    delay = 0.0

    def do_POST(self):
        body = json.loads(self.read_body())
        image, text = body["messages"][0]["content"]
        Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2]))).load()
        label = re.search(r"evokes (\w+), out of", text["text"])[1]
        sections = {**SECTIONS, "analysis": f"All this speaks of {label}, variant {body['seed'] % 1000}."}
        kind = body["seed"] % 3
        if kind == 1:
            sections["human"] = "As specified, two people smile."
        answer = compose(sections, "awe" if kind == 2 else label)
        time.sleep(self.delay)
        self.reply(completion(answer))
