"""The outbox: SQL that writes deliveries in the statement that moves the media they tell of.

1. The statement of the move contains `posted`: one delivery for each endpoint that wants to hear of the event.
2. It commits as one: there is no event without its deliveries, and no delivery of something that did not happen.
3. An endpoint that is being deleted is waited for, and left out; without the lock the foreign key of its delivery
   would undo the move.
4. Whoever made the move wakes a worker; a lost wake costs a second, see `delivery.py`.
"""

from app.webhooks.event_types import EventType
from app.webhooks.states import EndpointKind, EndpointStatus

# ruff: noqa: S608 - put together from constants; values are always arguments


def posting(event_type: EventType, moved: str) -> str:
    """The CTE `posted`.

    Args:
        event_type: What happened.
        moved: A CTE with `id`, `owner_id` and `webhook` of the media. There must be another one, `noted`, with
            `id`, `media_id` and `at` of the rows of the history.
    """
    own = f"e.kind = '{EndpointKind.REQUEST}'"
    return f"""posted AS (
    INSERT INTO webhook_deliveries (endpoint_id, receiver, url, type, media_id, sequence, at)
    SELECT e.id, CASE WHEN {own} THEN v.webhook->>'receiver' ELSE e.id::text END,
        CASE WHEN {own} THEN v.webhook->>'url' END, '{event_type}', n.media_id, n.id, n.at
    FROM {moved} v JOIN noted n ON n.media_id = v.id JOIN webhook_endpoints e ON e.owner_id = v.owner_id
    WHERE e.status <> '{EndpointStatus.DISABLED}' AND CASE WHEN {own}
        THEN v.webhook->'events' ? '{event_type}' ELSE '{event_type}' = ANY(e.events) END
    FOR KEY SHARE OF e
    RETURNING id
)"""
