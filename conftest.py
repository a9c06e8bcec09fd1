"""Makes the shared fixtures known to the tests of every room, wherever they stand."""

pytest_plugins = ("tests.fixtures",)
