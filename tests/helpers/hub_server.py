"""A small Hugging Face hub on a local port: listings in pages, large files by redirect, Range, and faults on demand.

with Hub() as hub:
    hub.add("datasets", "wudq/VECBench", {"test_8k.jsonl": b"..."})
    ...  # HF_ENDPOINT=hub.address; hub.requests holds what was asked
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000  # bytes from which a file is stored the large way, by its SHA-256
PAGE = 3  # entries of one page of a listing


def git_blob_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """Repositories by (kind, name), and what goes wrong with them.

    Attributes:
        listed_size: path → a size to list instead of the true one.
        unlisted: paths that the repository's description names, which has no checksums, and the listing does not.
        spoiled: path → how many times it is sent with its first byte changed.
        cut: path → (bytes, times): the connection breaks after so many bytes, so many times.
        stalled: path → (bytes, event): after so many bytes nothing more comes until it is set.
        refused: path → (status, headers, times).
        gated: names of repositories whose files need ``token``.
    """

    def __init__(self):
        self.repositories, self.requests = {}, []
        self.listed_size, self.spoiled, self.cut, self.stalled, self.refused = {}, {}, {}, {}, {}
        self.gated, self.token, self.unlisted = set(), None, set()

    def add(self, kind, name, files):
        self.repositories[kind, name] = files

    def __enter__(self):
        hub = self

        class Handler(RequestHandler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        for _, event in self.stalled.values():
            event.set()
        self.server.shutdown()
        self.server.server_close()

    def asked(self, method, part):
        """Headers of every request of the method whose path has ``part`` in it."""
        return [headers for verb, path, headers in self.requests if verb == method and part in path]


class RequestHandler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, headers=(), body=b""):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        self.hub.requests.append((self.command, self.path, self.headers))
        path, _, query = self.path.partition("?")
        if match := re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            self.api(*match.groups(), query)
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve("datasets" if match[1] else "models", *match.groups()[1:])
        elif match := re.fullmatch(r"/storage/(datasets|models)/([^/]+/[^/]+)/(.+)", path):
            self.content(match[3], self.hub.repositories[match[1], match[2]][match[3]])
        else:
            self.answer(404)

    do_HEAD = do_GET

    def api(self, kind, name, question, revision, query):
        files = self.hub.repositories.get((kind, name))
        if files is None:
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", COMMIT):
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        if question == "revision":
            siblings = [{"rfilename": path} for path in files]
            return self.answer(200, body=json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
        match = re.search(r"cursor=(\d+)", query)
        start = int(match[1]) if match else 0
        entries = [{"type": "directory", "path": "folder", "oid": "0" * 40, "size": 0}]
        for path, content in files.items():
            if path in self.hub.unlisted:
                continue
            size = self.hub.listed_size.get(path, len(content))
            entry = {"type": "file", "path": path, "size": size, "oid": git_blob_id(content)}
            if len(content) >= LARGE:
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 130}
            entries.append(entry)
        headers = {}
        if start + PAGE < len(entries):
            address = f"{self.hub.address}{self.path.partition('?')[0]}?recursive=True&cursor={start + PAGE}"
            headers["Link"] = f'<{address}>; rel="next"'
        self.answer(200, headers, json.dumps(entries[start : start + PAGE]).encode())

    def resolve(self, kind, name, revision, path):
        files = self.hub.repositories.get((kind, name))
        if files is None or path not in files:
            return self.answer(404, {"X-Error-Code": "EntryNotFound"})
        if name in self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.answer(401, {"X-Error-Code": "GatedRepo"})
        status, headers, times = self.hub.refused.get(path, (0, {}, 0))
        if times:
            self.hub.refused[path] = (status, headers, times - 1)
            return self.answer(status, headers)
        content = files[path]
        if len(content) < LARGE:
            return self.content(path, content)
        checksum = hashlib.sha256(content).hexdigest()
        headers = {"X-Linked-Size": len(content), "X-Linked-ETag": f'"{checksum}"', "X-Repo-Commit": COMMIT}
        # As the hub does: an offer of its other protocol, which this server does not speak.
        headers |= {"X-Xet-Hash": checksum, "X-Xet-Refresh-Route": f"{self.hub.address}/xet"}
        self.answer(302, {"Location": f"{self.hub.address}/storage/{kind}/{name}/{path}", **headers})

    def content(self, path, content):
        headers = {"ETag": f'"{git_blob_id(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if self.command == "HEAD":
            return self.answer(200, {**headers, "Content-Length": len(content)})
        if self.hub.spoiled.get(path):
            self.hub.spoiled[path] -= 1
            content = b"\0" + content[1:]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        if wanted and start >= len(content):
            return self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if wanted else 200)
        for name, value in {**headers, "Content-Length": len(content) - start}.items():
            self.send_header(name, str(value))
        self.end_headers()
        end, times = self.hub.cut.get(path, (0, 0))
        if times:
            self.hub.cut[path] = (end, times - 1)
            self.wfile.write(content[start:end])
            return None
        if path in self.hub.stalled:
            end = self.hub.stalled[path][0]
            self.wfile.write(content[start:end])
            self.wfile.flush()
            self.hub.stalled[path][1].wait()
            start = end
        self.wfile.write(content[start:])
        return None
