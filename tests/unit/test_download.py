"""Fetching one address for a data file: against real servers on loopback that misbehave in every way."""

import contextlib
import http.server
import io
import socket
import socketserver
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.data import download as module
from inference.data.download import DownloadError, download, is_public
from inference.data.images import ImageError, ImageSource

LIMIT = 100_000


def picture():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Server(http.server.BaseHTTPRequestHandler):
    """Each path misbehaves in its own way; ``seen`` are the requests that arrived."""

    seen = ()
    stop = threading.Event()

    def do_GET(self):
        type(self).seen += (self.path,)
        name, _, rest = self.path.lstrip("/").partition("?")
        getattr(self, f"answer_{name.partition('.')[0]}", self.answer_missing)(rest)

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_picture(self, _):
        self.send(200, picture(), Content_Type="image/png")

    def answer_missing(self, _):
        self.send(404)

    def answer_to(self, target):
        self.send(302, Location=target)

    def answer_circle(self, _):
        self.send(302, Location="/circle")

    def answer_chunked(self, _):
        body = picture()
        parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]))
        self.protocol_version = "HTTP/1.1"
        self.send(200, parts + b"0\r\n\r\n", Transfer_Encoding="chunked")

    def answer_large(self, _):
        self.send(200, b"x" * (LIMIT + 1))

    def answer_larger(self, _):
        self.send(200, Content_Length=str(10**15))

    def answer_endless(self, _):
        self.send(200)
        with contextlib.suppress(OSError):  # the client hangs up
            while not self.stop.wait(0.001):
                self.wfile.write(b"x" * 10_000)

    def answer_dripping(self, _):
        self.send(200)
        self.drip()

    def answer_drippingheaders(self, _):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        self.drip()

    def drip(self):
        with contextlib.suppress(OSError):  # the client hangs up
            while not self.stop.wait(0.05):
                self.wfile.write(b"x")
                self.wfile.flush()

    def answer_silent(self, _):
        self.stop.wait(20)

    def log_message(self, *_):
        pass


class ThreadedServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


@pytest.fixture(scope="module")
def server():
    """http://127.0.0.1:PORT of the server."""
    Server.stop.clear()
    with ThreadedServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        Server.stop.set()
        running.shutdown()


def fetch(url, seconds=5.0, private=True):
    return download(url, LIMIT, seconds, allow_private=private)


@pytest.mark.parametrize("path", ["/picture.png", "/chunked", "/to?/picture.png", "/to?to?to?picture.png"])
def test_content_arrives_whole_also_in_chunks_and_after_redirects(server, path):
    assert fetch(server + path) == picture()


def test_spaces_and_letters_of_an_address_are_encoded(server):
    assert fetch(f"{server}/picture.ä b?é=%20") == picture()
    assert Server.seen[-1] == "/picture.%C3%A4%20b?%C3%A9=%20"


def test_a_loopback_address_is_not_even_connected_to_unless_asked_for(server):
    before = Server.seen
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1, no public address: give --allow_private_url"):
        fetch(f"{server}/picture.png", private=False)
    with pytest.raises(DownloadError, match="no public address"):
        fetch(server.replace("127.0.0.1", "localhost") + "/picture.png", private=False)
    assert Server.seen == before


# Spellings that a resolver takes for 127.0.0.1, and addresses that lead into the machine or its network.
@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "10.0.0.1"]
)
def test_another_spelling_of_a_private_address_is_refused(host):
    with pytest.raises(DownloadError, match=r"no public address|cannot be found"):
        fetch(f"http://{host}:9/a.png", private=False)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
     "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
     "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1"],
)  # fmt: skip
def test_no_private_or_special_address_is_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_is_public(address):
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_ipv6_wrapper_changes_nothing(address):
    for wrapped in (
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        f"2002:{int(address) >> 16:x}:{int(address) & 65535:x}::",
    ):
        assert is_public(wrapped) == is_public(str(address))


def test_a_redirect_into_the_private_network_is_refused(server, monkeypatch):
    """The first host counts as public here, as far as its address goes: only the redirect leads astray."""
    monkeypatch.setattr(module, "is_public", lambda address: address == "127.0.0.1")
    assert fetch(f"{server}/picture.png", private=False) == picture()
    for target in ("http://127.0.0.2:9/a.png", "http://[::1]/a.png", "http://169.254.169.254/latest/meta-data"):
        with pytest.raises(DownloadError, match="no public address"):
            fetch(f"{server}/to?{target}", private=False)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(server, target):
    with pytest.raises(DownloadError, match="expected http or https, got"):
        fetch(f"{server}/to?{target}")


def test_a_redirect_in_a_circle_ends(server):
    with pytest.raises(DownloadError, match="redirected more than 5 times"):
        fetch(f"{server}/circle")


def test_a_name_that_resolves_anew_at_each_question_is_asked_once_and_pinned(server, monkeypatch):
    """DNS rebinding: one answer for the check, another for the connection. Nothing listens at the second one."""
    port = int(server.rpartition(":")[2])
    resolve, asked = socket.getaddrinfo, []

    def rebinding(host, *rest, **options):
        if host == "rebinding.example":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else "127.0.0.9"
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(module, "is_public", lambda address: address == "127.0.0.1")
    assert fetch(f"http://rebinding.example:{port}/picture.png", private=False) == picture()
    assert len(asked) == 1
    with pytest.raises(DownloadError, match=r"127\.0\.0\.9, no public address"):
        fetch(f"http://rebinding.example:{port}/picture.png", private=False)


@pytest.mark.parametrize("path", ["/large", "/larger", "/endless"])
def test_what_is_too_large_is_refused_at_once(server, path):
    start = time.monotonic()
    with pytest.raises(DownloadError, match="is larger than 100000 bytes"):
        fetch(server + path, seconds=20)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("path", ["/dripping", "/drippingheaders", "/silent", "/to?/dripping"])
def test_a_server_that_sends_a_byte_at_a_time_is_left_when_the_time_is_over(server, path):
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"TimeoutError"):
        fetch(server + path, seconds=0.5)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://127.0.0.1/a.png", "expected http or https"),
        ("http://", "expected a host"),
        ("http://user:password@127.0.0.1/", "user or password"),
        ("http://127.0.0.1:99999/", "no usable URL"),
        ("http://[::1/", "no usable URL"),
        ("http://no-such-host.invalid/", "cannot be found"),
        ("http://a..b/", "cannot be found"),
    ],
)
def test_an_address_that_is_none_is_refused(url, reason):
    with pytest.raises(DownloadError, match=reason):
        fetch(url)


def test_a_status_other_than_200_is_an_error(server):
    with pytest.raises(DownloadError, match="status 404"):
        fetch(f"{server}/nothing")


def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    assert fetch(f"{server}/picture.png") == picture()


def test_an_image_is_fetched_only_with_both_permissions(server):
    url = f"{server}/picture.png"
    for permissions, reason in (
        ({}, "is a URL: give --allow_url"),
        ({"allow_private_url": True}, "is a URL: give --allow_url"),
        ({"allow_url": True}, "no public address: give --allow_private_url"),
    ):
        with pytest.raises(ImageError, match=reason) as caught:
            ImageSource([], **permissions).load(url)
        assert url in str(caught.value)
    assert ImageSource([], allow_url=True, allow_private_url=True).load(url).mode == "RGB"
