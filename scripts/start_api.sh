#!/usr/bin/env bash
# Starts the API alone, on the engines of a running `fleek up`, else those of .env.local (then run scripts/init.sh first).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "uv is missing: pip install uv" >&2; exit 2; }
exec uv run fleek serve "$@"
