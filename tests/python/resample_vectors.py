"""Makes the vectors that stages/imaging/tests/resample.rs compares with.

Pinned: SimpleITK 2.5.7, scipy 1.17.1, numpy 2.4.6 (python3 -m venv v && v/bin/pip install SimpleITK==2.5.7 scipy==1.17.1
numpy==2.4.6).
Run: python resample_vectors.py > ../../stages/imaging/tests/vectors/resample.txt

The input is a volume of 5 x 7 x 8 voxels [slice, row, column], 1.5 x 0.7 x 0.8 mm, whose values are a pure function of
their place, so that the test draws it anew instead of storing it. A line has the name of the reference, the
interpolation, whether values are smoothed first, the new spacing, and the values.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

SHAPE = (5, 7, 8)
SPACING = (1.5, 0.7, 0.8)
TARGETS = ((1.0, 0.5, 1.1), (1.5, 1.6, 0.8), (4.0, 2.0, 3.0))
ORDER = {"nearest": 0, "linear": 1, "cubic": 3}
EDGE = {"nearest": "nearest", "linear": "nearest", "cubic": "mirror"}
ITK = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}


def volume():
    z, y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1], 0 : SHAPE[2]]
    code = (z * SHAPE[1] + y) * SHAPE[2] + x
    return ((code * 7919 + code * code * 31) % 101).astype(np.float32)


def shape_at(target):
    return [max(1, int(np.floor(n * s / t + 0.5))) for n, s, t in zip(SHAPE, SPACING, target)]


def with_scipy(image, target, interpolation, antialias):
    """The outlines of input and output coincide."""
    steps = [t / s for t, s in zip(target, SPACING)]
    if antialias:
        sigmas = [max(0.0, (step - 1) / 2) for step in steps]
        image = ndimage.gaussian_filter(image.astype(float), sigmas, mode=EDGE[interpolation], truncate=4.0)
    axes = [(np.arange(n) + 0.5) * step - 0.5 for n, step in zip(shape_at(target), steps)]
    axes = [np.clip(axis, -0.5, n - 0.5) for axis, n in zip(axes, SHAPE)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"))
    return ndimage.map_coordinates(
        image.astype(float), places, order=ORDER[interpolation], mode=EDGE[interpolation]
    )


def with_itk(image, target, interpolation):
    """The centres of the first voxels coincide; what lies beyond the outline of the input is not a number."""
    source = sitk.GetImageFromArray(image)
    source.SetSpacing(SPACING[::-1])
    found = sitk.Resample(
        source, shape_at(target)[::-1], sitk.Transform(), ITK[interpolation], source.GetOrigin(), target[::-1],
        source.GetDirection(), float("nan"), sitk.sitkFloat64,
    )
    return sitk.GetArrayFromImage(found)


def put(reference, interpolation, antialias, target, values):
    name = f"{reference} {interpolation} {str(antialias).lower()} {' '.join(map(str, target))}"
    print(f"{name}: {' '.join(f'{value:.7g}' for value in values.ravel())}")


def main():
    image = volume()
    for target in TARGETS:
        for interpolation in ORDER:
            put("itk", interpolation, False, target, with_itk(image, target, interpolation))
            for antialias in (False, True):
                if interpolation != "nearest" or not antialias:
                    put("scipy", interpolation, antialias, target, with_scipy(image, target, interpolation, antialias))


if __name__ == "__main__":
    main()
