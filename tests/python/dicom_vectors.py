"""Makes the values and files that datasets/src/dicom/tests.rs compares with.

Pinned: pydicom 3.0.1, numpy 2.3.5, pylibjpeg 2.1.0, pylibjpeg-libjpeg 2.5.0, pylibjpeg-openjpeg 2.6.0, pillow 13.0.0,
python-gdcm 3.2.6, SimpleITK 2.5.7 (python3 -m venv v && v/bin/pip install NAME==VERSION ...).
Run: python dicom_vectors.py DATA ../../datasets/src/dicom/vectors
where DATA holds `dicom_conformance` (the test files of pydicom) and `ibsi_sts_mr/dicom` (three series of the IBSI).

files.txt, one line a file of pydicom: name; `refused` and why, or frames, samples a pixel, rows, columns, CRC-32 of all
numbers after rescaling as little-endian f32 (frame by frame, sample by sample, row by row), and their sum.
series.txt, one line a series: name; slices, rows, columns, CRC-32 as above, spacing [slice, row, column] and the three rows
of the affine (RAS), by SimpleITK. The files that are made here lie beside it with lines of their own; baseline.txt has the pixels of baseline.dcm.
"""

import pathlib
import sys
import warnings
import zlib

import gdcm
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)

warnings.simplefilter("ignore")


def checksum(values):
    return f"{zlib.crc32(np.ascontiguousarray(values, dtype='<f4').tobytes()):08x}"


def file_line(path):
    try:
        data = pydicom.dcmread(path)
        pixels = data.pixel_array.astype(np.float64)
    except Exception as error:  # whatever pydicom refuses it for
        return f"{path.name} refused {type(error).__name__}"
    values = pixels * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
    frames = int(data.get("NumberOfFrames") or 1)
    samples = int(data.SamplesPerPixel)
    values = values.reshape(frames, data.Rows, data.Columns, samples).transpose(0, 3, 1, 2)
    shape = f"{frames} {samples} {data.Rows} {data.Columns}"
    total = values.astype(np.float32).astype(np.float64).sum()
    return f"{path.name} {shape} {checksum(values)} {total:.9g}"


def series_line(name, image):
    values = sitk.GetArrayFromImage(image)
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.diag([-1, -1, 1]) @ np.column_stack([directions, image.GetOrigin()])
    numbers = [*image.GetSpacing()[::-1], *affine.ravel()]
    shape = " ".join(map(str, values.shape))
    return f"{name} {shape} {checksum(values)} {' '.join(f'{number + 0.0:.9g}' for number in numbers)}"


def read_series(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def base(path, storage, pixels):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = "1.2.826.0.1.3680043.8.498.2"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID = storage
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
    data.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.4"
    data.PatientName = "Drawn^Nobody"
    data.Modality = "MR"
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape[-2:]
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.PixelData = pixels.astype("<u2").tobytes()
    return data


def drawn(shape):
    """Smooth numbers of 12 bits with noise."""
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    smooth = sum(400 * (1 + np.sin(axis * (0.3 + 0.1 * n))) for n, axis in enumerate(axes))
    return (smooth + np.random.default_rng(7).integers(0, 60, shape)).astype(np.uint16)


def groups_of(data, places, across, down, phases):
    """Functional groups of one frame a place and phase."""
    shared, measures, orientation, transformation = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.75, 0.5]
    measures.SliceThickness = 2.0
    measures.SpacingBetweenSlices = 2.5
    orientation.ImageOrientationPatient = [f"{value:.10g}" for value in (*across, *down)]
    transformation.RescaleSlope, transformation.RescaleIntercept = 2, -100
    transformation.RescaleType = "US"
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([transformation])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for place, phase in zip(places, phases):
        group, position, content, moment = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [f"{value:.10g}" for value in place]
        content.TemporalPositionIndex = phase
        moment.TemporalPositionTimeOffset = 62.5 * (phase - 1)
        group.PlanePositionSequence = Sequence([position])
        group.FrameContentSequence = Sequence([content])
        group.TemporalPositionSequence = Sequence([moment])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    data.NumberOfFrames = len(groups)


