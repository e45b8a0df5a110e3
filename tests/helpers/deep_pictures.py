"""Pictures with 16 bits per channel, which Pillow cannot write in color."""

import struct
import zlib

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def png16(pixels):
    """Return the file of pixels (C, H, W) uint16: gray, gray with alpha, RGB or RGBA."""
    channels, height, width = pixels.shape
    rows = b"".join(b"\0" + pixels[:, row].T.astype(">u2").tobytes() for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def tiff16(pixels, order="<", *, compressed=False, orientation=1):
    """Return the file of RGB (3, H, W) or CMYK (4, H, W) pixels uint16 in a byte order."""
    channels, height, width = pixels.shape
    data = pixels.transpose(1, 2, 0).astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compressed else data
    after_tags = 8 + 2 + 11 * 12 + 4
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    short, long = 3, 4
    tags = [
        (256, short, 1, width),
        (257, short, 1, height),
        (258, short, channels, after_tags),
        (259, short, 1, 8 if compressed else 1),
        (262, short, 1, 2 if channels == 3 else 5),
        (273, long, 1, after_tags + len(bits)),
        (274, short, 1, orientation),
        (277, short, 1, channels),
        (278, short, 1, height),
        (279, long, 1, len(data)),
        (284, short, 1, 1),
    ]
    content = struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        packed = (
            struct.pack(f"{order}HH", value, 0) if kind == short and count == 1 else struct.pack(f"{order}I", value)
        )
        content += struct.pack(f"{order}HHI", tag, kind, count) + packed
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return start + content + bytes(4) + bits + data


def ppm16(pixels, maximum=65535):
    """Return the file of gray (1, H, W) or RGB pixels (3, H, W) uint16 with this value of white."""
    channels, height, width = pixels.shape
    kind = "P5" if channels == 1 else "P6"
    return f"{kind} {width} {height} {maximum}\n".encode() + pixels.transpose(1, 2, 0).astype(">u2").tobytes()
