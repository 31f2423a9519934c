"""Reads shards with pyarrow, DuckDB, polars and Hugging Face datasets, without any code of the project.

Usage: read_shards.py IMAGES.parquet LABELS.parquet

Every reader must see the same cases, pictures, masks and source names.
"""

import io
import sys

import datasets
import duckdb
import numpy
import polars
import pyarrow.parquet
from PIL import Image


def pixels(png):
    """The picture of a PNG file as an array."""
    return numpy.asarray(Image.open(io.BytesIO(png)))


def check(condition, what):
    """Fails with what was expected."""
    if not condition:
        raise SystemExit(f"FAILED: {what}")


def with_pyarrow(images, labels):
    """Cases with shape, and (case, source, structure) with area, as pyarrow reads them."""
    table = pyarrow.parquet.read_table(images)
    check(not any("extension" in str(field.type) for field in table.schema), "no extension types")
    cases = {}
    for row in table.to_pylist():
        shape = tuple(row["shape"])
        picture = pixels(row["image"]["bytes"])
        check(picture.shape == shape[-2:], f"picture of {row['case_id']} has shape {shape}")
        check(numpy.isfinite(picture.astype(float)).all(), "finite pixels")
        cases[row["case_id"]] = shape
    masks = {}
    for row in pyarrow.parquet.read_table(labels).to_pylist():
        mask = pixels(row["mask"]["bytes"])
        check(set(numpy.unique(mask)) <= {0, 255}, "masks hold 0 and 255")
        area = int((mask == 255).sum())
        check(area == row["voxels"], f"area of {row['case_id']}: {area} and {row['voxels']}")
        masks[row["case_id"], row["source"], row["structure"]] = area
    return cases, masks


def with_duckdb(images, labels):
    """The same by SQL."""
    cases = duckdb.execute("select case_id, shape, image.bytes from read_parquet(?)", [images]).fetchall()
    masks = duckdb.execute(
        "select case_id, source, structure, mask.bytes, voxels from read_parquet(?)", [labels]
    ).fetchall()
    for case, shape, png in cases:
        check(pixels(png).shape == tuple(shape)[-2:], f"DuckDB picture of {case}")
    return (
        {case: tuple(shape) for case, shape, _ in cases},
        {(case, source, structure): int((pixels(png) == 255).sum()) for case, source, structure, png, _ in masks},
    )


def with_polars(images, labels):
    """The same by polars."""
    cases = polars.read_parquet(images)
    masks = polars.read_parquet(labels)
    return (
        {row["case_id"]: tuple(row["shape"]) for row in cases.iter_rows(named=True)},
        {
            (row["case_id"], row["source"], row["structure"]): int((pixels(row["mask"]["bytes"]) == 255).sum())
            for row in masks.iter_rows(named=True)
        },
    )


def with_datasets(images, labels):
    """The same by Hugging Face datasets, which decodes the pictures by itself."""
    cases = datasets.load_dataset("parquet", data_files=images, split="train")
    masks = datasets.load_dataset("parquet", data_files=labels, split="train")
    check(isinstance(cases[0]["image"], Image.Image), "datasets decodes the image")
    check(isinstance(masks[0]["mask"], Image.Image), "datasets decodes the mask")
    return (
        {row["case_id"]: tuple(row["shape"]) for row in cases},
        {
            (row["case_id"], row["source"], row["structure"]): int((numpy.asarray(row["mask"]) == 255).sum())
            for row in masks
        },
    )


def main(images, labels):
    """Compares the four readers."""
    expected = with_pyarrow(images, labels)
    check(expected[0] and expected[1], "there are cases and masks")
    for reader in (with_duckdb, with_polars, with_datasets):
        found = reader(images, labels)
        check(found[0] == expected[0], f"{reader.__name__}: cases {found[0]} and {expected[0]}")
        check(found[1] == expected[1], f"{reader.__name__}: masks {found[1]} and {expected[1]}")
    sources = sorted({source for _, source, _ in expected[1]})
    print(f"4 readers agree on {len(expected[0])} cases, {len(expected[1])} masks, sources {sources}")


if __name__ == "__main__":
    main(*sys.argv[1:])
