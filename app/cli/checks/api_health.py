"""Health check of a container with the API: `python -m app.cli.checks.api_health [PORT]`.

Loads nothing but the standard library: it runs every few seconds, in an image without curl.
"""

import http.client
import sys
from typing import Final

PORT: Final = 8000
PATIENCE_SECONDS: Final = 4.0
"""The API allows each of its own checks three."""


def main(arguments: list[str]) -> int:
    """The exit status; what the API says is wrong stands on standard error."""
    port = int(arguments[0]) if arguments else PORT
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/tools/ready")
        answer = connection.getresponse()
        if answer.status == http.client.OK:
            return 0
        reason = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        reason = f"port {port} does not answer ({type(error).__name__})"
    finally:
        connection.close()
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
