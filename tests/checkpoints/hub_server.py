"""A small server of files on this machine, as the hub and as any other; it can break off."""

import contextlib
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants, file_download

COMMIT = "0123456789" * 4


class Server(ThreadingHTTPServer):
    """Serves `files` {path: bytes}, the path as in the address, without the first slash.

    Attributes:
      breaks: how many answers still end too early.
      keep: bytes that such an answer sends.
      ranges: whether parts of files are served.
      tags: {path: ETag} in place of the SHA-256.
      log: (method, path, first byte) of each request.
      before: called with (method, first byte) ahead of each answer.
      lies: {(method, header): value} in place of the true headers; None leaves one out.
      send: writes the body of an answer.
      status: of all answers; 0: the true one.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.tags, self.log, self.headers = {}, {}, [], []
        self.breaks, self.keep, self.ranges = 0, 0, True
        self.before, self.lies, self.status = (lambda method, start: None), {}, 0
        self.send = lambda file, data: file.write(data)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, repo, file, data, revision="main"):
        self.files[f"{repo}/resolve/{revision}/{file}"] = data

    def put_folder(self, repo, folder):
        """All files of a folder, as they lie in it."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(repo, str(path.relative_to(folder)), path.read_bytes())

    def sent(self, method="GET"):
        return [(path, start) for kind, path, start in self.log if kind == method]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *args):
        pass

    def _answer(self, body):
        server, path = self.server, self.path.lstrip("/")
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and server.ranges else 0
        server.before(self.command, start)
        server.log.append((self.command, path, start))
        server.headers.append(dict(self.headers))
        data = server.files.get(path)
        if data is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(server.status or (206 if start else 200))
        tag = server.tags.get(path) or f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {
            "Content-Length": str(len(data) - start),
            "Accept-Ranges": "bytes",
            "ETag": tag if '"' in tag else f'"{tag}"',
            "X-Repo-Commit": COMMIT,
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        lies = {
            name: value for (method, name), value in server.lies.items() if method == self.command
        }
        for name, value in {**headers, **lies}.items():
            if value is not None:
                self.send_header(name, value)
        self.close_connection = body and lies.get("Content-Length", "") is None
        self.end_headers()
        if not body:
            return
        part = data[start:]
        if server.breaks:
            server.breaks -= 1
            part, self.close_connection = part[: server.keep], True
        with contextlib.suppress(ConnectionError):
            server.send(self.wfile, part)


@contextlib.contextmanager
def as_hub(folder, monkeypatch):
    """A server that is the hub during the block, with empty caches below the folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # what a break may lose
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    with serving() as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


@contextlib.contextmanager
def serving():
    """A server that runs during the block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
