"""A client of dreamstate-server. See Client; messages and stubs are in dreamstate.v1."""
from importlib.metadata import version as _version

from dreamstate.client import Client, Decoding, Piece, details_of

__version__ = _version("dreamstate")

__all__ = ["Client", "Decoding", "Piece", "__version__", "details_of"]
