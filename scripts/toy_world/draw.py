"""Draw one scene of the toy world: a background colour, a scene above, a face, a second figure.

Everything is laid out on a 112 × 112 canvas, drawn three times as large and scaled down to
``SIZE`` (84 px: 9 image tokens). Training tasks share one family of styles; each
out-of-distribution task has a style of its own that training never shows.

    from scripts.toy_world.draw import draw_scene
    draw_scene(cues, style="plain", rng=random.Random(0)).save("scene.png")
"""

from __future__ import annotations

import random

from PIL import Image, ImageDraw, ImageFilter

SIZE = 84
CANVAS = 112
SCALE = 3

# Style of each task; the rest (the training tasks) are "plain".
OOD_STYLES = {"Abstract-8": "abstract", "Artphoto-8": "art", "UnbiasedEmo-6": "unbiased"}

BACKGROUND = {
    "yellow": (250, 225, 90),
    "red": (200, 40, 40),
    "violet": (150, 100, 210),
    "green": (90, 180, 90),
    "brown": (125, 95, 50),
    "orange": (250, 150, 50),
    "dark": (40, 40, 50),
    "blue": (80, 120, 200),
}
SKINS = ((245, 210, 175), (235, 190, 150), (205, 155, 115), (165, 115, 80))
INK = (35, 20, 15)


