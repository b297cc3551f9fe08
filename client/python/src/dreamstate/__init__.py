"""A client of dreamstate-server. See Client; messages and stubs are in dreamstate.v1."""
from dreamstate.client import Client, Decoding, Piece, details_of

__all__ = ["Client", "Decoding", "Piece", "details_of"]
