"""Image files, good and bad: what everything that opens images is tried on.

``write_images(folder)`` writes all of them. Each case has its file's name and what must come of it: RGB
pixels, as an array of what is stored and upright, or words that the error must have.
"""

import io
import os
import socket
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIZE = (48, 32)
RNG = np.random.default_rng(7)
# Large areas of one colour each: a codec with losses keeps them apart.
PICTURE = np.kron(RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8), np.ones((16, 16, 1), dtype=np.uint8))
GREY = PICTURE[..., 0]


@dataclass
class ImageCase:
    name: str
    content: bytes | None  # None: write_images makes something that is no regular file
    pixels: np.ndarray | None = None  # (height, width, 3), upright; None: an ImageError
    reason: str = ""  # words of the error
    tolerance: int = 0  # of a codec with losses
    exact_or_error: bool = False  # either is right, but never other pixels


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, data=b"", before=(), rows=None):
    """A PNG file by hand: for sizes, depths and chunks that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    if rows is not None:
        data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [chunk(b"IHDR", header), *(chunk(*item) for item in before), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def modes():
    """Every colour mode, with the pixels that must come of it."""
    picture, grey = Image.fromarray(PICTURE), Image.fromarray(GREY)
    alpha = np.full(GREY.shape, 255, np.uint8)
    alpha[:, :16], alpha[:, 16:32] = 0, 128
    with_alpha = np.dstack([PICTURE, alpha])
    share = alpha[..., None] / 255
    on_white = np.rint(PICTURE * share + 255 * (1 - share)).astype(np.uint8)
    grey_on_white = np.rint(rgb(GREY) * share + 255 * (1 - share)).astype(np.uint8)

    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        yield ImageCase(f"rgb.{kind.lower()}", saved(picture, kind), PICTURE)
        yield ImageCase(f"grey.{kind.lower()}", saved(grey, kind), rgb(GREY))
    yield ImageCase("rgb lossless.webp", saved(picture, "WEBP", lossless=True), PICTURE)
    yield ImageCase("rgb.jpg", saved(picture, "JPEG", quality=95, subsampling=0), PICTURE, tolerance=12)
    yield ImageCase(
        "progressive.jpg", saved(picture, "JPEG", quality=95, subsampling=0, progressive=True), PICTURE, tolerance=12
    )
    yield ImageCase("grey.jpg", saved(grey, "JPEG", quality=95, subsampling=0), rgb(GREY), tolerance=6)
    cmyk = picture.convert("CMYK")
    yield ImageCase("cmyk.tiff", saved(cmyk, "TIFF"), PICTURE, tolerance=1)
    yield ImageCase("cmyk.jpg", saved(cmyk, "JPEG", quality=95, subsampling=0), PICTURE, tolerance=14)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield ImageCase(f"{compression}.tiff", saved(picture, "TIFF", compression=compression), PICTURE)

    one_bit = GREY > 127
    yield ImageCase("1 bit.png", saved(Image.fromarray(one_bit), "PNG"), rgb(one_bit * np.uint8(255)))
    palette = picture.quantize(16)
    of_palette = np.asarray(palette.convert("RGB"))
    yield ImageCase("palette.png", saved(palette, "PNG"), of_palette)
    yield ImageCase("palette.gif", saved(palette, "GIF"), of_palette)
    index = np.asarray(palette)
    clear = int(index[0, 0])
    expected = np.where((index == clear)[..., None], 255, of_palette).astype(np.uint8)
    yield ImageCase("palette, one colour clear.png", saved(palette, "PNG", transparency=clear), expected)
    yield ImageCase("palette, one colour clear.gif", saved(palette, "GIF", transparency=clear), expected)
    half = bytes(128 if i == clear else 255 for i in range(16))
    halved = np.rint((of_palette + 255.0) / 2)
    expected = np.where((index == clear)[..., None], halved, of_palette).astype(np.uint8)
    yield ImageCase(
        "palette, one colour half clear.png", saved(palette, "PNG", transparency=half), expected, tolerance=1
    )

    yield ImageCase("alpha.png", saved(Image.fromarray(with_alpha), "PNG"), on_white, tolerance=1)
    yield ImageCase(
        "alpha.webp", saved(Image.fromarray(with_alpha), "WEBP", lossless=True, exact=True), on_white, tolerance=1
    )
    yield ImageCase("alpha.tiff", saved(Image.fromarray(with_alpha), "TIFF"), on_white, tolerance=1)
    both = Image.merge("LA", (grey, Image.fromarray(alpha)))
    yield ImageCase("grey with alpha.png", saved(both, "PNG"), grey_on_white, tolerance=1)
    for name, key in (("rgb", tuple(map(int, PICTURE[0, 0]))), ("grey", int(GREY[0, 0]))):
        base = PICTURE if name == "rgb" else rgb(GREY)
        match = (base == np.asarray(key)).all(axis=-1, keepdims=True)
        content = saved(picture if name == "rgb" else grey, "PNG", transparency=key)
        yield ImageCase(f"{name}, one colour clear.png", content, np.where(match, 255, base).astype(np.uint8))

    deep = GREY.astype(np.uint16) * 257
    yield ImageCase("16-bit grey.png", saved(Image.fromarray(deep), "PNG"), rgb(GREY))
    yield ImageCase("16-bit grey.tiff", saved(Image.fromarray(deep), "TIFF"), rgb(GREY))
    big_endian = Image.frombytes("I;16B", SIZE, deep.astype(">u2").tobytes())
    yield ImageCase("16-bit grey, big-endian.tiff", saved(big_endian, "TIFF"), rgb(GREY))
    maximum = f"P5 {SIZE[0]} {SIZE[1]} 65535\n".encode()
    yield ImageCase("16-bit grey.pgm", maximum + deep.astype(">u2").tobytes(), rgb(GREY))
    rows = [(row.astype(">u2") * 257).tobytes() for row in PICTURE.astype(np.uint16)]
    yield ImageCase("16-bit rgb.png", png(*SIZE, 16, 2, rows=rows), PICTURE)
    rows = [np.dstack([g, a]).astype(">u2").tobytes() for g, a in zip(deep, alpha.astype(np.uint16) * 257, strict=True)]
    yield ImageCase("16-bit grey with alpha.png", png(*SIZE, 16, 4, rows=rows), grey_on_white, tolerance=1)
    rows = [row.astype(">u2").tobytes() for row in deep]
    clear = (b"tRNS", struct.pack(">H", int(deep[0, 0])))
    expected = np.where((GREY[0, 0] == GREY)[..., None], 255, rgb(GREY)).astype(np.uint8)
    yield ImageCase("16-bit grey, one level clear.png", png(*SIZE, 16, 0, rows=rows, before=[clear]), expected)
    yield ImageCase("32-bit grey.tiff", saved(Image.fromarray(deep.astype(np.int32)), "TIFF"), rgb(GREY))
    yield ImageCase("float grey.tiff", saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), rgb(GREY))
    rows = [np.packbits(row).tobytes() for row in one_bit]
    yield ImageCase("1-bit grey.png", png(*SIZE, 1, 0, rows=rows), rgb(one_bit * np.uint8(255)))
    yield ImageCase(
        "1 × 1.png", saved(Image.new("RGB", (1, 1), (9, 99, 200)), "PNG"), np.array([[[9, 99, 200]]], np.uint8)
    )
    yield ImageCase("a wrong ending.jpg", saved(picture, "PNG"), PICTURE)
    yield ImageCase("lab.tiff", saved(picture.convert("LAB"), "TIFF"), PICTURE, tolerance=10)


def animations():
    second = Image.fromarray(255 - PICTURE)
    frames = {"save_all": True, "append_images": [second]}
    first = Image.fromarray(PICTURE)
    yield ImageCase(
        "animation.gif", saved(first.quantize(16), "GIF", **frames), np.asarray(first.quantize(16).convert("RGB"))
    )
    yield ImageCase("animation.webp", saved(first, "WEBP", lossless=True, **frames), PICTURE)
    yield ImageCase("animation.png", saved(first, "PNG", **frames), PICTURE)
    yield ImageCase("pages.tiff", saved(first, "TIFF", **frames), PICTURE)


def orientations():
    """EXIF's eight, and values that are none, in each format that carries them."""
    for value in (*range(10), 65535):
        exif = Image.Exif()
        exif[0x0112] = value
        turn = {
            2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
            6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a),
        }.get(value, lambda a: a)  # fmt: skip
        for kind, options in (
            ("JPEG", {"quality": 95, "subsampling": 0}),
            ("PNG", {}),
            ("WEBP", {"lossless": True}),
            ("TIFF", {}),
        ):
            content = saved(Image.fromarray(PICTURE), kind, exif=exif, **options)
            lossy = 12 if kind == "JPEG" else 0
            yield ImageCase(f"orientation {value}.{kind.lower()}", content, turn(PICTURE), tolerance=lossy)
    texts = {
        "no TIFF header": b"Exif\0\0garbage", "an offset beyond the end": b"Exif\0\0II*\0\xff\xff\xff\xff",
        "empty": b"Exif\0\0", "cut off": b"Exif\0\0MM\0*\0\0\0\x08\0\x05",
        "an orientation of text": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",
        "a directory that holds itself": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08\0\0\0\x08",
        "a million entries": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\0\0\0\x01\0\x01\0\0" * 100,
    }  # fmt: skip
    for name, exif in texts.items():
        content = saved(Image.fromarray(PICTURE), "JPEG", quality=95, subsampling=0, exif=exif)
        yield ImageCase(f"exif, {name}.jpg", content, PICTURE, tolerance=12)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = exif.tobytes().replace(b"\x00\x01\x01\x12", b"\x00\x01\x01\x12", 1)
    content = saved(Image.fromarray(PICTURE), "JPEG", quality=95, subsampling=0, exif=whole + b"\xff" * 40)
    yield ImageCase("exif, rubbish behind it.jpg", content, np.rot90(PICTURE, -1), tolerance=12)


