"""Prints the files of one image shard and of the label shard of the same name.

Usage: find_shards.py FOLDER, with FOLDER/cases.json and FOLDER/source2.json as `pipeline show CELL --json` prints them.
"""

import json
import sys


def artifacts(value):
    """Every artifact within a JSON value."""
    if isinstance(value, dict):
        if "kind" in value and "parts" in value:
            yield value
        for part in value.values():
            yield from artifacts(part)
    elif isinstance(value, list):
        for part in value:
            yield from artifacts(part)


def parts(folder, cell, kind):
    """Path of every part of the cell's artifact of a kind."""
    with open(f"{folder}/{cell}.json") as file:
        found = next(artifact for artifact in artifacts(json.load(file)) if artifact["kind"] == kind)
    return {part["name"]: part["path"] for part in found["parts"]}


def main(folder):
    """Takes the first shard that both have."""
    images, labels = parts(folder, "cases", "images"), parts(folder, "source2", "labels")
    name = min(images.keys() & labels.keys())
    print(images[name])
    print(labels[name])


if __name__ == "__main__":
    main(*sys.argv[1:])
