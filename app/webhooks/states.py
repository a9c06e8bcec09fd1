"""What can become of an endpoint and of a delivery. Imports nothing of ours."""

from enum import StrEnum


class EndpointKind(StrEnum):
    """Where the address of an endpoint comes from."""

    REGISTERED = "registered"  # its owner has made it at /webhooks
    REQUEST = "request"  # one for each owner: the addresses come with the requests, as `webhook_url`


class EndpointStatus(StrEnum):
    """Whether an endpoint gets anything."""

    ACTIVE = "active"  # events are delivered
    PAUSED = "paused"  # events are kept, and delivered when it is active again
    DISABLED = "disabled"  # it hears of nothing


class DeliveryStatus(StrEnum):
    """Where the delivery of one event to one endpoint stands."""

    PENDING = "pending"  # to be sent at `next_at`
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # given up; it can be replayed