def enhanced(path):
    """Three oblique slices, stored from the highest to the lowest, in functional groups."""
    pixels = drawn((3, 5, 7))
    data = base(path, EnhancedMRImageStorage, pixels)
    angle = np.radians(20)
    across = np.array([np.cos(angle), np.sin(angle), 0])
    down = np.array([-np.sin(angle), np.cos(angle), 0])
    normal = np.cross(across, down)
    places = [np.array([-10.0, 20.0, 30.0]) + (2 - n) * 2.5 * normal for n in range(3)]
    groups_of(data, places, across, down, [1, 1, 1])
    data.save_as(path, enforce_file_format=True)
    stored = sitk.ReadImage(str(path))
    expected = [0.5 * across, 0.75 * down, -2.5 * normal]
    found = np.array(stored.GetDirection()).reshape(3, 3) * np.array(stored.GetSpacing())
    assert np.allclose(found, np.column_stack(expected)) and np.allclose(stored.GetOrigin(), places[0])
    return series_line(path.name, stored[:, :, ::-1])


def phases(path):
    """Two slices at two times, the later time first."""
    data = base(path, EnhancedMRImageStorage, drawn((4, 3, 4)))
    places = [[0, 0, 10], [0, 0, 12.5]] * 2
    groups_of(data, places, [1, 0, 0], [0, 1, 0], [2, 2, 1, 1])
    data.save_as(path, enforce_file_format=True)


def placed(path, pixels):
    data = base(path, MRImageStorage, pixels)
    data.ImagePositionPatient = [0, 0, 0]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [1, 1]
    return data


def run_length(path):
    """One slice that pydicom packed as RLE Lossless."""
    data = placed(path, drawn((6, 9)))
    data.compress(RLELossless)
    data.save_as(path, enforce_file_format=True)
    return file_line(path)


def deflated(path):
    """One slice in a deflated file, MONOCHROME1, with sign."""
    data = placed(path, drawn((6, 9)))
    data.PixelRepresentation = 1
    data.PhotometricInterpretation = "MONOCHROME1"
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)


def by_gdcm(path, syntax, pixels, bits):
    """One slice that GDCM compressed."""
    plain = path.with_suffix(".plain")
    data = placed(plain, pixels)
    data.BitsAllocated, data.BitsStored, data.HighBit = max(bits, 8), bits, bits - 1
    if bits > 8:
        data.BitsAllocated = 16
    data.PixelData = pixels.astype("<u2" if bits > 8 else "u1").tobytes()
    data.save_as(plain, enforce_file_format=True)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    plain.unlink()
    return file_line(path)


data, target = map(pathlib.Path, sys.argv[1:])
files = [file_line(path) for path in sorted((data / "dicom_conformance").rglob("*.dcm"))]
files += [
    by_gdcm(target / "lossless.dcm", gdcm.TransferSyntax.JPEGLosslessProcess14_1, drawn((48, 40)), 12),
    run_length(target / "run_length.dcm"),
]
by_gdcm(target / "baseline.dcm", gdcm.TransferSyntax.JPEGBaselineProcess1, drawn((16, 24)) // 16, 8)
pixels = pydicom.dcmread(target / "baseline.dcm").pixel_array
(target / "baseline.txt").write_text("\n".join(" ".join(map(str, row)) for row in pixels) + "\n")
deflated(target / "deflated.dcm")
phases(target / "phases.dcm")
(target / "files.txt").write_text("\n".join(files) + "\n")
folders = sorted((data / "ibsi_sts_mr/dicom").iterdir())
series = [series_line(folder.name, read_series(folder / "MR_T1/image")) for folder in folders]
series.append(enhanced(target / "enhanced.dcm"))
(target / "series.txt").write_text("\n".join(series) + "\n")
