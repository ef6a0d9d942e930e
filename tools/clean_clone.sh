#!/usr/bin/env bash
# Clone this repository's HEAD to a temporary folder and run both commands of the README there, without what this project
# has cached, and without what make, or an environment of Python, exports.
# Usage: tools/clean_clone.sh
set -euo pipefail

source=$(git rev-parse --show-toplevel)
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT

unset FIBFLOW_DATABASE FIBFLOW_NAMESPACE MAKEFLAGS MAKELEVEL MFLAGS PYTHONPATH VIRTUAL_ENV
export FIBFLOW_CACHE=$folder/cache

test -z "$(git -C "$source" status --porcelain)" || echo "fibflow: what is not committed is not cloned" >&2
git clone --quiet "$source" "$folder/fibflow"
cd "$folder/fibflow"
make demo
make test
