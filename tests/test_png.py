"""The small copy of a picture, read back by hand."""

import struct
import zlib

import numpy as np

from workbench.reporting import png


def encode(pixels: np.ndarray, filters: list[int], kind: int = 6) -> bytes:
    """A PNG of pixels (height, width, 4) whose rows are filtered as said: 0 none, 2 up."""
    height, width, _ = pixels.shape
    plain = pixels.reshape(height, -1)
    above = np.vstack([np.zeros_like(plain[:1]), plain[:-1]])
    rows = [
        bytes([f]) + (row - up if f == 2 else row).astype(np.uint8).tobytes()
        for f, row, up in zip(filters, plain, above, strict=True)
    ]
    data = zlib.compress(b"".join(rows))
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", data[:9]), (b"IDAT", data[9:]), (b"IEND", b"")]
    return png.SIGNATURE + b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts
    )


def decode(content: bytes) -> np.ndarray:
    chunks = dict(png._chunks(content))
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, 3)


def picture() -> np.ndarray:
    """Four rows of six pixels: two by two blocks of one colour, but for one mixed block."""
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]], [[0, 255, 0]] * 3], np.uint8)
    pixels = np.full((4, 6, 4), 255, np.uint8)
    pixels[..., :3] = colours.repeat(2, axis=0).repeat(2, axis=1)
    pixels[2:, 4, :3], pixels[2:, 5, :3] = (255, 255, 255), (0, 0, 0)
    return pixels


def test_the_copy_is_half_as_large_with_the_blocks_colours() -> None:
    found = decode(png.preview(encode(picture(), [2] * 4)))
    assert found.tolist()[0] == [[255, 255, 255], [0, 0, 0], [255, 0, 0]]
    assert found.tolist()[1][:2] == [[0, 255, 0]] * 2
    assert np.abs(found[1, 2].astype(int) - 127.5).max() <= 255 / 31 / 2 + 1
    same = decode(png.preview(encode(picture(), [0, 2, 2, 2])))
    assert (same == found).all()


def test_an_odd_row_and_column_are_left_out() -> None:
    pixels = np.full((5, 7, 4), 255, np.uint8)
    assert decode(png.preview(encode(pixels, [2] * 5))).shape == (2, 3, 3)


def test_a_picture_of_another_kind_comes_back_as_it_is() -> None:
    glassy = picture()
    glassy[0, 0, 3] = 100
    for other in (encode(picture(), [2, 0, 2, 2]), encode(glassy, [2] * 4)):
        assert png.preview(other) == other
    grey = encode(picture()[..., :1], [0] * 4, kind=0)
    assert png.preview(grey) == grey
