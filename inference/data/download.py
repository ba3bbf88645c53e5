"""Fetch one address for a data file of unknown origin: http(s) only, bounded, never this network's own.

    from inference.data.download import download
    content = download("https://example.org/photo.jpg", max_bytes=64 * 2**20, seconds=30)

The address of each host is looked up once and checked, and the connection goes to that very address: a
name that resolves to another one a moment later gains nothing. Every redirect is checked in the same
way. ``seconds`` is for all of it, however slowly a server sends. Proxies of the environment are not
used: a proxy looks names up itself, and what it would connect to could not be checked.

Standard library only: the report is made where neither requests nor httpx is installed, and neither
of them bounds the whole time or pins an address.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import time
from functools import partial
from urllib.parse import SplitResult, quote, urljoin, urlsplit

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
CHUNK = 1 << 16
NAT64 = ipaddress.ip_network("64:ff9b::/96")
PATH_CHARACTERS = "/?#[]@!$&'()*+,;=:%~"  # stay as they are; spaces and foreign letters are percent-encoded


class DownloadError(ValueError):
    """An address that is not fetched; the message says why."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also where IPv6 wraps an IPv4 address.

    Raises:
        ValueError: for text that is no IP address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_link_local or ip.is_loopback)


class _Deadline:
    """A point in time that everything of one download has to be done by."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; raises TimeoutError when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not done after {self.seconds:g} s")
        return left


class _Reader(io.RawIOBase):
    """Reads a socket until the deadline: a timeout of each read alone would let a slow server go on for ever."""

    def __init__(self, sock: socket.socket, deadline: _Deadline):
        self.sock, self.deadline = sock, deadline
        self.raw = sock.makefile("rb", buffering=0)  # keeps the socket open when the connection hands it over

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        self.sock.settimeout(self.deadline.left())
        return self.raw.readinto(buffer)

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args, deadline: _Deadline, **options):
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Reader(sock, deadline))


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked; ``host`` is only what the server is called."""

    def __init__(self, parts: SplitResult, address: tuple, deadline: _Deadline):
        self.tls = parts.scheme == "https"
        self.default_port = 443 if self.tls else 80
        super().__init__(parts.hostname, parts.port or self.default_port)
        self.address, self.deadline = address, deadline
        self.response_class = partial(_Response, deadline=deadline)

    def connect(self) -> None:
        self.sock = socket.create_connection(self.address[:2], self.deadline.left())
        if self.tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DownloadError(f"is no usable URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise DownloadError(f"expected http or https, got {parts.scheme or 'no scheme'}")
    if "@" in parts.netloc:
        raise DownloadError("names a user or password, which is not sent")
    if not parts.hostname or port == 0:
        raise DownloadError("is no usable URL: expected a host")
    return parts


def _addresses(parts: SplitResult, allow_private: bool) -> list[tuple]:
    """Where the host may be connected to, in the resolver's order."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        resolved = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DownloadError(f"host {parts.hostname} cannot be found: {error}") from None
    addresses = [address for *_, address in resolved]
    allowed = [address for address in addresses if allow_private or is_public(address[0])]
    if not allowed:
        raise DownloadError(
            f"host {parts.hostname} is at {addresses[0][0]}, no public address: "
            "give --allow_private_url if it is a server of yours"
        )
    return allowed


def _connected(parts: SplitResult, allow_private: bool, deadline: _Deadline) -> _Connection:
    problem: Exception | None = None
    for address in _addresses(parts, allow_private):
        connection = _Connection(parts, address, deadline)
        try:
            connection.connect()
            return connection
        except OSError as error:
            connection.close()
            problem = error
    raise problem


def _content(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    stated = response.getheader("Content-Length", "")
    content = bytearray()
    if not (stated.isdigit() and int(stated) > max_bytes):
        while chunk := response.read(CHUNK):
            content += chunk
            if len(content) > max_bytes:
                break
        else:
            return bytes(content)
    raise DownloadError(f"is larger than {max_bytes} bytes")


def download(url: str, max_bytes: int, seconds: float, allow_private: bool = False) -> bytes:
    """The content behind an http(s) address.

    Args:
        max_bytes: of the content; more is refused as soon as it is known.
        seconds: for all of it, redirects included. Looking a name up has the system's own bounds.
        allow_private: whether hosts may be at private, loopback and other non-public addresses.

    Raises:
        DownloadError: when it is not allowed, not there, too large or too slow.
    """
    deadline = _Deadline(seconds)
    for _ in range(MAX_REDIRECTS + 1):
        parts = _checked(url)
        try:
            connection = _connected(parts, allow_private, deadline)
            try:
                path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=PATH_CHARACTERS)
                headers = {"User-Agent": "emocaliber", "Accept": "image/*,*/*;q=0.1", "Connection": "close"}
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                if response.status in REDIRECTS and (target := response.getheader("Location")):
                    url = urljoin(url, target)
                    continue
                if response.status != 200:
                    raise DownloadError(f"the server answers with status {response.status}")
                return _content(response, max_bytes)
            finally:
                connection.close()
        except DownloadError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DownloadError(f"cannot be fetched: {type(error).__name__}: {error}") from None
    raise DownloadError(f"is redirected more than {MAX_REDIRECTS} times")
