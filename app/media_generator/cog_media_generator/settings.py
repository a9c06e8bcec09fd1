"""Settings of a Cog container."""

from pydantic import Field, SecretStr

from app.media_generator.accounts import ProviderSettings


class CogSettings(ProviderSettings):
    """Settings of an account."""

    base_url: str = Field(pattern="^https?://[^/]+")
    """Address of the container."""
    submit_timeout: float = Field(default=600, ge=1, le=36_000)
    """Seconds that a prediction may take where the server does not call back: its answer is the result."""
    callback_url: str | None = Field(default=None, pattern="^https?://[^/]+")
    """Address at which the container reaches this API, such as `http://api:8000`; unset: no callbacks."""
    concurrency: int = Field(default=1, ge=1)
    """Number of predictions that the container runs concurrently, as it was built."""
    upload_key: SecretStr | None = Field(default=None, min_length=16)
    """The last part of the container's `--upload-url`, in URL-safe characters; unset: files are part of the answer."""
