"""A user's own data: images and a CSV file, as a spreadsheet on Windows writes it."""

from PIL import Image


def labelled_images(folder):
    """``folder`` with a/0.png to a/19.png and labels.csv, which calls every other one joy or Fear."""
    (folder / "a").mkdir(parents=True)
    for i in range(20):
        Image.new("RGB", (84, 84), (12 * i, 0, 0)).save(folder / "a" / f"{i}.png")
    lines = [f"a/{i}.png,{'joy' if i % 2 else 'Fear'}" for i in range(20)]
    (folder / "labels.csv").write_text("\ufeffpath,label\r\n" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    return folder
