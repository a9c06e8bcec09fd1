"""What the limits ask of PostgreSQL; `limit_media` is a copy of `media` with all its indexes."""

from typing import Final
from uuid import UUID

OWNER: Final = UUID("00000000-0000-7000-8000-000000000001")
TABLE: Final = "CREATE TABLE limit_media (LIKE media INCLUDING ALL)"
INSERT: Final = """INSERT INTO limit_media (
    id, job_id, owner_id, status, prompt, model, input, metadata, queue, provider)
VALUES ($1, $2, $3, 'IN_QUEUE', $4, $5, $6, $7, 'network', 'dummy') RETURNING created_at"""
SELECT: Final = """SELECT id, job_id, status, prompt, model, input, metadata, progress, number_of_tries, next_run,
    error, created_at, updated_at, started_at, completed_at
FROM media WHERE job_id = $1 AND owner_id = $2"""
CONTENT: Final = """SELECT f.key FROM media m JOIN files f ON f.media_id = m.id AND f.index = $3
WHERE m.id = $1 AND m.owner_id = $2"""