def truncated():
    """Cut off at many places: never other pixels than the whole file's."""
    for kind, options in (
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("PPM", {}),
    ):
        picture = Image.fromarray(PICTURE)
        picture = picture.quantize(16) if kind == "GIF" else picture
        content = saved(picture, kind, **options)
        expected = np.asarray(picture.convert("RGB"))
        for length in sorted(
            {round(len(content) * i / 12) for i in range(12)} | {len(content) - n for n in (1, 2, 5, 13)}
        ):
            case = ImageCase(f"cut off at {length} of {len(content)}.{kind.lower()}", content[:length], expected)
            case.exact_or_error, case.tolerance, case.reason = True, 12 if kind == "JPEG" else 0, "image "
            yield case


def sizes():
    for width, height in ((30_000, 10), (10, 30_000), (201, 1)):
        content = saved(Image.new("RGB", (width, height)), "PNG")
        yield ImageCase(f"{width} × {height}.png", content, None, f"aspect ratio of {width} × {height} is over 200")
    yield ImageCase(
        "200 × 1.png", saved(Image.new("RGB", (200, 1), (1, 2, 3)), "PNG"), np.full((1, 200, 3), (1, 2, 3), np.uint8)
    )
    too_many = "has more than 120,000,000 pixels"
    for side in (11_000, 50_000, 2**31 - 1):
        yield ImageCase(
            f"bomb of {side} × {side}.png", png(side, side, data=zlib.compress(bytes(2**20))), None, too_many
        )
        header = (
            b"BM"
            + struct.pack("<IHHI", 100, 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
        )
        yield ImageCase(f"bomb of {side} × {side}.bmp", header + bytes(100), None, too_many)
        yield ImageCase(f"bomb of {side} × {side}.ppm", f"P6 {side} {side} 255\n".encode(), None, too_many)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0xF0, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x01\x44\x00;"
    yield ImageCase("bomb of 65535 × 65535.gif", gif, None, too_many)
    webp = b"RIFF" + struct.pack("<I", 1000) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xfe\xff\xff" * 2
    yield ImageCase("bomb of 16777215 × 16777215.webp", webp + bytes(100), None, "image ")
    yield ImageCase("0 × 0.png", png(0, 0, data=zlib.compress(b"")), None, "image ")
    row = [bytes(3 * SIZE[0])] * SIZE[1]
    bomb = zlib.compress(bytes(200 * 2**20), 9)
    texts = {
        "a text chunk of 200 MB": (b"zTXt", b"Comment\0\0" + bomb),
        "an iTXt chunk of 200 MB": (b"iTXt", b"c\0\1\0\0\0" + bomb),
        "a colour profile of 200 MB": (b"iCCP", b"p\0\0" + bomb),
    }
    for name, item in texts.items():
        case = ImageCase(f"{name}.png", png(*SIZE, rows=row, before=[item]), np.zeros_like(PICTURE))
        case.exact_or_error, case.reason = True, "too large"
        yield case
    many = [(b"zTXt", b"k%d\0\0" % i + zlib.compress(bytes(2**20 - 1))) for i in range(100)]
    case = ImageCase("100 text chunks of 1 MB.png", png(*SIZE, rows=row, before=many), None, "Too much memory")
    yield case


def strangers():
    """Files that are no image, or no image that is taken."""
    contents = {
        "empty.jpg": b"",
        "one byte.jpg": b"\xff",
        "text.jpg": b"not an image",
        "zeros.png": bytes(5000),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "page.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj",
        "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EndComments\n(evil) run\n",
        "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
        "photo.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "icon.ico": saved(Image.fromarray(PICTURE), "ICO"),
        "targa.tga": saved(Image.fromarray(PICTURE), "TGA"),
        "icon.icns": b"icns" + bytes(100),
        "film.mp4": b"\0\0\0\x18ftypmp42",
        "metafile.wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(100),
        "html.jpg": b"<!doctype html><title>Log in</title>",
        "pickle.png": b"\x80\x04\x95\0\0\0\0\0\0\0\0.",
        "only the signature.png": b"\x89PNG\r\n\x1a\n",
        "only the marker.jpg": b"\xff\xd8\xff",
        "photo.psd": b"8BPS\0\1" + bytes(100),
        "film.mpg": b"\0\0\1\xb3" + bytes(100),
        "table.fits": b"SIMPLE  =" + bytes(100),
    }
    for name, content in contents.items():
        yield ImageCase(name, content, None, "cannot identify: expected JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM")
    whole = bytearray(saved(Image.fromarray(PICTURE), "PNG"))
    whole[whole.index(b"IDAT") + 20] ^= 0xFF
    yield ImageCase("a wrong check sum.png", bytes(whole), None, "image ")
    yield ImageCase(
        "no such palette.png",
        png(*SIZE, 8, 3, rows=[bytes(SIZE[0])] * SIZE[1]),
        np.zeros_like(PICTURE),
        exact_or_error=True,
        reason="image ",
    )
    for name in ("folder", "pipe", "socket", "link to itself", "link to nothing", "missing", "link to a device"):
        absent = name in ("link to itself", "link to nothing", "missing")
        reason = "leads out of" if name == "link to a device" else "no such file" if absent else "not a regular file"
        yield ImageCase(f"{name}.jpg", None, None, reason)
    yield ImageCase("x" * 300 + ".jpg", None, None, "no such file")


IMAGE_CASES = [*modes(), *animations(), *orientations(), *truncated(), *sizes(), *strangers()]


def write_images(folder):
    """Every case's file in ``folder``."""
    for case in IMAGE_CASES:
        if case.content is not None:
            (folder / case.name).write_bytes(case.content)
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    here = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as door:  # by a short way: a socket's path has a limit of 107 bytes
        door.bind(f"/proc/self/fd/{here}/socket.jpg")
    os.close(here)
    (folder / "link to itself.jpg").symlink_to(folder / "link to itself.jpg")
    (folder / "link to nothing.jpg").symlink_to(folder / "nothing.jpg")
    (folder / "link to a device.jpg").symlink_to("/dev/zero")
    return folder
