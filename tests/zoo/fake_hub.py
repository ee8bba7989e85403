"""A Hugging Face hub of this machine: as much of its HTTP interface as ``push_to_hub`` and ``load_from_hub`` use."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

COMMIT = "0" * 40
Repositories = dict[str, dict[str, bytes]]


class _Handler(BaseHTTPRequestHandler):
    """Answers from ``repositories``: the content of every file, by repository and path."""

    protocol_version = "HTTP/1.1"
    repositories: Repositories

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def answer(self, body: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value: object) -> None:
        self.answer(json.dumps(value).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        parts = urlparse(self.path).path.strip("/").split("/")
        repository = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.repositories.get(repository)
        if files is None:
            self.answer(b"", 404, X_Error_Code="RepoNotFound")
        elif parts[0] == "api" and "tree" in parts:
            sizes = [{"type": "file", "path": path, "size": len(data), "oid": COMMIT} for path, data in files.items()]
            self.answer_json(sizes)
        elif parts[0] == "api":
            self.answer_json({"id": repository, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]})
        elif (path := "/".join(parts[4:])) in files:  # owner/name/resolve/revision/path
            self.answer(files[path], ETag=f'"{hashlib.sha256(files[path]).hexdigest()}"')
        else:
            self.answer(b"", 404, X_Error_Code="EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = urlparse(self.path).path.strip("/").split("/")
        if parts[1:] == ["repos", "create"]:
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}"
            self.repositories.setdefault(name, {})
            self.answer_json({"url": f"http://{self.headers['Host']}/{name}", "name": name})
        elif parts[-2] == "preupload":
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self.answer_json({"files": modes})
        elif parts[-2] == "commit":
            for operation in map(json.loads, body.splitlines()):
                if operation["key"] == "file":
                    file = operation["value"]
                    self.repositories["/".join(parts[2:4])][file["path"]] = base64.b64decode(file["content"])
            url = f"http://{self.headers['Host']}/{'/'.join(parts[2:4])}/commit/{COMMIT}"
            self.answer_json({"commitUrl": url, "commitOid": COMMIT})
        else:  # such as the check of the model card's metadata
            self.answer_json({"warnings": [], "errors": []})


@contextmanager
def fake_hub() -> Iterator[tuple[str, Repositories]]:
    """
    :return: The address for ``HF_ENDPOINT``, and the content of every file, by repository and path
    """
    repositories: Repositories = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"repositories": repositories}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", repositories
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
