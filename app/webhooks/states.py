"""The kinds and states of endpoints and deliveries. Imports nothing of ours."""

from enum import StrEnum


class EndpointKind(StrEnum):
    """Where the address of an endpoint comes from."""

    REGISTERED = "registered"  # made by its owner with POST /webhooks
    REQUEST = "request"  # one for each owner: each request brings its own address, as `webhook_url`


class EndpointStatus(StrEnum):
    """Whether events are sent to an endpoint."""

    ACTIVE = "active"  # events are delivered
    PAUSED = "paused"  # events are kept, and delivered when it is active again
    DISABLED = "disabled"  # events are not even written down for it


class DeliveryStatus(StrEnum):
    """Where the delivery of one event to one endpoint stands."""

    PENDING = "pending"  # to be sent at `next_at`
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # no more attempts; it can be replayed
