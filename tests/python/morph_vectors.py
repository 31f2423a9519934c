"""Makes the masks that the unit tests of thinning, thickening, swelling and medial axes in stages/imaging compare with.

Pinned: scikit-image 0.26.0, numpy 2.4.6 (python3 -m venv v && v/bin/pip install scikit-image==0.26.0 numpy==2.4.6).
Run: python morph_vectors.py > ../../stages/imaging/tests/vectors/morph.txt

The mask is a stroke with a fork, a ring and a bar; `axis` is its medial axis, `thin` and `thick` are an erosion and a dilation
by a disc of the radius that follows, and `swell` is a power warp at (row, column) with a radius and a power.
"""

import numpy as np
from skimage.morphology import dilation, disk, erosion, medial_axis
from skimage.transform import warp

SHAPE = (44, 52)


def drawn():
    row, column = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    stroke = (np.abs(row - 10) <= 4) & (np.abs(column - 20) <= 16)
    stroke |= (np.abs(column - 20) <= 3) & (np.abs(row - 16) <= 8)
    away = np.hypot(row - 32, column - 38)
    ring = (away <= 9) & (away > 3)
    bar = (np.abs(row - 35 - (column - 12) // 3) <= 2) & (np.abs(column - 12) <= 8)
    return stroke | ring | bar


def swollen(mask, centre, radius, power):
    def nearer(xy):
        offset = xy - np.array(centre[::-1])
        distance = np.hypot(*offset.T)
        weight = np.where(distance > radius, 1.0, (distance / radius) ** (power - 1))
        return np.array(centre[::-1]) + weight[:, None] * offset

    return warp(mask, nearer, order=0)


def put(name, mask):
    print(f"{name}: " + "/".join("".join("#" if v else "." for v in row) for row in mask))


def main():
    mask = drawn()
    put("clean", mask)
    put("axis", medial_axis(mask, rng=0))
    for radius in (1, 2, 3):
        put(f"thin {radius}", erosion(mask, disk(radius)))
        put(f"thick {radius}", dilation(mask, disk(radius)))
    for centre, radius, power in (((10, 14), 9.0, 3.0), ((32, 32), 12.5, 2.0), ((35, 12), 7.0, 4.0)):
        put(f"swell {centre[0]} {centre[1]} {radius} {power}", swollen(mask, centre, radius, power))


main()
