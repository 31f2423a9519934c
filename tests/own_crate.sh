#!/usr/bin/env bash
# A user's crate outside of this workspace: `examples/own_stage`, built from a copy elsewhere with the versions that are
# locked here, drives every verb with its own stages; and what `new stage` begins compiles in it.
#
#   tests/own_crate.sh [PROFILE]        dev or release
#
# Shares CARGO_TARGET_DIR [default: target/own_crate], so that only the first time takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
profile=${1:-dev}
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$root/target/own_crate}")
export CARGO_TARGET_DIR
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
crate=$work/own_stage
cp -r examples/own_stage "$crate"
rm -rf "$crate/target"
cp Cargo.lock "$crate/Cargo.lock"
sed -i "s|path = \"../..|path = \"$root|" "$crate/Cargo.toml"
# The profiles of a workspace are those of its root: the same here, or everything would be built another way.
sed -n '/^\[profile\./,$p' Cargo.toml >> "$crate/Cargo.toml"
fail() { printf 'error: %s\n' "$1" >&2; exit 1; }

# What `new stage` begins, with a program that has the verb: the one of this workspace, or the crate's own.
own() { (cd "$crate" && "$CARGO_TARGET_DIR/$folder/own_stage" "$@"); }
folder=debug
if [[ $profile == release ]]; then folder=release; fi
build() { cargo build --quiet --offline --profile "$profile" --manifest-path "$crate/Cargo.toml"; }
build
(cd "$crate/src" && "$CARGO_TARGET_DIR/$folder/own_stage" new stage clean.crop) > "$work/new"
grep -q 'clean_crop.rs' "$work/new" || fail "new stage: $(cat "$work/new")"
sed -i 's|^mod drawings;|mod clean_crop;\nmod drawings;|; s|registry.add::<drawings|registry.add::<clean_crop::CleanCrop>();\n    registry.add::<drawings|' "$crate/src/main.rs"
build
cargo test --quiet --offline --profile "$profile" --manifest-path "$crate/Cargo.toml" > "$work/test" 2>&1 || fail "$(cat "$work/test")"

experiment=experiments/drawings.toml
own stages > "$work/stages"
for stage in mine.drawings mine.thicken clean.crop noise.shift exec; do
  grep -q "^$stage " "$work/stages" || fail "stages: no $stage"
done
own stages mine.thicken | grep -q 'by_px' || fail "stages mine.thicken says nothing of by_px"
own schema mine.thicken | grep -q '"by_px"' || fail "schema of mine.thicken"
own schema | grep -q '"mine.drawings"' || fail "schema of experiments"
! own plan "$experiment" --check > /dev/null || fail "nothing is stored, and the plan finds no work"
built() { python3 -c 'import json, sys; print(json.loads(sys.stdin.read().splitlines()[-1])["built"])'; }
[[ $(own run "$experiment" --json --quiet | built) -eq 6 ]] || fail "the first run builds six cells"
[[ $(own run "$experiment" --json --quiet | built) -eq 0 ]] || fail "the second run builds nothing"
own plan "$experiment" --check > /dev/null || fail "everything is stored, and the plan finds work"
own graph "$experiment" | grep -q 'thick' || fail "graph"
own show cases --json | grep -q '"train-' || fail "show cases"
own show score --json | grep -q '"dice"' || fail "show score"
# One drawing changes: its shard is read by those stages that see it, and the command says why.
sed -i '0,/#/s//./' "$crate/drawings/film-1.txt"
own plan "$experiment" > "$work/plan"
grep -q 'film-1.txt' "$work/plan" || fail "the plan does not name the drawing: $(cat "$work/plan")"
own run "$experiment" --quiet > "$work/run"
own explain "$experiment" thick > "$work/explain"
grep -q 'labels' "$work/explain" || fail "explain: $(cat "$work/explain")"
own diff "$(own history --json | sed -n 2p | python3 -c 'import json, sys; print(json.load(sys.stdin)["run"])')" > /dev/null || fail "diff"
# A value that the stage refuses, and a key that it does not know.
! own plan "$experiment" --set thick.by_px=9 2> "$work/refused" || fail "by_px = 9 is taken"
grep -q 'expected at most 8 pixels: got 9' "$work/refused" || fail "$(cat "$work/refused")"
! own plan "$experiment" --set thick.by=9 2> "$work/refused" || fail "an unknown key is taken"
grep -q 'by_px' "$work/refused" || fail "$(cat "$work/refused")"
own verify --all > /dev/null || fail "verify"
own gc --dry-run --json | grep -q '"dry_run"' || fail "gc"
own gc > /dev/null || fail "gc"
own doctor > /dev/null || fail "doctor"
echo "a crate of a user's own: $(wc -l < "$work/stages") lines of stages, every verb answered"
