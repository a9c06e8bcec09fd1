#!/usr/bin/env bash
# Migrates the database and creates the bucket that the environment, .env.local or .env name; scripts/start.sh does it by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "uv is missing: pip install uv" >&2; exit 2; }
exec uv run fleek prepare "$@"
