"""Makes the vectors that stages/imaging/tests/regions.rs compares with.

Pinned: SimpleITK 2.5.3, numpy 2.4.6 (python3 -m venv v && v/bin/pip install SimpleITK==2.5.3 numpy==2.4.6).
Run: python region_vectors.py > ../../stages/imaging/tests/vectors/regions.txt

The input is a volume of 7 x 9 x 12 voxels [slice, row, column], 1.4 x 0.7 x 0.7 mm, whose values are a pure function of
their place, so that the test draws it anew instead of storing it.
"""

import numpy as np
import SimpleITK as sitk

SHAPE = (7, 9, 12)
SPACING = (0.7, 0.7, 1.4)  # x, y, z
SEED = (3, 4, 6)  # slice, row, column


def volume():
    z, y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1], 0 : SHAPE[2]]
    code = (z * SHAPE[1] + y) * SHAPE[2] + x
    grain = (code * 7919 + code * code * 31) % 101
    near = 900 - 40 * (z - 3) ** 2 - 30 * (y - 4) ** 2 - 12 * (x - 6) ** 2
    return ((near + 3 * grain) / 16.0).astype(np.float32)


def image(array):
    made = sitk.GetImageFromArray(array)
    made.SetSpacing(SPACING)
    return made


def bits(mask):
    return "".join("#" if value else "." for value in sitk.GetArrayFromImage(mask).ravel())


def numbers(found):
    return " ".join(f"{value:.9g}" for value in sitk.GetArrayFromImage(found).ravel())


def put(name, line):
    print(f"{name}: {line}")


def main():
    made = image(volume())
    seeds = [SEED[::-1]]
    for lower in (30.0, 45.0, 52.0):
        for name, connectivity in (("face", sitk.ConnectedThresholdImageFilter.FaceConnectivity),
                                   ("full", sitk.ConnectedThresholdImageFilter.FullConnectivity)):
            found = sitk.ConnectedThreshold(made, seeds, lower, 1e9, 1, connectivity)
            put(f"connected {lower} {name}", bits(found))
    for lower, radius in ((30.0, (1, 1, 1)), (20.0, (2, 1, 0)), (20.0, (1, 2, 1))):
        found = sitk.NeighborhoodConnected(made, seeds, lower, 1e9, list(radius), 1)
        put(f"neighbourhood {lower} {radius[2]} {radius[1]} {radius[0]}", bits(found))
    for multiplier, iterations, radius in ((2.5, 4, 1), (1.5, 4, 2), (1.0, 2, 1), (2.0, 0, 2), (0.5, 3, 0)):
        two = seeds if radius else seeds + [(5, 4, 3)]
        found = sitk.ConfidenceConnected(made, two, iterations, multiplier, radius, 1)
        put(f"confidence {multiplier} {iterations} {radius}", bits(found))
    for sigma in (0.7, 1.0, 2.0):
        smoothed = sitk.SmoothingRecursiveGaussian(made, sigma)
        put(f"smooth {sigma}", numbers(smoothed))
        c = 4.0
        vessels = sitk.ObjectnessMeasure(smoothed, alpha=0.5, beta=0.5, gamma=c / sigma**2,
                                         scaleObjectnessMeasure=False, objectDimension=1, brightObject=True)
        put(f"vessel {sigma} {c}", numbers(vessels))
    for order in (1, 2):
        for axis in (0, 1, 2):
            found = sitk.RecursiveGaussian(made, 1.4, True, order, axis)
            put(f"derivative 1.4 {order} {2 - axis}", numbers(found))
    put("median 1 2 2", numbers(sitk.Median(made, [2, 2, 1])))
    hull = sitk.Cast(made > 40.0, sitk.sitkUInt8)
    put("fill 40", bits(sitk.BinaryFillhole(hull)))


if __name__ == "__main__":
    main()
