"""Labels through the command and back to the grid of the scanner, as nibabel and SimpleITK read it.

Usage: geometry.py PIPELINE DATA
  python3 -m venv target/python/geometry && target/python/geometry/bin/pip install -r tests/python/geometry_requirements.txt
where PIPELINE is the built command and DATA holds `msd_hippocampus`, `pyradiomics_volumes` and `nifti_conformance`.

Every label map is read, and exported: as it is, from another spacing, and cut and padded from there. Shape, affine and
the code of its space must be those of the image, voxels those of the label, after resampling with a Dice of at least 0.9.
Moreover volumes that nibabel writes: turned, mirrored, with a quaternion only, and without a place. pyarrow and DuckDB must
see the affines in the shards.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import duckdb
import nibabel
import numpy
import pyarrow.parquet
import SimpleITK

EXPERIMENT = """
[cases]
use = "ingest.folder"
root = "volumes"
layout = {{ patterns = {{ image = "images/{{case}}", truth = "labels/{{case}}" }} }}
structures = {read}
split = {{ train = 1, val = 1 }}
allow = ["constant_image", "missing_truth", "unexpected_values"]

[same]
use = "export.nifti"
in = {{ labels = "cases.truth" }}
structures = {write}

[finer]
use = "prepare.resample"
in = {{ images = "cases.images", labels = "cases.truth" }}
spacing_mm = {spacing}

[back]
use = "export.nifti"
in = {{ labels = "finer.labels", source = "cases.images" }}
structures = {write}

[padded]
use = "prepare.pad"
in = {{ labels = "finer.labels" }}
size = {size}

