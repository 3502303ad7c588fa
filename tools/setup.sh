#!/bin/sh
# Makes a fresh Debian 12 ready to build: the packages of tools/apt-packages.txt and the virtual environment .venv.
# `setup.sh fuzz`: those of tools/apt-packages-fuzz.txt too. `setup.sh bench`: those of tools/apt-packages-bench.txt, and .venv-peers.
# Does nothing where all is there already. As root it installs packages; as anyone else it prints the command and stops.
set -eu
cd "$(dirname "$0")/.."

missing=
for package in $(grep -hv '^#' tools/apt-packages.txt ${1:+"tools/apt-packages-$1.txt"}); do
  case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
    *' ok installed') ;;
    *) missing="$missing $package" ;;
  esac
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "setup: these packages are missing; run this, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
  fi
  echo "setup: installing$missing"
  apt-get update -q
  # shellcheck disable=SC2086  # one word a package
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi

# environment DIRECTORY REQUIREMENTS: a virtual environment. It is whole when it holds a copy of the requirements that it was made from; that
# copy is written last.
environment() {
  if cmp -s "$2" "$1/requirements.txt" && "$1/bin/python" -c '' 2>/dev/null; then
    return
  fi
  python=$(command -v python3.11 || command -v python3)
  # A shim that names no installed Python is no Python: fall back on Debian's.
  "$python" -c '' 2>/dev/null || python=/usr/bin/python3
  [ -x "$1/bin/python" ] && "$1/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$1"
  echo "setup: installing the Python packages of $2 into $1"
  "$1/bin/python" -m pip install --disable-pip-version-check --quiet -r "$2"
  for package in $(sed -n 's/^# optional: //p' "$2"); do
    "$1/bin/python" -m pip install --disable-pip-version-check --quiet "$package" || echo "setup: no $package; the benchmarks go without it" >&2
  done
  cp "$2" "$1/requirements.txt"
}

environment .venv tools/requirements.txt
if [ "${1:-}" = bench ]; then
  environment .venv-peers tools/requirements-bench.txt
fi
