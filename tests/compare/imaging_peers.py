"""Times other libraries at one operation of ours and compares the results; prints a JSON object.

Usage: imaging_peers.py ROW FOLDER SAMPLES    FOLDER holds the inputs and our result, as our example has written them

One thread; processor time of this process; a sample is as many calls as take some 40 ms, after one call that does not
count. For each peer: `times_ms`, and `agree` with `difference`, which says in words what was compared; `absent` where a
library is not there.
"""

import json
import pathlib
import statistics
import sys
import time

import numpy as np

SAMPLE_S = 0.04
SPACING = (1.4, 0.7, 0.7)
PEERS = {}


def peer(row, name):
    """Registers a peer of a row: a function of the folder that gives the call to time and the check of its result."""
    return lambda make: PEERS.setdefault(row, []).append((name, make)) or make


def load(folder, name):
    """A grid as our example has written it."""
    return np.load(pathlib.Path(folder, f"{name}.npy"))


def sampled(call, n_samples):
    """Milliseconds a call, and the last result."""
    def timed(n_calls):
        before = time.process_time()
        for _ in range(n_calls):
            result = call()
        return (time.process_time() - before) / n_calls, result

    first, result = timed(1)
    if first > 1.0:
        return [first * 1e3] + [timed(1)[0] * 1e3 for _ in range(min(n_samples, 2) - 1)], result
    n_calls = max(1, int(np.ceil(SAMPLE_S / max(timed(1)[0], 1e-6))))
    return [timed(n_calls)[0] * 1e3 for _ in range(n_samples)], result


def equal(ours, theirs, what):
    """Whether two masks are the same voxel by voxel."""
    n_differ = int(np.count_nonzero((ours > 0) != (theirs > 0)))
    return n_differ == 0, f"{n_differ} of {int(np.count_nonzero(ours))} {what} differ"


def close(ours, theirs, tolerance, what):
    """Whether two arrays differ by no more than a tolerance."""
    largest = float(np.max(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))))
    return largest <= tolerance, f"{what} differ by at most {largest:.2g}, allowed {tolerance:.2g}"


def opencv():
    import cv2

    cv2.setNumThreads(1)
    return cv2


def simple_itk():
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return SimpleITK


