"""Every table of the product in one place, for migrations and for the test that compares them."""

from typing import Final

from app.auth.models import Owner
from app.idempotency.models import IdempotencyKey
from app.logs.models import Log
from app.media.models import Attempt, File, Media, MediaHistory, PausedModel, ProviderGate, Tally, Worker
from app.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookTry

TABLES: Final = (
    *(Attempt, File, IdempotencyKey, Log, Media, MediaHistory, Owner, PausedModel, ProviderGate, Tally, Worker),
    *(WebhookDelivery, WebhookEndpoint, WebhookTry),
)
