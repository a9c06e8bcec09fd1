#!/usr/bin/env bash
# Starts everything on this machine: PostgreSQL, Valkey, S3, API and worker. Options: scripts/start.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "uv is missing: pip install uv" >&2; exit 2; }
exec uv run fleek up "$@"
