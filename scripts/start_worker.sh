#!/usr/bin/env bash
# Starts a worker alone, on the same engines as scripts/start_api.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "uv is missing: pip install uv" >&2; exit 2; }
exec uv run fleek worker "$@"
