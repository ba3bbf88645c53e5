"""What an image looks like, in 200 bytes: the same picture is found under another name, size or format.

    from scripts.build_vec_cot.fingerprints import fingerprint, like_images
    groups = like_images([fingerprint(image) for image in images])    # equal numbers: the same picture

A fingerprint is a perceptual hash of 64 bits (signs of the 8 × 8 lowest frequencies of the grey
image, about their median) and a thumbnail of 8 × 8 colours. Two images are alike when their hashes
differ in at most MAX_BITS bits and their thumbnails by at most MAX_LEVELS of 255 on average. The hash
finds candidates fast; the thumbnail keeps images apart that differ in colour alone.

Measured on 150 toy scenes (84 px, all of one layout) and 25 photographs of scikit-image and
scikit-learn: copies scaled by 0.5 to 2.5, as WebP at 60 or as JPEG down to 30, differ in at most 8 bits,
and in 2.6 levels (scenes) or 0.7 (photographs). Of different images with close hashes, the nearest
differ in 3.9 levels (among 540 scenes) and 11.6 (a stereo pair of photographs). Crops, mirror images
and copies of another brightness are not found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from inference.data.images import PixelBudget

MAX_BITS = 8
MAX_LEVELS = 3.0
# What images are brought to before their fingerprint: as inference loads them, but small.
BUDGET = PixelBudget(112 * 112, 224 * 224)
BLOCK = 1024  # rows of a distance matrix that are held at once


class Fingerprint(NamedTuple):
    """``bits``: 8 bytes, the perceptual hash; ``thumbnail``: 192 bytes, 8 × 8 RGB."""

    bits: bytes
    thumbnail: bytes


def fingerprint(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB image of any size; the hash is the usual pHash."""
    small = image.resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(small.convert("L"), dtype=float), norm="ortho")[:8, :8]
    thumbnail = small.resize((8, 8), Image.Resampling.BOX).tobytes()
    return Fingerprint(np.packbits(low > np.median(low)).tobytes(), thumbnail)


def like_images(
    prints: list[Fingerprint], max_bits: int = MAX_BITS, max_levels: float = MAX_LEVELS
) -> np.ndarray[tuple[int], np.dtype[np.integer]]:
    """A group number for each fingerprint; images that are alike, directly or through others, share one.

    Hashes that differ in at most ``max_bits`` bits agree in at least one of ``max_bits`` + 1 bands
    of them (pigeonhole), so only images that agree in a band are compared.
    """
    if not prints:
        return np.empty(0, dtype=int)
    # Equal fingerprints first: thousands of the same placeholder picture are one node.
    unique, index = np.unique(np.array([p.bits + p.thumbnail for p in prints], dtype="S200"), return_inverse=True)
    table = np.frombuffer(unique.tobytes(), dtype=np.uint8).reshape(len(unique), 200)
    bits = np.unpackbits(table[:, :8], axis=1)
    signs = np.where(bits, 1, -1).astype(np.float32)  # 64 - 2 × distance = product of two rows
    thumbnails = table[:, 8:].astype(np.int16)
    pairs = []
    for band in range(max_bits + 1):
        columns = bits[:, band :: max_bits + 1]
        keys = columns @ (1 << np.arange(columns.shape[1], dtype=np.int64))
        order = np.argsort(keys, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for start in range(0, len(members), BLOCK):
                block = members[start : start + BLOCK]
                row, column = np.nonzero(signs[block] @ signs[members[start:]].T >= 64 - 2 * max_bits)
                one, other = block[row], members[start:][column]
                one, other = one[one != other], other[one != other]
                if len(one):
                    levels = np.abs(thumbnails[one] - thumbnails[other]).mean(axis=1)
                    pairs.append(np.stack([one, other])[:, levels <= max_levels])
    one, other = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), dtype=int)
    graph = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(len(unique), len(unique)))
    return connected_components(graph, directed=False)[1][index.ravel()]
