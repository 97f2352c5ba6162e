"""Small photos and videos that decoders accept, each made unique by a token inside. Pure.

Lines of base64 are three baseline JPEGs of a landscape, 48 by 36 pixels; PNGs and MP4s are built from their specs.
"""

import base64
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache

_JPEGS = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA4KCw0LCQ4NDA0QDw4RFiQXFhQUFiwgIRokNC43NjMuMjI6QVNGOj1OPjIySGJJTlZYXV5dOEVmbWVa"
    "bFNbXVn/2wBDAQ8QEBYTFioXFypZOzI7WVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVn/wAARCAAkADAD"
    "ASIAAhEBAxEB/8QAGgABAAIDAQAAAAAAAAAAAAAAAAQFAQMGAv/EACQQAAEDBAEEAwEAAAAAAAAAAAEAAgMEERITMQUhMkFCUWFx/8QAGQEAAgMB"
    "AAAAAAAAAAAAAAAAAAECAwQF/8QAHREAAQUBAAMAAAAAAAAAAAAAAAECAxITIRExUf/aAAwDAQACEQMRAD8AzrTWpmtYwFwLi59Lo6mPMia01qZr"
    "TWjUMzcOhVBpN92Xxy1+7Kt1q9HVJxS6cW5Y45+7fz7VdrVUUsnbk3Rt5U9VtRHRw5ydyezWjlxXNy1c0lTvLyHjxt8fwLFVUyVc5llNyeAOAPoL"
    "SsSuVSxy+fR0vTa1lYzF1mzNHdv3+hbq2pho48pDdx8WDkrlmPdG9r2Etc03BHpZlkfNI6SRxc93JKdlHbhYQ9YlFQXStBid8W/H+K9hdHPEJInB"
    "zDwQuPUmirZqKXOI3B8mHhyVlE130jIiKJEIiIAIiIA//9k=",
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA4KCw0LCQ4NDA0QDw4RFiQXFhQUFiwgIRokNC43NjMuMjI6QVNGOj1OPjIySGJJTlZYXV5dOEVmbWVa"
    "bFNbXVn/2wBDAQ8QEBYTFioXFypZOzI7WVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVn/wAARCAAkADAD"
    "ASIAAhEBAxEB/8QAGgABAAMBAQEAAAAAAAAAAAAAAAMEBgIFAf/EACQQAAICAQMEAgMAAAAAAAAAAAECAAMSBRFBBCExUQYTInHR/8QAFwEBAQEB"
    "AAAAAAAAAAAAAAAAAAECBP/EABsRAQACAwEBAAAAAAAAAAAAAAABEgIRUSFB/9oADAMBAAIRAxEAPwDEYT7hJ8IwnStXt6X8N6/U9NHWV2U1hwTU"
    "j77v/Jnnqat2R1KupKsDwR5mq0r5d1mmaYvRrRVb9YIqdiQVHojmZ2wtbY9jnJ3JZieSe5kjf0qq4RhLGEYSlUr41rkx2EqNexfcdh6nFljWtkx/"
    "Q9TiZmVnLi/U62jt55EWstQ3bzwJRUlSCDsRDMWYljuTGy3iZeoOe7D8TwOJbXF1DKdwZ5skqtapt18cj3GyMuo4iJGCIiAiIgf/2Q==",
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA4KCw0LCQ4NDA0QDw4RFiQXFhQUFiwgIRokNC43NjMuMjI6QVNGOj1OPjIySGJJTlZYXV5dOEVmbWVa"
    "bFNbXVn/2wBDAQ8QEBYTFioXFypZOzI7WVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVn/wAARCAAkADAD"
    "ASIAAhEBAxEB/8QAGAABAAMBAAAAAAAAAAAAAAAAAAMEBgX/xAAiEAACAgICAgMBAQAAAAAAAAABAgADBBIRMTJBBSFxIkL/xAAXAQEBAQEAAAAA"
    "AAAAAAAAAAAAAgME/8QAHBEBAQACAgMAAAAAAAAAAAAAAAECESExEhNB/9oADAMBAAIRAxEAPwDVY+C96lgQoH19+5A9Rrcow+weDL2PkPQhUKGH"
    "Y59SF+bHLt2TzN5cvK76c9k1wraRpJ9I0lbTpBpGkn0jSNmkthSqsvYwRF7J6E41vz9a5AFdRekdsTwT+CcnNz786za5v5Hig8RKs57nfi21xcin"
    "Lr3ocMPY9j9EjzsynBr2tPLHxQdmZGm2yiwWVOyOOiDFtr3WNZaxd27Jj2cDqUfOXDJLXKGpb/C9r+TQ0WV5FS2UsHRuiJh5awc67Bt3qPIPkh6a"
    "JnZ2KsREzCIiAiIgf//Z",
)
PNG_VARIANTS = 6
JPEG_VARIANTS = len(_JPEGS)
BLOCK_BYTES = 1024 * 1024


def make_jpeg(variant: int, token: str) -> bytes:
    """A baseline JPEG of about 600 bytes with the token as its comment."""
    head, rest = _split_jpeg(variant % JPEG_VARIANTS)
    comment = token.encode()
    return b"%b\xff\xfe%b%b%b" % (head, struct.pack(">H", len(comment) + 2), comment, rest)


def make_png(variant: int, token: str) -> bytes:
    """An RGB PNG of a few kB with the token as its comment."""
    head, end = _make_png_parts(variant % PNG_VARIANTS)
    return head + _make_png_chunk(b"tEXt", b"Comment\0" + token.encode()) + end


def make_mp4(size: int, token: str) -> bytes:
    """An MP4 of that many bytes, at least 64, of an `ftyp` and an `mdat` box: a container without a track."""
    return b"".join(iterate_mp4(size, token))


def iterate_mp4(size: int, token: str) -> Iterator[bytes]:
    """The same in blocks of at most 1 MiB, no two alike, so that a block out of place shows in the digest."""
    brands = b"isom\0\0\2\0isomiso2mp41"
    head = struct.pack(">I", len(brands) + 8) + b"ftyp" + brands
    # A length of 1 says that the real one follows in 64 bits.
    head += struct.pack(">I4sQ", 1, b"mdat", size - len(head)) + token.encode()
    yield head
    left, number, noise = size - len(head), 0, make_noise()
    while left > 0:
        block = struct.pack(">Q", number) + noise[8:left]
        yield block[:left]
        left -= len(block)
        number += 1


@cache
def make_noise() -> bytes:
    """1 MiB that does not compress, always the same."""
    return random.Random("ricloud emulator noise").randbytes(BLOCK_BYTES)  # noqa: S311 not a secret


@cache
def _split_jpeg(variant: int) -> tuple[bytes, bytes]:
    jpeg = base64.b64decode(_JPEGS[variant])
    # SOI and APP0: JFIF wants them first, a comment may follow.
    return jpeg[:20], jpeg[20:]


@cache
def _make_png_parts(variant: int) -> tuple[bytes, bytes]:
    width, height = 48 + 8 * variant, 36 + 6 * variant
    rng = random.Random(f"ricloud emulator png {variant}")  # noqa: S311 not a secret
    rows = []
    for y in range(height):
        row = bytearray([0])
        for x in range(width):
            row += bytes((x * 255 // width, y * 255 // height, (variant * 40 + rng.randrange(24)) % 256))
        rows.append(bytes(row))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = _make_png_chunk(b"IDAT", zlib.compress(b"".join(rows), 6))
    return b"\x89PNG\r\n\x1a\n" + _make_png_chunk(b"IHDR", header) + pixels, _make_png_chunk(b"IEND", b"")


def _make_png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
