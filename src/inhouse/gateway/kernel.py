"""What the system says of a connection that asyncio does not."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios


def queued_bytes(transport: asyncio.Transport) -> int:
    """What the system holds of our bytes and the client has not taken: megabytes, for a slow reader many seconds."""
    try:
        told = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:  # not every system tells
        return 0
    return int(struct.unpack("i", told)[0])
