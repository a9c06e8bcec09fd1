"""The settings: every one has a unit, a sentence and a default that works on a developer's machine.

Real environment variables come first, then `.env.local`, then `.env`, then the defaults here.
"""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_FILES = (".env", ".env.local")
REDIS_SCHEMES = ("redis://", "rediss://")
AMQP_SCHEMES = ("amqp://", "amqps://")


SECRET_VARIABLES = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "AWS_SESSION_TOKEN")
"""Variables that libraries read by themselves."""
ADDRESSES_WITH_SECRETS = ("sentry_dsn", "database_url", "redis_url", "broker_url", "outgoing_proxy")
"""Settings that are URLs, of which only the password is secret; of all other secrets everything is."""
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""They may hold a user and a password; also known in lower case."""
PROXY_OFF = "off"


class Settings(BaseSettings):
    """What an operator can set; the environment variable is the field's name in capitals."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILES, env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    environment: Literal["local", "staging", "production"] = "local"
    """Where this runs; shown in logs and error reports. `production` refuses default secrets and local addresses."""
    project_name: str = "Fleek"
    """The name that the API documentation carries."""
    public_url: str = "http://127.0.0.1:8000"
    """The address at which clients reach the API; permanent content URLs begin with it."""
    backend_cors_origins: Annotated[list[str], NoDecode] = []
    """Origins (`https://app.example.com`), separated by commas, whose pages may call the API; `*` is not for
    production."""
    allowed_hosts: Annotated[list[str], NoDecode] = []
    """Further names, separated by commas, under which clients reach the API: `fleek-api,*.example.com`. Those of
    PUBLIC_URL and of callbacks, loopback names and IP addresses are always accepted; `*`: a proxy in front checks the
    Host header."""
    request_head_seconds: float = Field(default=20.0, gt=0, le=3600)
    """How long a client may take to send the head of a request, in seconds."""
    request_body_seconds: float = Field(default=30.0, gt=0, le=3600)
    """How long a client may pause while it sends a body, in seconds; and what it gets in addition to the time that its
    bytes take at REQUEST_BODY_RATE."""
    request_body_rate: int = Field(default=8192, ge=1)
    """The lowest average rate at which a body must arrive, in bytes per second."""
    sentry_dsn: SecretStr | None = None
    """The Sentry DSN to which errors are reported; unset: none."""
    otel_exporter_otlp_endpoint: str | None = None
    """The endpoint for traces, OTLP over HTTP, such as `http://127.0.0.1:4318`; unset: nothing is traced."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe level that is logged."""
    access_log: bool = True
    """Whether the API logs one line for each request."""

    database_url: SecretStr | None = None
    """`postgresql://user:password@host:port/name`; replaces the five POSTGRES_ settings."""
    postgres_server: str = "127.0.0.1"
    """Host of PostgreSQL."""
    postgres_port: int = Field(default=5469, ge=1, le=65535)
    """Port of PostgreSQL."""
    postgres_user: str = "fleek"
    """User of PostgreSQL; it must own the database's schema."""
    postgres_password: SecretStr = SecretStr("fleek")
    """Password of that user."""
    postgres_db: str = "fleek"
    """Name of the database."""
    database_connections: int = Field(default=10, ge=1, le=200)
    """Connections to PostgreSQL that one process opens at most."""
    database_prepared_statements: bool = True
    """Whether statements stay prepared; `false` behind a pooler in transaction mode without support for them: PgBouncer
    before 1.21, or with `max_prepared_statements = 0`."""

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6834/0")
    """Redis or Valkey: change messages between processes, the shared cache of signed URLs, and the broker if BROKER_URL
    is unset."""
    broker_url: SecretStr | None = None
    """Celery's broker, if it is not REDIS_URL: `amqp://user:password@host:5672/vhost` for RabbitMQ, or another
    Redis."""

    bucket_name: str = Field(default="fleek-media", min_length=3, max_length=63)
    """The bucket that holds the files; it is private."""
    aws_access_key_id: str = "fleek"
    """Access key of the bucket."""
    aws_secret_access_key: SecretStr = SecretStr("fleek-secret")
    """Secret key of the bucket."""
    aws_default_region: str = "us-east-1"
    """Region of the bucket."""
    s3_endpoint_url: str | None = "http://127.0.0.1:4566"
    """Where the server reaches the S3 service; `aws` for Amazon's own."""
    s3_public_url: str | None = None
    """Where clients reach the S3 service; URLs are signed for it. Unset: S3_ENDPOINT_URL."""
    signed_url_seconds: int = Field(default=3600, ge=60, le=604_800)
    """How long a pre-signed URL is valid, in seconds; it is reused until a fifth of that is left."""

    default_model: str = "dummy/painter"
    """The model of a request that names none."""

    idempotency_days: float = Field(default=30.0, ge=1, le=3650)
    """How long an Idempotency-Key is kept at least, in days; it is always kept as long as its media item exists."""
    worker_slots: int = Field(default=2000, ge=1, le=100_000)
    """Jobs that one worker process holds in flight at providers over the network."""
    worker_local_slots: int = Field(default=2, ge=1, le=64)
    """Jobs that one worker process runs at a time with models that compute on this machine."""
    claim_interval_seconds: float = Field(default=1.0, gt=0, le=60)
    """How often a worker polls for due jobs when no wake-up signal arrives, in seconds."""
    lease_seconds: float = Field(default=30.0, ge=1, le=3600)
    """How long a worker may be silent before its jobs are reclaimed by others, in seconds."""
    stuck_seconds: float = Field(default=300.0, ge=1, le=86_400)
    """How long a worker may report without getting anything done, while the database works, before it ends itself, so
    that others take over its jobs, in seconds."""
    shutdown_seconds: float = Field(default=8.0, ge=0, le=600)
    """How long a stopping worker waits for calls that are spending money, in seconds."""
    max_tries: int = Field(default=5, ge=1, le=100)
    """How many attempts a job gets at most, the first included, when attempts fail without having cost anything."""
    retry_base_seconds: float = Field(default=2.0, gt=0, le=3600)
    """The pause before the second attempt, in seconds; it doubles with each, plus or minus a quarter."""
    retry_max_seconds: float = Field(default=300.0, gt=0, le=86_400)
    """The longest pause between two attempts, in seconds."""
    max_takeovers: int = Field(default=5, ge=5, le=1_000_000)
    """How many workers may die while holding one job before it ends with `worker_lost`; the last ones ran it alone."""
    reconcile_seconds: float = Field(default=60.0, ge=0, le=86_400)
    """How long a purchase with a lost response is looked up at its provider before `on_unknown` applies, in seconds."""
    late_result_seconds: float = Field(default=3600.0, ge=0, le=2_592_000)
    """How long after a job's end a result that may have been paid for is still fetched, in seconds."""
    silence_hours: float = Field(default=24.0, gt=0, le=8760)
    """How long a provider may take for a job that it accepted before the job fails, in hours."""
    ageing_seconds: float = Field(default=300.0, gt=0, le=604_800)
    """How long a job has to wait for its priority to rise by one step, in seconds."""
    provider_accounts: Annotated[dict[str, str], NoDecode] = {}
    """Further accounts at providers, name and kind: `replicate-eu=replicate,lab=openai`. Each reads the variables that
    begin with its name: REPLICATE_EU_API_TOKEN, LAB_BASE_URL."""
    catalogue_file: Path | None = None
    """The operator's own catalogue, TOML: it changes and adds models, and defines routes. No process starts with an
    invalid one."""
    callback_url: str | None = None
    """The address at which providers reach this API for callbacks, from the internet; unset: PUBLIC_URL if that is
    https, else none, and jobs are polled for."""
    provider_limits: Annotated[dict[str, int], NoDecode] = {}
    """Jobs in flight at most over all workers, by provider: `replicate=100,other=20`; others are not limited."""
    provider_pause_seconds: float = Field(default=30.0, gt=0, le=86_400)
    """How long nothing is submitted to a provider whose key or credit is bad, until one job may try, in seconds."""
    webhook_connections: int = Field(default=8, ge=1, le=200)
    """Deliveries that one receiver of webhooks gets from one worker process at the same time."""
    webhook_log_days: float = Field(default=30.0, ge=7, le=3650)
    """How long webhook deliveries and their log are kept, in days."""
    max_output_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)
    """The largest file that is accepted from a provider, in bytes."""
    max_pixels: int = Field(default=64_000_000, ge=4096)
    """The largest picture that is accepted as an input file, and decoded as a result, in pixels."""
    mark_outputs: bool = True
    """Whether outputs get a mark of origin, as the EU's AI Act asks for: how-to/label-ai-media.md."""
    c2pa_certificate: Path | None = None
    """The certificate with which outputs are signed (C2PA), PEM, followed by its issuers; needs C2PA_KEY and the extra
    `c2pa`. Unset: none are signed."""
    c2pa_key: Path | None = None
    """The private key of C2PA_CERTIFICATE, PEM."""
    c2pa_algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = "es256"
    """The algorithm of that key's signatures."""
    c2pa_timestamp_url: str | None = None
    """A time-stamp authority (RFC 3161) that is called for each signature; unset: none."""
    c2pa_trust_list: Path | None = None
    """Certificates, PEM, such as C2PA's trust list: checks say whether a manifest is signed by one that leads to them;
    needs the extra `c2pa`. Unset: that is not asked."""
    provenance_checks_per_minute: int = Field(default=30, ge=0, le=100_000)
    """Files that one client (IP address, or /64 of IPv6) may have checked by `POST /provenance/check` in a minute, over
    all API processes; 0: not limited."""
    output_copies: int = Field(default=24, ge=1, le=256)
    """Outputs that one worker process copies at the same time; each takes up to 15 MiB of memory. One provider has
    two thirds of these places at most, one owner five sixths."""
    output_lowest_speed: int = Field(default=4096, ge=0, le=1_000_000_000)
    """The speed below which the copy of an output is interrupted and tried again later, in bytes per second."""
    output_copy_seconds: float = Field(default=1800.0, gt=0, le=86_400)
    """How long the copy of one output may take before it is interrupted and tried again later, in seconds."""
    output_retry_seconds: float = Field(default=900.0, ge=0, le=2_592_000)
    """How long an output that arrives damaged, or is not found, is fetched again before the job fails, in seconds."""
    max_upload_bytes: int = Field(default=100 * 1024 * 1024, ge=1024)
    """The largest input file that is accepted, uploaded or downloaded for a caller, in bytes."""
    upload_hours: float = Field(default=48.0, gt=0, le=8760)
    """How long an input file is kept after its upload or its last use in a request, in hours."""
    allow_private_addresses: bool = False
    """Whether webhooks and URLs given by callers may lead to private or loopback addresses; for development."""

    outgoing_proxy: SecretStr | None = None
    """The proxy for calls to providers and webhooks and for files that callers name:
    `http://user:password@proxy.example.com:3128`; `off`: none. Unset: HTTPS_PROXY, HTTP_PROXY or ALL_PROXY. This
    machine and what NO_PROXY names are always reached directly."""

    @field_validator("backend_cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        origins = [origin.strip().rstrip("/") for origin in value.strip("[]").split(",") if origin.strip()]
        if not all(re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", origin) for origin in origins):
            raise ValueError("must be origins with scheme and without path, such as https://app.example.com")
        return origins

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        hosts = [host.strip().lower() for host in value.split(",") if host.strip()]
        if not all(re.fullmatch(r"\*|(\*\.)?[a-z0-9_][a-z0-9_.-]*", host) for host in hosts):
            raise ValueError("must be names without scheme and port, such as fleek-api,*.example.com, or *")
        return [host.rstrip(".") for host in hosts]

    @field_validator("provider_limits", mode="before")
    @classmethod
    def _read_limits(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        limits = dict[str, int]()
        for part in filter(None, (part.strip() for part in value.split(","))):
            name, _, number = (text.strip() for text in part.partition("="))
            if not name or not number.isdecimal():
                raise ValueError("must look like replicate=100,other=20")
            limits[name] = int(number)
        return limits

    @field_validator("provider_accounts", mode="before")
    @classmethod
    def _read_accounts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        accounts = dict[str, str]()
        for part in filter(None, (part.strip() for part in value.split(","))):
            name, _, kind = (text.strip() for text in part.partition("="))
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or not kind:
                raise ValueError("must look like replicate-eu=replicate,lab=openai; names of a-z, 0-9 and -")
            accounts[name] = kind
        return accounts

    @field_validator(
        "public_url",
        "callback_url",
        "s3_endpoint_url",
        "s3_public_url",
        "otel_exporter_otlp_endpoint",
        "c2pa_timestamp_url",
    )
    @classmethod
    def _be_http(cls, value: str | None) -> str | None:
        if value is None or value == "aws":
            return value
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ValueError("must be an address that begins with http:// or https://")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _have_both(self) -> Self:
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise ValueError("C2PA_CERTIFICATE and C2PA_KEY belong together: set both, or none")
        return self

    @field_validator("database_url")
    @classmethod
    def _be_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return value
        scheme, rest = value.get_secret_value().partition("://")[::2]
        if scheme.partition("+")[0] not in {"postgres", "postgresql"} or not rest:
            raise ValueError("must look like postgresql://user:password@host:port/name")
        return SecretStr(f"postgresql://{rest}")

    @field_validator("outgoing_proxy")
    @classmethod
    def _be_proxy(cls, value: SecretStr | None) -> SecretStr | None:
        given = "" if value is None else value.get_secret_value().strip()
        if value is None or given.lower() == PROXY_OFF:
            return None if value is None else SecretStr(PROXY_OFF)
        try:
            parts = urlsplit(given)
            fits = (
                parts.scheme in {"http", "https"}
                and bool(parts.hostname)
                and parts.port != 0
                and not (parts.path.strip("/") or parts.query)
            )
        except ValueError:
            fits = False
        # The value is not repeated: it may hold a password.
        if not fits:
            raise ValueError("must be `off`, or look like http://user:password@host:port")
        return SecretStr(given)

    @field_validator("redis_url")
    @classmethod
    def _be_redis(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(REDIS_SCHEMES):
            raise ValueError("must look like redis://host:port/0")
        return value

    @field_validator("broker_url")
    @classmethod
    def _be_broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith((*AMQP_SCHEMES, *REDIS_SCHEMES)):
            raise ValueError("must look like amqp://user:password@host:5672/vhost or redis://host:port/0")
        return value

    @cached_property
    def database_dsn(self) -> str:
        """The address of PostgreSQL as libpq and asyncpg read it, password included."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        user, password = (
            quote(self.postgres_user, safe=""),
            quote(self.postgres_password.get_secret_value(), safe=""),
        )
        return f"postgresql://{user}:{password}@{self.postgres_server}:{self.postgres_port}/{self.postgres_db}"

    @property
    def secrets(self) -> set[str]:
        """Every secret among the settings, passwords in URLs included; to be masked wherever they come back."""
        given_here = {name: value.get_secret_value() for name, value in self if isinstance(value, SecretStr)}
        given = (os.environ.get(name, "") for name in SECRET_VARIABLES)
        others = {part.rpartition("=")[2] for value in given for part in value.split(",")}
        addresses = {value for name, value in given_here.items() if name in ADDRESSES_WITH_SECRETS}
        addresses |= {os.environ.get(spelled, "") for name in PROXY_VARIABLES for spelled in (name, name.lower())}
        values = {value for name, value in given_here.items() if name not in ADDRESSES_WITH_SECRETS}
        passwords = {part for address in addresses for part in _credentials(address)}
        return {*values, *passwords, *others, self.aws_access_key_id}

    @property
    def callback_base(self) -> str | None:
        """The base URL of providers' callbacks; None: providers cannot call back."""
        return self.callback_url or (self.public_url if self.public_url.startswith("https://") else None)

    @property
    def broker_dsn(self) -> str:
        """The address of Celery's broker, password included."""
        return (self.broker_url or self.redis_url).get_secret_value()

    @property
    def s3_signing_url(self) -> str | None:
        """The address that pre-signed URLs are made for."""
        return self.s3_public_url or self.s3_endpoint_url


def _credentials(address: str) -> set[str]:
    """The password in a URL, as it is and as it stands there; of one without a password the user: a key of Sentry."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        secret = parts.password or parts.username or ""
    except ValueError:
        secret = ""
    if not secret:
        # Not quite an address: its password may have a slash or a bracket that should have been encoded.
        user, _, password = address.rpartition("://")[2].rpartition("@")[0].partition(":")
        secret = password or user
    return {secret, unquote(secret)}


def variables() -> dict[str, str]:
    """All environment variables, and below them those of ENV_FILES; an empty one counts as unset."""
    found: dict[str, str | None] = {}
    for file in ENV_FILES:
        found |= dotenv_values(file)
    return {name: value for name, value in {**found, **os.environ}.items() if value}
