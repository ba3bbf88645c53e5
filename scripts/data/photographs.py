"""Real photographs as VECBench records: the pictures that scikit-image and scikit-learn ship.

    python -m scripts.data.photographs --output_dir input_data/photographs
    data_path=input_data/photographs/test.jsonl max_new_tokens=192 bash inference/infer_and_eval_example.sh

For checking the path of real JPEG and PNG files (300 to 2,000 pixels wide, colour, grey and
transparent) through decoding, pixel budget and engine. Their emotions are not labelled: the
labels are placeholders and the notice in each record says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from pathlib import Path

from PIL import Image

from inference.common.json_lines import to_line
from inference.common.storage import atomic_write, ending_in_one_line
from inference.common.terminal import plain_output
from inference.data.prompts import recognition_prompt
from inference.data.vecbench import TASKS

NOTICE = "photographs of scikit-image and scikit-learn with placeholder labels: no accuracy can be read off them"
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
TASK = TASKS["EmoSet-8"]


def shipped_photographs() -> list[Path]:
    """JPEG and PNG files of both packages, 300 to 2,000 pixels wide, in a stable order.

    Raises:
        SystemExit: when neither package is installed.
    """
    photographs = []
    for package, folder in FOLDERS.items():
        spec = importlib.util.find_spec(package)
        if spec is None:
            continue
        for path in sorted((Path(spec.submodule_search_locations[0]) / folder).iterdir()):
            if path.suffix in (".jpg", ".png"):
                with Image.open(path) as image:
                    if 300 <= image.width <= 2000:
                        photographs.append(path)
    if not photographs:
        raise SystemExit("no photographs: pip install scikit-image scikit-learn")
    return photographs


def record(name: str) -> dict:
    """A VECBench record of one photograph, asked as the released model is asked."""
    content = [{"type": "image", "image": f"images/{name}"}, {"type": "text", "text": recognition_prompt(TASK.labels)}]
    return {
        "id": f"photograph-{name}",
        "conversations": [{"role": "user", "content": content}],
        "ground_truth": TASK.labels[0],
        "candidates": list(TASK.labels),
        "task": TASK.name,
        "notice": NOTICE,
    }


@ending_in_one_line("writing the photographs")
def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("input_data/photographs"))
    args = parser.parse_args()
    images = args.output_dir / "images"
    images.mkdir(parents=True, exist_ok=True)
    photographs = shipped_photographs()
    for path in photographs:
        shutil.copyfile(path, images / path.name)
    with atomic_write(args.output_dir / "test.jsonl") as lines:
        lines.writelines(to_line(record(path.name)) + "\n" for path in photographs)
    print(f"{args.output_dir / 'test.jsonl'}: {len(photographs)} photographs ({NOTICE})")


if __name__ == "__main__":
    main()