class Pen:
    """ImageDraw in canvas coordinates."""

    def __init__(self, image: Image.Image):
        self.draw = ImageDraw.Draw(image)

    def line(self, points, fill, width=1.0):
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self.draw.line(scaled, fill=fill, width=max(1, round(width * SCALE)), joint="curve")

    def ellipse(self, x, y, rx, ry, fill=None, outline=None, width=1.0):
        box = [(x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE]
        self.draw.ellipse(box, fill=fill, outline=outline, width=round(width * SCALE))

    def box(self, x0, y0, x1, y1, fill=None, outline=None, width=1.0):
        corners = [x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE]
        self.draw.rectangle(corners, fill=fill, outline=outline, width=round(width * SCALE))

    def polygon(self, points, fill, outline=None):
        self.draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=fill, outline=outline)

    def arc(self, x, y, rx, ry, start, end, fill, width):
        box = [(x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE]
        self.draw.arc(box, start, end, fill=fill, width=round(width * SCALE))


def _draw_context(pen: Pen, scene: str, rng: random.Random) -> None:
    """The upper third: what surrounds the person."""

    def jitter(amount):
        return rng.uniform(-amount, amount)

    if scene == "balloons":
        for x in (14, 40, 72, 98):
            x, y = x + jitter(4), 16 + jitter(4)
            colour = rng.choice(((230, 60, 120), (60, 160, 230), (240, 240, 240)))
            pen.line([(x, y + 10), (x, y + 22)], INK)
            pen.ellipse(x, y, 8, 10, fill=colour, outline=INK)
    elif scene == "lightning":
        for x in (20, 80):
            x += jitter(6)
            pen.line([(x, 0), (x + 10, 14), (x - 2, 16), (x + 10, 36)], (255, 255, 255), 3)
    elif scene == "mountains":
        for x, top, half in ((26 + jitter(5), 6, 26), (80 + jitter(4), 2, 32)):
            pen.polygon([(x - half, 44), (x, top), (x + half, 44)], (235, 240, 250), (40, 40, 60))
    elif scene == "flowers":
        for x in (10, 32, 56, 80, 102):
            x, y = x + jitter(3), 14 + jitter(5)
            pen.line([(x, y), (x, y + 18)], (20, 90, 20), 2)
            for dx, dy in ((-4, 0), (4, 0), (0, -4), (0, 4)):
                pen.ellipse(x + dx, y + dy, 3, 3, fill=(250, 200, 230))
    elif scene == "litter":
        for _ in range(16):
            x, y = rng.uniform(2, 104), rng.uniform(4, 36)
            pen.box(x, y, x + 6, y + 4, fill=(70, 75, 40), outline=(20, 20, 10))
    elif scene == "confetti":
        for _ in range(45):
            x, y = rng.uniform(0, 109), rng.uniform(0, 40)
            pen.box(x, y, x + 2, y + 2, fill=rng.choice(((255, 0, 120), (0, 220, 255), (255, 255, 255), (30, 220, 30))))
    elif scene == "shadows":
        for x in (8, 34, 60, 86):
            x += jitter(4)
            pen.polygon([(x, 46), (x + 8, 2), (x + 18, 46)], (10, 10, 10))
    elif scene == "rain":
        pen.ellipse(56, 7, 40, 7, fill=(130, 130, 140))
        for x in range(6, 112, 12):
            x += jitter(3)
            pen.line([(x, 16), (x - 5, 40)], (200, 220, 255), 2)


def _draw_face(pen: Pen, mouth: str, brows: str, style: str, rng: random.Random) -> None:
    """Lower left: the person's face."""
    x, y, r = 40 + rng.uniform(-2, 2), 78 + rng.uniform(-2, 2), 31
    skin = rng.choice(SKINS)
    if style == "abstract":
        pen.polygon(
            [(x - r, y - r + 8), (x, y - r - 2), (x + r, y - r + 8), (x + r - 6, y + r), (x - r + 6, y + r)],
            (240, 240, 235),
            INK,
        )
    elif style == "unbiased":
        pen.box(x - r, y - r, x + r, y + r, fill=skin, outline=INK, width=2)
    else:
        pen.ellipse(x, y, r, r, fill=skin, outline=INK, width=2)
    for side in (-1, 1):
        pen.ellipse(x + side * 11, y - 4, 3, 3, fill=INK)
        inner, outer = x + side * 5, x + side * 18
        if brows == "raised":
            pen.arc((inner + outer) / 2, y - 17, 8, 7, 180, 360, INK, 4)
        else:
            inner_y, outer_y = {"relaxed": (-11, -11), "lowered": (-9, -20), "slanted": (-21, -10)}[brows]
            pen.line([(inner, y + inner_y), (outer, y + outer_y)], INK, 3 if brows == "relaxed" else 5)
    lip = (150, 20, 30)
    if mouth == "smile":
        pen.arc(x, y + 8, 17, 14, 15, 165, lip, 6)
    elif mouth == "open":
        pen.ellipse(x, y + 15, 8, 10, fill=(90, 10, 20))
    elif mouth == "tight":
        pen.line([(x - 15, y + 14), (x + 15, y + 14)], lip, 6)
    elif mouth == "frown":
        pen.arc(x, y + 21, 16, 12, 195, 345, lip, 6)


def _draw_figure(pen: Pen, figure: str, style: str, rng: random.Random) -> None:
    """Lower right: a friend (light), a rival (black) or no one."""
    if figure == "alone":
        return
    x, y = 92 + rng.uniform(-3, 3), 78 + rng.uniform(-3, 3)
    colour = (250, 250, 250) if figure == "friend" else (0, 0, 0)
    pen.ellipse(x, y - 7, 9, 9, fill=colour, outline=(90, 90, 90))
    if style == "abstract":
        pen.polygon([(x, y - 2), (x + 10, y + 30), (x - 10, y + 30)], colour, (90, 90, 90))
    else:
        pen.box(x - 8, y + 3, x + 8, y + 30, fill=colour, outline=(90, 90, 90))


def draw_scene(cues: dict[str, str], style: str, rng: random.Random) -> Image.Image:
    """An RGB image of SIZE × SIZE pixels that shows all five cues in the given style."""
    background = tuple(max(0, min(255, channel + rng.randint(-14, 14))) for channel in BACKGROUND[cues["colour"]])
    image = Image.new("RGB", (CANVAS * SCALE, CANVAS * SCALE), background)
    pen = Pen(image)
    if style == "abstract":
        stripe = tuple(int(channel * 0.8) for channel in background)
        for offset in range(-112, 112, 14):
            pen.line([(offset, 0), (offset + 112, 112)], stripe, 4)
    _draw_context(pen, cues["scene"], rng)
    _draw_face(pen, cues["mouth"], cues["brows"], style, rng)
    _draw_figure(pen, cues["figure"], style, rng)
    image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    if style == "art":  # a faded, grainy print
        image = Image.blend(image, Image.new("RGB", image.size, (140, 130, 115)), 0.22)
        grain = Image.frombytes("L", image.size, bytes(rng.randint(96, 160) for _ in range(SIZE * SIZE)))
        image = Image.blend(image, Image.merge("RGB", (grain,) * 3), 0.12)
    elif style == "unbiased":
        image = image.filter(ImageFilter.GaussianBlur(0.6))
    return image
