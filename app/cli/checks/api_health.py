"""Health check for a container with the API: `python -m app.cli.checks.api_health [PORT]`.

Uses only the standard library, to start fast: it runs every few seconds, in an image without curl.
"""

import http.client
import sys
from typing import Final

PORT: Final = 8000
TIMEOUT_SECONDS: Final = 4.0
"""Longer than the three seconds that the API allows each of its checks."""


def main(arguments: list[str]) -> int:
    """The exit status; the API's reason is printed on standard error."""
    port = int(arguments[0]) if arguments else PORT
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
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
