"""Makes the checksums that datasets/src/volume/tests.rs compares with.

Pinned: nibabel 5.3.2, numpy 2.3.5 (python3 -m venv v && v/bin/pip install nibabel==5.3.2 numpy==2.3.5).
Run: python nibabel_voxels.py FOLDER > ../../datasets/src/volume/nibabel.txt
where FOLDER holds the files of nibabel's own tests (nibabel/tests/data).

One line a file: what nibabel takes it for; number of volumes; slices, rows and columns; CRC-32 of all scaled voxels as
little-endian f32 in the order of the file; their number of NaN; their sum without these. A NaN is written as 0x7fc00000.
"""

import pathlib
import sys
import zlib

import nibabel
import numpy as np


def line(path):
    try:
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj, dtype=np.float64).astype(np.float32)
    except Exception as error:  # whatever nibabel refuses it for
        return f"{path.name} refused {type(error).__name__}"
    kind = type(image).__name__
    axes = [*voxels.shape, 1, 1, 1, 1][:4]
    if voxels.ndim > 4 and any(axis > 1 for axis in voxels.shape[4:]):
        return f"{path.name} {kind} axes {'x'.join(map(str, voxels.shape))}"
    flat = voxels.ravel(order="F")
    missing = np.isnan(flat)
    flat[missing] = np.nan
    total = flat[~missing].astype(np.float64).sum()
    checksum = zlib.crc32(flat.astype("<f4").tobytes())
    columns, rows, slices, frames = axes
    shape = f"{slices} {rows} {columns}"
    return f"{path.name} {kind} {frames} {shape} {checksum:08x} {missing.sum()} {total:.9g}"


for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    if path.name != "SOURCE.txt":
        print(line(path))
