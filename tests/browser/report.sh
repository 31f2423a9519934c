#!/usr/bin/env bash
# Opens a report in headless Chromium: it must render without an error or a request, and show its table and pictures.
# Usage: report.sh REPORT.html [SCREENSHOT.png]
set -euo pipefail
page=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
  --disable-component-update --disable-sync --user-data-dir="$work" --window-size=1400,4000)

chromium "${options[@]}" --enable-logging=stderr --dump-dom "file://$page" > "$work/dom.html" 2> "$work/log"
if grep -q 'CONSOLE' "$work/log"; then
  echo "FAILED: the page reports errors:" && grep 'CONSOLE' "$work/log" && exit 1
fi
for part in '<table' '<svg' 'data:image/png;base64,' 'UMA-Net' 'UNet (MV)'; do
  grep -q -F "$part" "$work/dom.html" || { echo "FAILED: the page shows no $part" && exit 1; }
done
if grep -E -q '(src|href)="https?:' "$work/dom.html"; then
  echo "FAILED: the page refers to something outside itself" && exit 1
fi
if [ $# -gt 1 ]; then
  chromium "${options[@]}" --screenshot="$2" "file://$page" 2> "$work/log"
fi
echo "the report renders: $(wc -c < "$page") bytes"
