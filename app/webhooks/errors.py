"""Errors of webhooks, as clients see them.

NotFoundError
├── WebhookNotFoundError
└── DeliveryNotFoundError
ConflictError
├── TooManyWebhooksError
├── RequestWebhookError
└── WebhookNotActiveError
InvalidInputError
└── RefusedUrlError
"""

from uuid import UUID

from app.core.errors import ConflictError, InvalidInputError, NotFoundError, brief


class WebhookNotFoundError(NotFoundError):
    """The owner has no webhook of that id."""

    code = "webhook_not_found"
    title = "No such webhook"

    def __init__(self, webhook_id: UUID) -> None:
        super().__init__(f"there is no webhook {webhook_id}")


class DeliveryNotFoundError(NotFoundError):
    """The webhook has no delivery of that id."""

    code = "delivery_not_found"
    title = "No such delivery"

    def __init__(self, delivery_id: UUID) -> None:
        super().__init__(f"there is no delivery {delivery_id} of this webhook")


class TooManyWebhooksError(ConflictError):
    """The owner has reached the limit."""

    code = "too_many_webhooks"
    title = "Too many webhooks"


class RequestWebhookError(ConflictError):
    """The webhook stands for the addresses that come with requests; it cannot be changed in this way."""

    code = "request_webhook"
    title = "Not possible for the webhook of kind `request`"


class WebhookNotActiveError(ConflictError):
    """The webhook is disabled."""

    code = "webhook_not_active"
    title = "Webhook is not active"

    def __init__(self, webhook_id: UUID, status: str) -> None:
        super().__init__(f"webhook {webhook_id} is {status}; set its status to active first", webhook_status=status)


class RefusedUrlError(InvalidInputError):
    """Events may not be sent to this address."""

    code = "refused_url"
    title = "URL not allowed"

    def __init__(self, field: str, url: str, why: str) -> None:
        wrong = {"field": field, "message": why, "given": brief(url), "allowed": "a public http or https URL"}
        super().__init__(f"{field}: {why}", errors=[wrong])
