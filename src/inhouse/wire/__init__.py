"""Codecs: bytes of an API to typed structs and back. No I/O, no clock of its own, no state beyond one request."""
