#!/usr/bin/env python3
"""Writes `golden.json`: values with their keys, by an encoder that shares nothing with the program's.

    pip install blake3; python3 golden.py

A value is a tag and what follows: `n`, `t`, `f`; `u` and `i` with 8 bytes of a whole number that is not or is negative; `r`
with the 8 bytes of a float, -0 as 0; `s`, `l` and `m` with 8 bytes of a length and then bytes, items, or names and values
sorted by the bytes of the names. All numbers are little-endian. A key is the BLAKE3 digest of the domain as a text and
of the value.
"""

import json
import pathlib
import struct

from blake3 import blake3


def encode(value):
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int):
        return b"u" + struct.pack("<Q", value) if value >= 0 else b"i" + struct.pack("<q", value)
    if isinstance(value, float):
        return b"r" + struct.pack("<d", value + 0.0)
    if isinstance(value, str):
        text = value.encode()
        return b"s" + struct.pack("<Q", len(text)) + text
    if isinstance(value, list):
        return b"l" + struct.pack("<Q", len(value)) + b"".join(map(encode, value))
    fields = sorted(value.items(), key=lambda field: field[0].encode())
    return b"m" + struct.pack("<Q", len(fields)) + b"".join(encode(k) + encode(v) for k, v in fields)


VALUES = [
    None,
    [True, False],
    0,
    2**64 - 1,
    [-1, -(2**63), 2**63],
    [0.0, -0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308],
    ["", "a", "é", "e\u0301", "😀", "\u0000"],
    {},
    [[], [[]], {"": {}}],
    {"b": 1, "a": 2, "ä": 3, "B": 4, "aa": 5},
    {"times": 3, "words": ["apple", "banana"], "noise": {"sigma": 0.25, "kind": None}},
    [["ab", "c"], ["a", "bc"], "abc"],
]

vectors = [[blake3(encode("pipeline action v1") + encode(value)).hexdigest(), value] for value in VALUES]
path = pathlib.Path(__file__).with_name("golden.json")
lines = ",\n".join(json.dumps(vector, ensure_ascii=True) for vector in vectors)
path.write_text(f"[\n{lines}\n]\n")
