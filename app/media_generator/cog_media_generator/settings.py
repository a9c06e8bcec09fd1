"""What the operator says of a container."""

from pydantic import Field, SecretStr

from app.media_generator.accounts import ProviderSettings


class CogSettings(ProviderSettings):
    """Settings of an account."""

    base_url: str = Field(pattern="^https?://[^/]+")
    """Where the container answers."""
    submit_timeout: float = Field(default=600, ge=1, le=36_000)
    """Seconds that a prediction may take where the server does not call back: its answer is the result."""
    callback_url: str | None = Field(default=None, pattern="^https?://[^/]+")
    """This API as the container reaches it, `http://api:8000`; unset: it does not call back."""
    concurrency: int = Field(default=1, ge=1)
    """Predictions that the container works on at once, as it was built."""
    upload_key: SecretStr | None = Field(default=None, min_length=16)
    """The last part of the container's `--upload-url`, fit for a URL; unset: files come within the answer."""
