#!/usr/bin/env bash
# Starts the API alone, with your own engines (.env.local); run scripts/init.sh first.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "uv is missing: pip install uv" >&2; exit 2; }
exec uv run fleek serve "$@"
