"""Generate the toy world: images, VECBench-style test records, VEC-CoT-style training files.

    python -m scripts.toy_world.generate --output_dir input_data/toy_world --test 80
    python -m scripts.toy_world.generate --output_dir input_data/toy_world --stage1 32000 --stage2 3200

``--test N`` draws N records for each of the nine tasks; ``--stage1/2/3 N`` draw N training
samples over the six in-distribution tasks. Every sample has a random generator of its own,
seeded by (seed, split, index): a file does not depend on the number of processes, and a
longer one starts with the shorter one. Files are complete or absent.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from functools import partial
from multiprocessing import Pool
from pathlib import Path

from tqdm import tqdm

from inference.common.storage import atomic_write, ending_in_one_line
from inference.common.terminal import plain_output
from inference.data.vecbench import TASKS
from inference.data.votes import DISTRIBUTION
from scripts.toy_world.draw import OOD_STYLES, draw_scene
from scripts.toy_world.text import chain_of_thought, question, reasoning_facts, taught_confidence
from scripts.toy_world.world import NOTICE, posterior, sample

# Flatter than VEC-CoT's own shares, so that a few thousand images teach every label set.
TRAIN_SHARES = {"EmoSet-8": 5, "WebEmo-25": 8, "WebEmo-7": 5, "FI-8": 2, "WebEmo-2": 3, "FI-2": 2}


def make_sample(split: str, index: int, output_dir: Path, seed: int) -> str:
    """Draw sample ``index`` of a split, save its image, and return its JSON line."""
    rng = random.Random(f"{seed}/{split}/{index}")
    if split == "test":
        task = list(TASKS)[index % len(TASKS)]
    else:
        task = rng.choices(list(TRAIN_SHARES), list(TRAIN_SHARES.values()))[0]
    label, cues = sample(task, rng)
    name = Path("images") / split / f"{index // 1000:03d}" / f"{index:06d}.png"
    path = output_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_scene(cues, OOD_STYLES.get(task, "plain"), rng).save(path)
    rounded = {key: round(value, 6) for key, value in posterior(task, cues).items()}
    known = {"notice": NOTICE, "cues": cues, DISTRIBUTION: rounded}
    with_confidence = split != "stage1"
    prompt = question(task, with_confidence, rng)
    if split == "test":
        content = [{"type": "image", "image": name.as_posix()}, {"type": "text", "text": prompt}]
        row = {
            "id": f"toy-{task}-{index:06d}",
            "conversations": [{"role": "user", "content": content}],
            "ground_truth": label,
            "candidates": list(TASKS[task].labels),
            "task": task,
            **known,
            "reasoning_facts": reasoning_facts(task, cues),
        }
    else:
        answer = chain_of_thought(task, label, cues, rng)
        if split == "stage2":
            answer += f"<confidence>{taught_confidence(task, label, cues, rng):.2f}</confidence>"
        messages = [{"role": "user", "content": f"<image>{prompt}"}]
        if split != "stage3":
            messages.append({"role": "assistant", "content": answer})
        row = {"messages": messages, "images": [str(path.resolve())], "ground_truth": label, "task": task, **known}
    return json.dumps(row)


def generate(split: str, count: int, output_dir: Path, seed: int, processes: int) -> Path:
    """Write ``output_dir/<split>.jsonl`` with its images; the file appears when all of it is there."""
    target = output_dir / f"{split}.jsonl"
    make = partial(make_sample, split, output_dir=output_dir, seed=seed)
    with Pool(processes) as pool, atomic_write(target) as lines:
        made = pool.imap(make, range(count), chunksize=64)
        for line in tqdm(made, total=count, desc=f"toy world: {split}", mininterval=1.0):
            lines.write(line + "\n")
    return target


@ending_in_one_line("drawing the scenes")
def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("input_data/toy_world"))
    parser.add_argument("--test", type=int, default=0, metavar="N", help="test records for each of the nine tasks")
    for split in ("stage1", "stage2", "stage3"):
        parser.add_argument(f"--{split}", type=int, default=0, metavar="N", help=f"training samples of {split}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    counts = {"test": args.test * len(TASKS), "stage1": args.stage1, "stage2": args.stage2, "stage3": args.stage3}
    if not any(counts.values()):
        parser.error("nothing to generate: give --test, --stage1, --stage2 or --stage3")
    for split, count in counts.items():
        if count:
            print(f"{generate(split, count, args.output_dir, args.seed, args.processes)}: {count} samples ({NOTICE})")


if __name__ == "__main__":
    main()
