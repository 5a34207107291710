#!/usr/bin/env python3
"""Makes assets/fashion-mnist: the first images of each class of Fashion-MNIST, in file order, as gzip IDX files.

Source: Debian's package dataset-fashion-mnist (MIT licence), installed to /usr/share/datasets/fashion-mnist.
Only the standard library is used, and equal input gives equal bytes (up to the version of zlib).

    python3 scripts/make_embedded.py [source folder] [output folder]
"""

import gzip
import pathlib
import struct
import sys

SOURCE = "/usr/share/datasets/fashion-mnist"
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "assets" / "fashion-mnist"
PER_CLASS = {"train": 600, "t10k": 100}
CLASSES = 10


def read_idx(path, magic, dims):
    """Returns the sizes and the bytes of a gzip IDX file."""
    raw = gzip.decompress(path.read_bytes())
    head = struct.unpack(f">{1 + dims}I", raw[: 4 * (1 + dims)])
    assert head[0] == magic, f"{path}: magic number {head[0]:#x}, expected {magic:#x}"
    return head[1:], raw[4 * (1 + dims):]


def first_of_each_class(labels, per_class):
    """The positions of the first `per_class` images of each class, in file order."""
    seen, kept = [0] * CLASSES, []
    for position, label in enumerate(labels):
        if seen[label] < per_class:
            seen[label] += 1
            kept.append(position)
    assert seen == [per_class] * CLASSES, f"too few images: {seen}"
    return kept


def write_idx(path, magic, sizes, data):
    """Writes a gzip IDX file without a time stamp or a file name in it."""
    head = struct.pack(f">{1 + len(sizes)}I", magic, *sizes)
    path.write_bytes(gzip.compress(head + data, compresslevel=9, mtime=0))


def main():
    source = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else SOURCE)
    output = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else OUTPUT
    output.mkdir(parents=True, exist_ok=True)
    for split, per_class in PER_CLASS.items():
        images_name, labels_name = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
        (count, height, width), pixels = read_idx(source / images_name, 0x803, 3)
        (labelled,), labels = read_idx(source / labels_name, 0x801, 1)
        assert count == labelled and len(pixels) == count * height * width
        kept, size = first_of_each_class(labels, per_class), height * width
        subset = b"".join(pixels[i * size : (i + 1) * size] for i in kept)
        write_idx(output / images_name, 0x803, (len(kept), height, width), subset)
        write_idx(output / labels_name, 0x801, (len(kept),), bytes(labels[i] for i in kept))
        print(f"{split}: {len(kept)} images, {(output / images_name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