def disc(radius):
    """Pixels within a radius."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def with_disc(row, name):
    @peer(row, "OpenCV")
    def make(folder):
        cv2, mask, element = opencv(), load(folder, "mask")[0], disc(10)
        run = getattr(cv2, name)
        return lambda: run(mask, element), lambda found: equal(load(folder, "ours")[0], found, "pixels")


with_disc("erode", "erode")
with_disc("dilate", "dilate")


def with_staple(row):
    @peer(row, "SimpleITK")
    def make(folder):
        itk = simple_itk()
        count = sum(1 for _ in pathlib.Path(folder).glob("mask*.npy"))
        masks = [itk.GetImageFromArray(load(folder, f"mask{number}")) for number in range(count)]

        def run():
            made = itk.STAPLEImageFilter()
            made.SetForegroundValue(1.0)
            return made.Execute(masks), made.GetSensitivity()

        def check(found):
            weights = close(load(folder, "ours"), itk.GetArrayFromImage(found[0]), 1e-9, "probabilities")
            sensitivity = close(load(folder, "sensitivity").ravel(), found[1], 1e-7, "sensitivities")
            return weights[0] and sensitivity[0], f"{weights[1]}; {sensitivity[1]}"

        return run, check


with_staple("staple_2d")
with_staple("staple_3d")


def crop(*masks):
    """The part of masks around their foreground, one voxel wider."""
    union = np.logical_or.reduce(masks)
    part = []
    for axis in range(union.ndim):
        others = tuple(other for other in range(union.ndim) if other != axis)
        found = np.flatnonzero(union.any(axis=others))
        part.append(slice(max(found[0] - 1, 0), found[-1] + 2))
    return [mask[tuple(part)] for mask in masks]


def surfaces(distance):
    """ASD and pooled HD95 by distance transforms of the surfaces in the common box."""
    from scipy import ndimage

    def run(reference, prediction):
        reference, prediction = crop(reference > 0, prediction > 0)
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in (reference, prediction)]
        found = np.concatenate([distance(edges[1])[edges[0]], distance(edges[0])[edges[1]]])
        return found.mean(), np.percentile(found, 95)

    return run


@peer("surface_tumour", "edt")
def surface_edt(folder):
    import edt

    reference, prediction = load(folder, "reference"), load(folder, "prediction")
    run = surfaces(lambda edge: edt.edt((~edge).astype(np.uint8), anisotropy=SPACING, black_border=False, parallel=1))
    ours = load(folder, "ours").ravel()[:2]
    # The package computes in f32.
    return lambda: run(reference, prediction), lambda found: close(ours, found, 1e-5, "ASD and pooled HD95")


@peer("surface_tumour", "SciPy")
def surface_scipy(folder):
    from scipy import ndimage

    reference, prediction = load(folder, "reference"), load(folder, "prediction")
    run = surfaces(lambda edge: ndimage.distance_transform_edt(~edge, sampling=SPACING))
    ours = load(folder, "ours").ravel()[:2]
    return lambda: run(reference, prediction), lambda found: close(ours, found, 1e-9, "ASD and pooled HD95")


@peer("surface_tumour", "MONAI")
def surface_monai(folder):
    import torch
    from monai import metrics

    torch.set_num_threads(1)
    given = [torch.from_numpy(load(folder, name))[None, None].float() for name in ("prediction", "reference")]

    def run():
        mean = metrics.compute_average_surface_distance(*given, True, symmetric=True, spacing=list(SPACING))
        far = metrics.compute_hausdorff_distance(*given, True, percentile=95, spacing=list(SPACING))
        return float(mean), float(far)

    ours = load(folder, "ours").ravel()[[0, 2]]
    return run, lambda found: close(ours, found, 1e-5, "ASD and directed HD95")


@peer("vesselness", "SimpleITK")
def vessels(folder):
    itk, structure = simple_itk(), 50.0
    image = itk.GetImageFromArray(load(folder, "image"))
    image.SetSpacing(SPACING[::-1])

    def run():
        found = None
        for sigma in (0.7, 1.4, 2.1):
            smooth = itk.SmoothingRecursiveGaussian(image, sigma)
            one = itk.GetArrayFromImage(itk.ObjectnessMeasure(
                smooth, alpha=0.5, beta=0.5, gamma=structure / sigma**2, scaleObjectnessMeasure=False,
                objectDimension=1, brightObject=True))
            found = one if found is None else np.maximum(found, one)
        return found

    # Eigenvalues in f32 where ITK has f64; the values lie in [0, 1].
    return run, lambda found: close(load(folder, "ours"), found, 1e-3, "values")


STARTS = {"tumour": ((130, 112, 80), 540.0, 700.0), "breast": ((160, 40, 60), 140.0, 260.0)}


def with_regions(place):
    seed, lower, upper = STARTS[place]

    def add(algorithm, grow):
        @peer(f"{algorithm}_{place}", "SimpleITK")
        def make(folder):
            itk = simple_itk()
            image = itk.GetImageFromArray(load(folder, "image"))
            check = lambda found: equal(load(folder, "ours"), itk.GetArrayFromImage(found), "voxels")
            return lambda: grow(itk, image), check

    add("connected", lambda itk, image: itk.ConnectedThreshold(image, [seed], lower, upper, 1))
    add("neighbourhood", lambda itk, image: itk.NeighborhoodConnected(image, [seed], lower, upper, [1, 1, 1], 1))
    add("confidence", lambda itk, image: itk.ConfidenceConnected(image, [seed], 5, 2.5, 1, 1))

    @peer(f"connected_{place}", "SciPy label")
    def label(folder):
        from scipy import ndimage

        image, at = load(folder, "image"), seed[::-1]

        def run():
            labels, _ = ndimage.label((image >= lower) & (image <= upper))
            return labels == labels[at]

        return run, lambda found: equal(load(folder, "ours"), found, "voxels")


with_regions("tumour")
with_regions("breast")

# Of [slice, row, column]: spacing before and after, and the shape after.
FROM, TO, SHAPE = (2.0, 0.65, 0.65), (1.4, 0.7, 0.7), (228, 475, 475)


@peer("resample", "OpenCV")
def resample_opencv(folder):
    """Slice by slice, then straight lines between slices: the separable form."""
    cv2, raw = opencv(), load(folder, "raw")
    step = [new / old for new, old in zip(TO, FROM)]
    matrix = np.array([[step[2], 0, 0], [0, step[1], 0]], np.float32)

    def run():
        out, kept = np.empty(SHAPE, np.float32), {}
        for slice_, target in enumerate(out):
            place = slice_ * step[0]
            below = int(place)
            above = min(below + 1, len(raw) - 1)
            for number in (below, above):
                if number not in kept:
                    kept.pop(number - 2, None)
                    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
                    size = (SHAPE[2], SHAPE[1])
                    kept[number] = cv2.warpAffine(raw[number].astype(np.float32), matrix, size, flags=flags)
            share = place - below
            cv2.addWeighted(kept[below], 1 - share, kept[above], share, 0, dst=target)
        return out

    # OpenCV rounds weights to 1/32 of a pixel and blackens half a pixel at the far edges.
    inner = (slice(None), slice(None, -2), slice(None, -2))
    return run, lambda found: close(load(folder, "ours")[inner], found[inner], 3.0, "values of 0 to 1000")


@peer("resample", "SimpleITK")
def resample_itk(folder):
    itk = simple_itk()
    image = itk.GetImageFromArray(load(folder, "raw"))
    image.SetSpacing(FROM[::-1])
    arguments = (SHAPE[::-1], itk.Transform(), itk.sitkLinear, image.GetOrigin(), TO[::-1], image.GetDirection(), 0.0,
                 itk.sitkFloat32)
    check = lambda found: close(load(folder, "ours"), itk.GetArrayFromImage(found), 1e-3, "values of 0 to 1000")
    return lambda: itk.Resample(image, *arguments), check


@peer("films", "OpenCV")
def films(folder):
    """Raw films of big-endian 16-bit numbers, read and reduced by area."""
    cv2 = opencv()
    paths = sorted(pathlib.Path(folder).glob("film*.IMG"))
    buffer = np.empty(2048 * 2048, ">u2")

    def run():
        found = []
        for path in paths:
            with open(path, "rb", buffering=0) as file:
                file.readinto(buffer)
            film = buffer.byteswap().view(np.uint16).reshape(2048, 2048)
            found.append(cv2.resize(film, (256, 256), interpolation=cv2.INTER_AREA))
        return found

    # OpenCV rounds to whole grey values of 4095.
    ours = lambda: load(folder, "ours") * 4095
    return run, lambda found: close(ours(), np.stack(found)[: len(ours())], 0.502, "grey values of 0 to 4095")


def shuffled(folder, n_epochs):
    """Every sample once an epoch, in a shuffled order, from a file with one row group a sample."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.set_cpu_count(1)
    image, masks, order = load(folder, "images"), load(folder, "masks"), load(folder, "order").ravel().astype(int)
    n_cases, pixels = len(image), image[0].size
    masks = masks.reshape(n_cases, -1, pixels)
    blob = lambda rows: pyarrow.FixedSizeBinaryArray.from_buffers(
        pyarrow.binary(rows[0].nbytes), len(rows), [None, pyarrow.py_buffer(np.ascontiguousarray(rows))])
    columns = {"image": blob(image)} | {f"mask{number}": blob(masks[:, number]) for number in range(masks.shape[1])}
    path = pathlib.Path(folder, "samples.parquet")
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd", compression_level=1, row_group_size=1,
                                use_dictionary=False, write_statistics=False)
    batch = 16  # divides the number of cases
    images, labels = np.empty((batch, pixels), np.float32), np.empty((masks.shape[1], batch, pixels), np.uint8)

    def run():
        file, sum_, n_inside = pyarrow.parquet.ParquetFile(path, memory_map=True), 0.0, 0
        for place, case in enumerate(np.tile(order, n_epochs)):
            table = file.read_row_group(int(case), use_threads=False)
            row = place % batch
            images[row] = np.frombuffer(table.column("image")[0].as_buffer(), np.float32)
            for number in range(len(labels)):
                labels[number, row] = np.frombuffer(table.column(f"mask{number}")[0].as_buffer(), np.uint8)
            if row + 1 == batch:
                sum_ += float(images[: row + 1, 0].sum(dtype=np.float64))
                n_inside += int(labels[:, : row + 1, ::257].sum(dtype=np.int64))
        return sum_, n_inside

    return run, lambda found: close(load(folder, "ours").ravel(), found, 1e-6, "checksums")


PEERS["epoch"] = [("PyArrow, a row group a sample", lambda folder: shuffled(folder, 1))]
PEERS["ten_epochs"] = [("PyArrow, a row group a sample", lambda folder: shuffled(folder, 10))]


def main(row, folder, n_samples):
    found = {}
    for name, make in PEERS.get(row, []):
        try:
            call, check = make(folder)
            times, result = sampled(call, int(n_samples))
            agrees, difference = check(result)
            found[name] = {"times_ms": times, "agree": bool(agrees), "difference": difference}
        except Exception as problem:  # a peer that does not run is a result too
            found[name] = {"absent": f"{type(problem).__name__}: {problem}"}
        if "times_ms" in found[name]:
            print(f"{row} {name} {statistics.median(found[name]['times_ms']):.3f}", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
