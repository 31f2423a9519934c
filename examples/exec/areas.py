"""Size of every mask, one row a case and structure: a cell in Python.

The request comes as JSON on stdin; its paths are relative to the folder in which the script runs.
"""

import csv
import json
import sys

import pyarrow.parquet

request = json.load(sys.stdin)
labels = request["inputs"]["labels"][0]
output = request["outputs"]["areas"]["folder"]
rows = []
for n, name in enumerate(labels["files"]):
    # A line of this form is the progress of the cell; every other line goes to its log.
    print(json.dumps({"progress": n / len(labels["files"]), "doing": name}), flush=True)
    table = pyarrow.parquet.read_table(f"{labels['folder']}/{name}", columns=["case_id", "structure", "voxels"])
    rows += table.to_pylist()
rows.sort(key=lambda row: (row["case_id"], row["structure"]))
if not request["config"]["per_structure"]:
    sizes = {}
    for row in rows:
        sizes[row["case_id"]] = sizes.get(row["case_id"], 0) + row["voxels"]
    rows = [{"case_id": case, "structure": "all", "voxels": size} for case, size in sizes.items()]
print(f"{len(rows)} masks", file=sys.stderr)
with open(f"{output}/areas.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, ["case_id", "structure", "voxels"])
    writer.writeheader()
    writer.writerows(rows)
