"""Why a file is not marked.

ProvenanceError
+-- DamagedError
+-- TooFarError
+-- NoRoomError
"""


class ProvenanceError(Exception):
    """The file is left as it is."""


class DamagedError(ProvenanceError):
    """The file is cut off, or is not what its format prescribes."""


class TooFarError(ProvenanceError):
    """More of the file would have to be held than is allowed."""


class NoRoomError(ProvenanceError):
    """What is there cannot be completed in a way that can be undone."""
