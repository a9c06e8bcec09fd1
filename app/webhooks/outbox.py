"""The outbox: SQL that writes deliveries in the same statement that changes the media's status.

1. The statement of the transition contains `posted`: one delivery for each endpoint subscribed to the event.
2. Both commit together: there is no event without its deliveries, and no delivery of an event that did not happen.
3. `FOR KEY SHARE` waits for an endpoint that is being deleted, and leaves it out; otherwise the foreign key of its
   delivery would roll the transition back.
4. The caller wakes a worker after the commit; a lost signal costs about a second, see `delivery.py`.
"""

from app.webhooks.event_types import EventType
from app.webhooks.states import EndpointKind, EndpointStatus

# ruff: noqa: S608 - put together from constants; values are always arguments


def posting(event_type: EventType, moved: str) -> str:
    """The CTE `posted`.

    Args:
        event_type: What happened.
        moved: The CTE with `id`, `owner_id` and `webhook` of the media. Another CTE, `noted`, must have `id`,
            `media_id` and `at` of the rows of the history.
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
