"""Settings that production refuses: publicly known secrets, addresses of this machine, and doors left open."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

from app.core.config import Settings
from app.core.this_machine import is_this_machine

PUBLIC_SECRETS: Final = frozenset({"fleek", "fleek-secret", "guest", "postgres", "change-me"})
"""Our defaults, those of the committed `.env`, and those of the servers."""


def problems(settings: Settings) -> list[str]:
    """Why these settings are refused in production, and what to set instead; empty if they are not."""
    if settings.environment != "production":
        return []
    return [*_known_secrets(settings), *_local_addresses(settings), *_private_access(settings), *_any_origin(settings)]


def cautions(settings: Settings) -> list[str]:
    """Settings that production accepts, but that are seldom right."""
    if settings.environment != "production":
        return []
    found = list[str]()
    broker = urlsplit(settings.redis_url.get_secret_value())
    if not broker.password and not is_this_machine(broker.hostname):
        found.append("REDIS_URL has no password: whoever reaches Redis can read signed URLs and wake workers")
    if settings.public_url.startswith("http://"):
        found.append("PUBLIC_URL begins with http://: prompts and links travel unencrypted")
    if "*" in settings.allowed_hosts:
        found.append("ALLOWED_HOSTS=* accepts every Host header: safe only behind a proxy that checks it")
    return found


def _known_secrets(settings: Settings) -> Iterator[str]:
    if settings.database_url is None:
        if settings.postgres_password.get_secret_value() in PUBLIC_SECRETS:
            yield "POSTGRES_PASSWORD is publicly known: set your own, or DATABASE_URL"
    elif _password(settings.database_url.get_secret_value()) in PUBLIC_SECRETS:
        yield "the password in DATABASE_URL is publicly known: set your own"
    if settings.aws_access_key_id in PUBLIC_SECRETS:
        yield "AWS_ACCESS_KEY_ID is the default: set the access key of your bucket"
    if settings.aws_secret_access_key.get_secret_value() in PUBLIC_SECRETS:
        yield "AWS_SECRET_ACCESS_KEY is the default: set the secret key of your bucket"
    for name, address in (("REDIS_URL", settings.redis_url), ("BROKER_URL", settings.broker_url)):
        if address is not None and _has_known_password(address.get_secret_value()):
            yield f"{name} has a publicly known password: set your own"


def _has_known_password(broker: str) -> bool:
    password = _password(broker)
    # RabbitMQ treats a URL without a user as `guest`; a Redis in a private network may have no password.
    return password in PUBLIC_SECRETS or (password is None and broker.startswith("amqp"))


def _local_addresses(settings: Settings) -> Iterator[str]:
    if is_this_machine(urlsplit(settings.public_url).hostname):
        yield "PUBLIC_URL leads to this machine only: set the address at which clients reach the API, https://..."
    signing = settings.s3_signing_url
    if signing is not None and signing != "aws" and is_this_machine(urlsplit(signing).hostname):
        yield (
            "file URLs would point to this machine: set S3_PUBLIC_URL to the address at which "
            "clients reach the S3 service, or S3_ENDPOINT_URL=aws"
        )


def _private_access(settings: Settings) -> Iterator[str]:
    if settings.allow_private_addresses:
        yield "ALLOW_PRIVATE_ADDRESSES lets callers reach your network: unset it"


def _any_origin(settings: Settings) -> Iterator[str]:
    # `null` is the origin of every sandboxed frame, so of any page that wants it.
    if {"*", "null"} & set(settings.backend_cors_origins):
        yield "BACKEND_CORS_ORIGINS lets every web page use the API: name the origins of your own pages"


def _password(address: str) -> str | None:
    password = urlsplit(address).password
    return None if password is None else unquote(password)
