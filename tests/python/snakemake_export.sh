#!/usr/bin/env bash
# An experiment, exported and run by a real Snakemake: every cell is built, and a second time none is.
#
#   tests/python/snakemake_export.sh PIPELINE SNAKEMAKE EXPERIMENT
set -euo pipefail
pipeline=$(realpath "${1:?the built command}")
snakemake=$(realpath "${2:?the command of Snakemake}")
experiment=${3:?an experiment}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$pipeline" export snakemake "$experiment" --store "$work/store" > "$work/Snakefile"
cells=$(grep -c '^rule cell_' "$work/Snakefile")
run() { (cd "$work" && HOME=$work "$snakemake" --cores 2 2> "$1"); }
run "$work/first"
"$pipeline" plan "$experiment" --store "$work/store" --check > /dev/null
[[ $(find "$work/done" -type f | wc -l) -eq $cells ]]
run "$work/second"
grep -q "Nothing to be done" "$work/second"
# What a cell made is not lost with the file that says so: it is found in the store.
rm -r "$work/done"
run "$work/third"
! grep -q "^built" "$work/third"
# An edit leaves the rules of the cells that it does not touch: one cell more is one rule more.
changed=$work/changed.toml
{ cat "$experiment"; printf '\n[added]\nuse = "noise.erase"\nin = { truth = "cases.truth" }\n'; } > "$changed"
"$pipeline" export snakemake "$changed" --store "$work/store" > "$work/Snakefile.changed"
rules() { grep '^rule cell_' "$1" | sort; }
[[ $(comm -13 <(rules "$work/Snakefile") <(rules "$work/Snakefile.changed") | wc -l) -eq 1 ]]
[[ $(comm -23 <(rules "$work/Snakefile") <(rules "$work/Snakefile.changed") | wc -l) -eq 0 ]]
grep -q -- '--jobs {threads}' "$work/Snakefile"
echo "$cells cells run by $("$snakemake" --version): built once, then found"
