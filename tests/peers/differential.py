"""Glia's readers of safetensors, npy and zip against the safetensors package, NumPy and Python's zipfile (R13): random files, whole and
damaged. What both read must be the same to the bit, and what Python refuses Glia must refuse. Glia may refuse more (it is counted): bytes that
belong to nothing, names that leave a folder, numbers that Tensor has no type for.

Needs numpy and safetensors. Built by: scripts/build.sh release glia_differential
usage: differential.py PATH_OF_GLIA_DIFFERENTIAL [SECONDS_PER_FORMAT [SEED]]
"""
import io
import json
import random
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib

import numpy as np
import safetensors

PROGRAM, SECONDS = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 30
rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
warnings.simplefilter("ignore")
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2, "U32": 4, "U64": 8}
NPY = ["?", "i1", "<i2", ">i2", "<i4", ">i4", "<i8", "u1", "<u2", ">u4", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8"]


def name():
    return rng.choice(["a", "b.weight", "näme", "x/y", "", "data/0", '"', "\\", "\n", "..", "w" * 40]) + rng.choice(["", "1", "2"])


def shape():
    return [rng.choice([0, 1, 1, 2, 3, 4]) for _ in range(rng.randrange(4))]


def safetensors_file():
    entries, data = {}, b""
    for _ in range(rng.randrange(4)):
        dtype, sides = rng.choice(list(DTYPES)), shape()
        size = DTYPES[dtype] * int(np.prod(sides, dtype=int))
        entries[name()] = {"dtype": dtype, "shape": sides, "data_offsets": [len(data), len(data) + size]}
        data += rng.randbytes(size)
    if rng.random() < 0.3:
        entries["__metadata__"] = {name(): name() for _ in range(rng.randrange(3))}
    text = json.dumps(entries, ensure_ascii=rng.random() < 0.5).encode()
    text += b" " * (rng.randrange(9) if rng.random() < 0.5 else -len(text) % 8)
    used = sum(DTYPES[e["dtype"]] * int(np.prod(e["shape"], dtype=int)) for n, e in entries.items() if n != "__metadata__")
    return struct.pack("<Q", len(text)) + text + data[:used]


def npy_file():
    array = np.frombuffer(rng.randbytes(1024), np.dtype(rng.choice(NPY)))
    sides = shape()
    array = array[: int(np.prod(sides, dtype=int))].reshape(sides)
    if array.dtype == bool:
        array = array.view(np.uint8) % 2 == 1
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asfortranarray(array) if rng.random() < 0.3 else array, version=rng.choice([None, (1, 0), (2, 0), (3, 0)]))
    return out.getvalue()


def zip_file():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as z:
        for member in {name() for _ in range(rng.randrange(4))}:
            with z.open(zipfile.ZipInfo(member), "w", force_zip64=rng.random() < 0.2) as f:
                f.write(rng.randbytes(rng.randrange(40)) * rng.randrange(4))
    return out.getvalue()


def damaged(data):
    data = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif kind == 2:
            del data[at : at + rng.randrange(1, 4)]
        elif kind == 3 and at < len(data):
            data[at] = rng.choice(b"0123456789{}[]\",: \x00\xffPK")
        elif kind == 4 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif data:
            start = rng.randrange(len(data))
            data[at:at] = data[start : start + rng.randrange(1, 40)]
    return bytes(data)


def text(s):
    return s.encode() + b"\0"


def read_safetensors(data):
    crc = 0
    for n, t in sorted(safetensors.deserialize(data), key=lambda item: item[0].encode()):
        for part in (text(n), text(f"{t['dtype']} {','.join(map(str, t['shape']))}"), bytes(t["data"])):
            crc = zlib.crc32(part, crc)
    size = struct.unpack("<Q", data[:8])[0]
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    for key, value in sorted(metadata.items(), key=lambda item: item[0].encode()):
        crc = zlib.crc32(text(key) + text(value), crc)
    return crc


def read_npy(data):
    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    kind = {"b": "BOOL", "f": "F", "i": "I", "u": "U"}[array.dtype.kind]
    dtype = kind if kind == "BOOL" else kind + str(8 * array.dtype.itemsize)
    raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
    return zlib.crc32(raw, zlib.crc32(text(f"{dtype} {','.join(map(str, array.shape))}")))


def read_zip(data):
    crc = 0
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        for info in z.infolist():
            raw = info.filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")  # as the bytes stand in the file
            crc = zlib.crc32(z.read(info), zlib.crc32(raw + b"\0", crc))
    return crc


def compare(letter, make, read):
    counts = {"the same": 0, "refused by both": 0, "refused by Glia alone": 0}
    end = time.time() + SECONDS
    while time.time() < end:
        cases = [damaged(make()) for _ in range(2000)]
        stream = b"".join(letter + struct.pack("<I", len(c)) + c for c in cases)
        lines = subprocess.run([PROGRAM], input=stream, capture_output=True, check=True).stdout.decode().split()
        assert len(lines) == len(cases)
        for case, line in zip(cases, lines):
            try:
                want = f"{read(case):08x}"
            except Exception:  # zipfile and NumPy have many
                want = "no"
            if line == want:
                counts["refused by both" if want == "no" else "the same"] += 1
            elif line == "no":
                counts["refused by Glia alone"] += 1
            else:
                print(f"{letter.decode()}: Glia {line}, Python {want}: {case!r}")
                return False
    print(f"{letter.decode()}: {sum(counts.values())} files: " + ", ".join(f"{v} {k}" for k, v in counts.items()))
    return True


good = [compare(b"S", safetensors_file, read_safetensors), compare(b"N", npy_file, read_npy), compare(b"Z", zip_file, read_zip)]
sys.exit(0 if all(good) else 1)
