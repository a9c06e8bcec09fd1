"""All tables in one place, for migrations and for the test that compares the two."""

from typing import Final

from app.auth.models import Owner
from app.idempotency.models import IdempotencyKey
from app.jobs.models import (
    Attempt,
    File,
    Media,
    MediaHistory,
    PausedModel,
    PersistedCount,
    ProviderCircuit,
    ProviderKeys,
    Worker,
)
from app.logs.models import Log
from app.uploads.models import Upload
from app.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookTry

TABLES: Final = (
    *(
        Attempt,
        File,
        IdempotencyKey,
        Log,
        Media,
        MediaHistory,
        Owner,
        PausedModel,
        ProviderCircuit,
        ProviderKeys,
        PersistedCount,
    ),
    *(Upload, Worker),
    *(WebhookDelivery, WebhookEndpoint, WebhookTry),
)
