"""Results of a made-up toy model that misreads some cues, and answers worse and less surely where it does."""

import random

from inference.data.vecbench import TASKS
from scripts.toy_world.text import chain_of_thought, reasoning_facts
from scripts.toy_world.world import CUES, NOTICE, posterior, sample


def misreading(n, tasks=tuple(TASKS), seed=0, misread=0.15, doubt=0.3, facts=True):
    """n results per task; the confidence is 0.9, less ``doubt`` where a cue was misread."""
    rng = random.Random(seed)
    rows = []
    for task in tasks:
        for i in range(n):
            label, shown = sample(task, random.Random(f"{task}/{i}"))
            said = {cue: rng.choice(CUES[cue]) if rng.random() < misread else value for cue, value in shown.items()}
            right = rng.random() < (0.9 if said == shown else 0.5)
            answer = label if right else rng.choice([other for other in TASKS[task].labels if other != label])
            confidence = 0.9 - doubt * (said != shown) - 0.1 * rng.random()
            response = chain_of_thought(task, answer, said, rng) + f"<confidence>{confidence:.2f}</confidence>"
            known = {"notice": NOTICE, "cues": shown, "posterior": posterior(task, shown)}
            known |= {"reasoning_facts": reasoning_facts(task, shown)} if facts else {}
            rows.append({"sample_id": f"{task}-{i}", "image": f"{task}/{i}.png", "task": task, "ground_truth": label,
                         "candidates": list(TASKS[task].labels), "response": response, **known})  # fmt: skip
    return rows
