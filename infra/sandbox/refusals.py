"""Counts the connections that the kernel refuses on a closed port.

They never reach user space, so the only way to see them is to watch the packets: SYNs to the
port, picked out by a filter in the kernel. That takes Linux and CAP_NET_RAW, which root has;
elsewhere nobody can count, and ``watch`` says so.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26
_ETHERTYPE_IP = 0x0800
_OUTGOING = 4  # on the loopback every packet passes twice, once on its way out


class Refusals:
    """A packet socket that sees nothing but SYNs to one port."""

    def __init__(self, packets: socket.socket) -> None:
        """``packets`` is closed with this."""
        self._packets = packets
        self._seen = 0

    def count(self) -> int:
        """How many connections have been attempted so far."""
        while True:
            try:
                _, address = self._packets.recvfrom(1)
            except BlockingIOError:
                return self._seen
            self._seen += address[2] != _OUTGOING

    def close(self) -> None:
        """Stop watching."""
        self._packets.close()


def watch(port: int) -> Refusals | None:
    """Watch a port of this machine, or None where that is not possible."""
    if sys.platform != "linux":
        return None
    try:
        # Protocol 0 receives nothing yet: the filter has to be there before the first packet.
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except OSError:
        return None
    try:
        filter_code = ctypes.create_string_buffer(_syn_filter(port))
        program = struct.pack("HP", len(filter_code.raw) // 8, ctypes.addressof(filter_code))
        packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        packets.setblocking(False)  # noqa: FBT003 - the socket's own signature
        packets.bind(("lo", _ETHERTYPE_IP))
    except OSError:
        packets.close()
        return None
    return Refusals(packets)


def _syn_filter(port: int) -> bytes:
    """Classic BPF over the IP header: TCP, to ``port``, SYN and not ACK."""
    code = [
        (0x30, 0, 0, 9),  # load the protocol
        (0x15, 0, 6, 6),  # TCP, or refuse
        (0xB1, 0, 0, 0),  # the length of the IP header
        (0x48, 0, 0, 2),  # load the destination port
        (0x15, 0, 3, port),
        (0x50, 0, 0, 13),  # load the flags
        (0x54, 0, 0, 0x12),
        (0x15, 1, 0, 0x02),  # of SYN and ACK only SYN
        (0x06, 0, 0, 0),  # refuse
        (0x06, 0, 0, 1),  # take
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
