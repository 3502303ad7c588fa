#!/bin/sh
# Every C++ file is as clang-format leaves it. `--fix` formats in place; without it, names the files that differ.
set -eu
cd "$(dirname "$0")/.."
formatter=.venv/bin/clang-format
[ -x "$formatter" ] || { echo "check_format: $formatter is missing; run make setup" >&2; exit 2; }

sources() {
  for part in tessera cli tests examples bench fuzz; do
    if [ -d "$part" ]; then find "$part" -type f \( -name '*.h' -o -name '*.cpp' \) -print0; fi
  done
}
if [ "${1:-}" = --fix ]; then
  sources | xargs -0 -r "$formatter" -i
else
  sources | xargs -0 -r "$formatter" --dry-run --Werror --ferror-limit=1 || { echo "check_format: run make format" >&2; exit 1; }
fi
