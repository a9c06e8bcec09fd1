"""Makes the shared fixtures known to the tests of every room, wherever they stand."""

import os

pytest_plugins = ("tests.fixtures",)

# What the tests start besides ourselves, such as curl, would ask this machine through a proxy of the environment.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1", "localhost", "::1")))
