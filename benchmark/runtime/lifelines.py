"""A connection of every process to the first, which the system closes when a process ends, whatever that was at.

NCCL's collectives wait for a process that was killed until their timeout, and a thread that gave a sign of life would
be silent wherever a solver holds Python's lock: what the system does needs neither. The same connections tell by which
address of each machine the others reach it, where its host name may stand for one that nobody else can reach.
"""

from __future__ import annotations

import fcntl
import ipaddress
import secrets
import select
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field

import torch.distributed as dist

from benchmark.runtime.errors import UserError

JOIN_SECONDS = 600.0
_TOKEN_BYTES = 16
_GOODBYE = b"."
_SIOCGIFADDR = 0x8915  # the address of an interface, by its name (linux/sockios.h)
# A node that lost its power closes nothing: asked after so many seconds of silence, every so many, so many times.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


@dataclass(eq=False)
class Lifelines:
    """Of the first process one to each other, of the others one to the first: connection to the rank at its end."""

    ends: dict[socket.socket, int] = field(default_factory=dict)
    address: str = "127.0.0.1"  # by which processes on other machines reach this one
    world_size: int = 1

    @classmethod
    def tie(cls, store: dist.Store, host: str, rank: int, world_size: int) -> Lifelines:
        """Connect all processes to the first, which runs on ``host``. Raises :class:`UserError` where one lacks."""
        try:
            lines = cls._hold(store, world_size) if rank == 0 else cls._take(store, host, rank)
        except OSError as error:
            raise UserError(f"the {world_size} processes of this job did not meet at {host}: {error}") from error
        for line in lines.ends:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        lines.world_size = world_size
        return lines

    @classmethod
    def _hold(cls, store: dist.Store, world_size: int) -> Lifelines:
        token, lines = secrets.token_bytes(_TOKEN_BYTES), cls()
        with _server(world_size) as server:
            server.settimeout(JOIN_SECONDS)
            store.set("lifelines", f"{server.getsockname()[1]} {token.hex()}")
            while len(lines.ends) < world_size - 1:
                line, _ = server.accept()
                line.settimeout(JOIN_SECONDS)
                said = line.recv(_TOKEN_BYTES + 4, socket.MSG_WAITALL)
                if said[:_TOKEN_BYTES] == token and len(said) == _TOKEN_BYTES + 4:
                    lines.ends[line] = int.from_bytes(said[_TOKEN_BYTES:])
                else:
                    line.close()  # nobody of ours
        lines.address = _reachable([_local(line) for line in lines.ends])
        store.set("address", lines.address)
        return lines

    @classmethod
    def _take(cls, store: dist.Store, host: str, rank: int) -> Lifelines:
        port, token = store.get("lifelines").decode().split()
        line = socket.create_connection((host, int(port)), timeout=JOIN_SECONDS)
        line.sendall(bytes.fromhex(token) + rank.to_bytes(4))
        # On the machine of the first process the way to it says nothing of the way from elsewhere.
        own = _local(line)
        return cls({line: 0}, store.get("address").decode() if ipaddress.ip_address(own).is_loopback else own)

    def lost(self) -> int | None:
        """The rank of a process that ended without a goodbye; None as long as there is none."""
        ready, _, _ = select.select(list(self.ends), [], [], 0)
        for line in ready:
            said = b""
            with suppress(OSError):  # where the system gave it up
                said = line.recv(1)
            rank = self.ends.pop(line)
            line.close()
            if said != _GOODBYE:
                return rank
        return None

    def untie(self) -> None:
        """Say goodbye: this process ends by itself."""
        for line in self.ends:
            with suppress(OSError):  # that one is gone
                line.sendall(_GOODBYE)
            line.close()
        self.ends.clear()


def _server(backlog: int) -> socket.socket:
    """At a free port, for IPv4 and, where this machine has it, IPv6."""
    with suppress(OSError, ValueError):
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
    return socket.create_server(("", 0), backlog=backlog)


def interface_of(address: str) -> str | None:
    """The network interface that has this IPv4 address; None where none has it first."""
    own = ipaddress.ip_address(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            try:
                told = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has none
                continue
            found = ipaddress.ip_address(socket.inet_ntoa(told[20:24]))
            if found == own or (found.is_loopback and own.is_loopback):
                return name
    return None


def _reachable(addresses: list[str]) -> str:
    """Of the addresses by which others came, one that is good from other machines, where any came from there."""
    return next((one for one in addresses if not ipaddress.ip_address(one).is_loopback), addresses[0])


def _local(line: socket.socket) -> str:
    """The address of this end; IPv4 as such where it comes through an IPv6 socket."""
    address: str = line.getsockname()[0].partition("%")[0]
    return address.removeprefix("::ffff:")
