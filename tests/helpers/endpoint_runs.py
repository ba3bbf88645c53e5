"""Records, and the command that infers them with a server of ``endpoint_server``."""

from PIL import Image

from tests.helpers.commands import write_jsonl


def records(folder, texts):
    """A data file with one record per text, in ``folder``; all have the same small image."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (28, 28), "orange").save(folder / "image.png")
    content = [[{"type": "image", "image": "image.png"}, {"type": "text", "text": text}] for text in texts]
    rows = [
        {
            "id": f"sample {number}: naïve 😀",
            "conversations": [{"role": "user", "content": items}],
            "ground_truth": "awe",
            "candidates": ["awe", "fear", "anger", "sadness"],
            "task": "EmoSet-8",
        }
        for number, items in enumerate(content)
    ]
    return write_jsonl(folder / "data.jsonl", rows)


def command(data, output, server, *more):
    return [
        "-m", "inference.inference_vllm", "--engine", "openai", "--base_url", server.url, "--model_name", "made-up",
        "--data_path", data, "--output_path", output, "--temperature", "0", "--min_pixels", "784",
        "--max_pixels", "784", *more,
    ]  # fmt: skip