[unpadded]
use = "export.nifti"
in = {{ labels = "padded.labels", source = "cases.images" }}
structures = {write}
"""

LEAST_DICE = 0.9


def check(condition, what):
    """Fails with what was expected."""
    if not condition:
        raise SystemExit(f"FAILED: {what}")


class Round:
    """A project whose volumes lie in folders `images` and `labels`."""

    def __init__(self, pipeline, folder, read, write, spacing, size):
        self.pipeline, self.folder = pipeline, folder
        text = EXPERIMENT.format(read=read, write=write, spacing=spacing, size=size)
        (folder / "configs").mkdir()
        (folder / "round.toml").write_text(text)
        for kind in ("images", "labels"):
            (folder / "volumes" / kind).mkdir(parents=True)

    def put(self, kind, name, source):
        """Links a volume of the data into the project."""
        (self.folder / "volumes" / kind / name).symlink_to(source.resolve())

    def place(self, kind, name):
        """Where a volume that is made here lies."""
        return self.folder / "volumes" / kind / name

    def call(self, *arguments):
        done = subprocess.run([self.pipeline, *arguments], cwd=self.folder, capture_output=True, text=True)
        check(done.returncode == 0, f"{arguments}: {done.stderr}")
        return done.stdout

    def compare(self, name):
        """Runs the round and compares every case."""
        self.call("run", "round.toml", "--quiet")
        for cell in ("same", "back", "unpadded"):
            self.call("show", cell, "--files", f"exported/{cell}")
        exported = sorted((self.folder / "exported" / "same").glob("*.nii.gz"))
        worst = 1.0
        for path in exported:
            case = path.name.removesuffix(".nii.gz")
            image, label = (self.source(kind, case) for kind in ("images", "labels"))
            expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(label))).astype(numpy.uint8)
            found = {}
            for cell in ("same", "back", "unpadded"):
                file = self.folder / "exported" / cell / path.name
                check_place(image, file)
                found[cell] = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
            check(numpy.array_equal(found["same"], expected), f"voxels of {case}")
            check(numpy.array_equal(found["unpadded"], found["back"]), f"voxels of {case} after padding")
            for value in set(numpy.unique(expected)) - {0}:
                a, b = expected == value, found["back"] == value
                worst = min(worst, 2 * (a & b).sum() / (a.sum() + b.sum()))
        check(worst >= LEAST_DICE, f"Dice {worst} of {name}")
        self.check_shards(exported)
        print(f"{name}: {len(exported)} cases, least Dice after resampling {worst:.4f}")

    def source(self, kind, case):
        found = list((self.folder / "volumes" / kind).glob(f"{case}.*"))
        check(len(found) == 1, f"one file of {case} in {kind}: {found}")
        return found[0]

    def check_shards(self, exported):
        """The column `affine` of image and label shards as pyarrow and DuckDB see it."""
        outputs = json.loads(self.call("show", "cases", "--json"))["outputs"]
        for port in ("images", "truth"):
            files = [part["path"] for part in outputs[port]["parts"]]
            rows = duckdb.execute("select case_id, affine from read_parquet(?)", [files]).fetchall()
            stored = dict(rows)
            table = pyarrow.parquet.ParquetFile(files[0]).read(["case_id", "affine"]).to_pylist()
            check(all(stored[row["case_id"]] == row["affine"] for row in table), "pyarrow and DuckDB agree")
            for path in exported:
                case = path.name.removesuffix(".nii.gz")
                header = nibabel.load(path).header
                affine = stored[case]
                check((affine is None) == (header["sform_code"] == 0), f"place of {case}")
                if affine is not None:
                    affine = numpy.array(affine).reshape(3, 4).astype(numpy.float32)
                    check(numpy.array_equal(affine, header.get_sform()[:3].astype(numpy.float32)), f"affine of {case}")


def check_place(image, exported):
    """Shape, spacing and place of an exported file are those of an image."""
    volumes = [SimpleITK.ReadImage(str(path)) for path in (image, exported)]
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        expected, found = (numpy.array(getattr(volume, name)()) for volume in volumes)
        check(numpy.allclose(found, expected, rtol=1e-5, atol=1e-5), f"{name} of {exported}: {found} {expected}")
    if ".nii" in image.name:
        expected, found = (nibabel.load(path) for path in (image, exported))
        check(found.shape == expected.shape, f"shape of {exported}")
        codes = [int(header["sform_code"]) or int(header["qform_code"]) for header in (found.header, expected.header)]
        check(codes[0] == codes[1], f"code of {exported}: {codes}")
        # A quaternion is no affine that could be copied bit by bit.
        is_copied = expected.header["sform_code"] > 0 or expected.header["qform_code"] == 0
        tolerance = 0 if is_copied else 1e-6
        affines = [volume.affine.astype(numpy.float32) for volume in (found, expected)]
        check(numpy.allclose(*affines, rtol=tolerance, atol=10 * tolerance), f"affine of {exported}: {affines}")


def hippocampi(pipeline, data, folder):
    """260 label maps of two structures."""
    own = Round(pipeline, folder, "{ anterior = [1], posterior = [2] }", "{ anterior = [1], posterior = [2] }",
                [0.7, 0.8, 0.9], [68, 75, 50])
    for kind in ("images", "labels"):
        for path in sorted((data / "msd_hippocampus" / kind).iterdir()):
            own.put(kind, path.name, path)
    own.compare("msd_hippocampus")


def tumours(pipeline, data, folder):
    """NRRD with thick slices."""
    own = Round(pipeline, folder, '{ tumour = "foreground" }', "{ tumour = [1] }", [2.0, 0.6, 0.6], [90, 400, 400])
    for case in ("brain1", "brain2", "breast1"):
        for kind, end in (("images", "image"), ("labels", "label")):
            own.put(kind, f"{case}.nrrd", data / "pyradiomics_volumes" / f"{case}_{end}.nrrd")
    own.compare("pyradiomics_volumes")


def ball(shape, affine):
    """A ball of 12 mm in the middle of a volume."""
    places = numpy.stack(numpy.meshgrid(*map(numpy.arange, shape), indexing="ij"), axis=-1)
    world = places @ affine[:3, :3].T + affine[:3, 3]
    middle = affine[:3, :3] @ (numpy.array(shape) / 2) + affine[:3, 3]
    return (numpy.linalg.norm(world - middle, axis=-1) < 12).astype(numpy.uint8)


def conformance(pipeline, data, folder):
    """nibabel's own test files with balls drawn into them, and volumes that lie askew."""
    own = Round(pipeline, folder, "{ ball = [1] }", "{ ball = [1] }", [1.5, 1.0, 1.0], [90, 90, 90])
    rng = numpy.random.default_rng(1)
    for case in ("anatomical", "reoriented_anat_moved"):
        path = data / "nifti_conformance" / f"{case}.nii"
        own.put("images", f"{case}.nii", path)
        volume = nibabel.load(path)
        label = nibabel.Nifti1Image(ball(volume.shape, volume.affine), volume.affine)
        nibabel.save(label, own.place("labels", f"{case}.nii.gz"))
    turn = numpy.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= numpy.sign(numpy.linalg.det(turn))
    for case, mirror, codes in (
        ("oblique", 1, (1, 1)),
        ("mirrored", -1, (4, 1)),
        ("quaternion", -1, (0, 1)),
        ("nowhere", 1, (0, 0)),
    ):
        affine = numpy.eye(4)
        affine[:3, :3] = turn @ numpy.diag([0.8, 1.2, mirror * 3.0])
        affine[:3, 3] = [41.5, -17.25, 1003.0]
        shape = (50, 34, 15)
        for kind, voxels in (("images", rng.normal(size=shape).astype(numpy.float32)), ("labels", ball(shape, affine))):
            volume = nibabel.Nifti1Image(voxels, affine)
            sform, qform = codes
            volume.set_sform(affine, sform)
            volume.set_qform(affine, qform)
            nibabel.save(volume, own.place(kind, f"{case}.nii.gz"))
    own.compare("nifti_conformance and volumes that lie askew")


def main(pipeline, data):
    """All rounds, each in a project of its own."""
    pipeline, data = pathlib.Path(pipeline).resolve(), pathlib.Path(data)
    for one in (hippocampi, tumours, conformance):
        with tempfile.TemporaryDirectory() as folder:
            one(str(pipeline), data, pathlib.Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
