"""A Hub of one's own on this machine: what `huggingface_hub` asks of the real one, in memory, for tests of uploads.

    def test_something(hub):
        subprocess.run([sys.executable, "-c", "..."], env=os.environ | hub.environment(tmp_path / "home"))
        assert hub.files("stmine-hf/model") == {...}

It knows models, data sets and Spaces; one account by its token; branches, tags and commits; uploads by commit and by
LFS ("basic" transfer, so clients need HF_HUB_DISABLE_XET=1); listings; downloads with the headers that the client's
cache is built on. Clients take the address from HF_ENDPOINT when they start: run them as processes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

TOKEN = "hf_tokenofthetests"
USER, ORGANISATION = "tester", "stmine-hf"
LARGE = 10_000_000  # bytes from which on a text, too, goes to LFS


@dataclass(frozen=True)
class File:
    """Contents of a file and how they are stored."""

    data: bytes = field(repr=False)
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_oid(self) -> str:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        stored = pointer.encode() if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid

    def listed(self, path: str) -> dict[str, Any]:
        """As the tree of a repository shows it."""
        entry: dict[str, Any] = {"type": "file", "path": path, "oid": self.git_oid, "size": len(self.data)}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": 134}
        return entry


@dataclass(frozen=True)
class Commit:
    sha: str
    title: str
    files: dict[str, File]
    date: str


@dataclass
class Repository:
    """A repository with its history; `branches` and `tags` name commits."""

    kind: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, title: str, files: dict[str, File]) -> Commit:
        listing = "".join(f"{path} {file.git_oid}\n" for path, file in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)}{title}{listing}".encode()).hexdigest()
        new = Commit(sha, title, files, datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        self.commits[new.sha] = new
        self.branches[branch] = new.sha
        return new

    def at(self, revision: str) -> Commit | None:
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(sha)


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class HubServer:
    """The server. Use it as a context, or take the fixture `hub`.

    Attributes:
        url: its address.
        repositories: by kind ("model", "dataset", "space") and id.
        stored: contents that were uploaded by LFS, by their SHA-256, whether or not a commit names them.
        requests: method and path of every request so far.
        hold: SHA-256 of contents whose upload gets no answer until the server ends; `holding` is set while one waits.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.hold: set[str] = set()
        self.holding = threading.Event()
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, *, token: str | None = TOKEN) -> dict[str, str]:
        """Variables for a client: this Hub, its own caches in `home`, nothing of another account."""
        variables = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        variables |= {"HF_HUB_CACHE": str(home / "hub"), "HF_MODULES_CACHE": str(home / "modules")}
        variables |= {"HF_DATASETS_CACHE": str(home / "datasets"), "HF_TOKEN": token or ""}
        own = "127.0.0.1,localhost"
        return variables | {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": own, "no_proxy": own}

    def create(self, repo: str, kind: str = "model", private: bool = False) -> Repository:
        """A new repository, with the `.gitattributes` that the Hub puts into each."""
        created = self.repositories[kind, repo] = Repository(kind, private)
        created.commit("main", "initial commit", {".gitattributes": File(b"*.safetensors filter=lfs\n", False)})
        return created

    def files(self, repo: str, revision: str = "main", kind: str = "model") -> dict[str, bytes]:
        """What a revision holds, but for `.gitattributes`."""
        commit = self.repositories[kind, repo].at(revision)
        assert commit is not None, f"{repo} has no revision {revision}"
        return {path: file.data for path, file in commit.files.items() if path != ".gitattributes"}

    def uploads(self) -> list[str]:
        """SHA-256 of the contents sent so far by LFS, in order."""
        return [path.rpartition("/")[2] for method, path in self.requests if method == "PUT"]


_API = r"/api/(?P<kind>model|dataset|space)s/(?P<repo>[\w.-]+/[\w.-]+)"
_PREFIX = r"/(?:(?P<kind>dataset|space)s/)?(?P<repo>[\w.-]+/[\w.-]+)"


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    # ---- the parts of the API ----

    def whoami(self) -> Any:
        self._writer()
        access = {"displayName": "tests", "role": "write"}
        return {
            "type": "user",
            "name": USER,
            "fullname": USER,
            "orgs": [{"type": "org", "name": ORGANISATION, "roleInOrg": "admin"}],
            "auth": {"type": "access_token", "accessToken": access},
        }

    def create_repository(self) -> Any:
        self._writer()
        asked = self._json()
        kind, owner = asked.get("type") or "model", asked.get("organization") or USER
        if owner not in (USER, ORGANISATION):
            raise Refusal(403, f"You don't have the rights to create a {kind} under the namespace {owner!r}")
        repo, prefix = f"{owner}/{asked['name']}", "" if kind == "model" else f"{kind}s/"
        url = f"{self.hub.url}/{prefix}{repo}"
        if (kind, repo) in self.hub.repositories:
            return 409, {"error": f"You already created this {kind} repo", "url": url}
        self.hub.create(repo, kind, private=bool(asked.get("private") or asked.get("visibility") == "private"))
        return {"url": url, "name": repo, "id": repo}

    def validate_card(self) -> Any:
        header = re.match(r"\s*---\n(.*?)\n---(?:\n|$)", self._json()["content"], re.DOTALL)
        try:
            valid = header is None or isinstance(yaml.safe_load(header[1]), dict)
        except yaml.YAMLError:
            valid = False
        if not valid:
            return 400, {"errors": [{"message": "the metadata are no mapping"}], "warnings": []}
        warnings = [] if header else [{"message": "empty or missing yaml metadata in repo card"}]
        return {"errors": [], "warnings": warnings}

    def info(self, kind: str, repo: str, revision: str = "main") -> Any:
        repository, commit = self._at(kind, repo, revision)
        return {
            "_id": hashlib.sha1(repo.encode()).hexdigest()[:24],
            "id": repo,
            "modelId": repo,
            "author": repo.partition("/")[0],
            "sha": commit.sha,
            "lastModified": commit.date,
            "createdAt": commit.date,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in commit.files],
        }

    def preupload(self, kind: str, repo: str, revision: str) -> Any:
        self._writer()
        _, commit = self._at(kind, repo, revision)
        answers = []
        for asked in self._json()["files"]:
            sample, present = base64.b64decode(asked["sample"]), commit.files.get(asked["path"])
            large = b"\0" in sample or asked["size"] > LARGE or asked["path"].endswith(".safetensors")
            answer = {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            answers.append(answer | ({"oid": present.etag} if present else {}))
        return {"files": answers}

    def lfs_batch(self, kind: str | None, repo: str) -> Any:
        self._writer()
        self._repository(kind or "model", repo)
        objects = []
        for asked in self._json()["objects"]:
            if asked["oid"] not in self.hub.stored:
                target = f"{self.hub.url}/lfs/{asked['oid']}"
                asked |= {"actions": {"upload": {"href": target}, "verify": {"href": f"{target}/verify"}}}
            objects.append(asked)
        return {"transfer": "basic", "objects": objects}

    def lfs_upload(self, oid: str) -> Any:
        if oid in self.hub.hold:
            self.hub.holding.set()
            self.hub.released.wait()
            raise Refusal(503, "the server ends")
        data = self._body
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refusal(400, "these contents have another SHA-256")
        self.hub.stored[oid] = data
        return {}

    def lfs_verify(self, oid: str) -> Any:
        if len(self.hub.stored.get(oid, b"")) != self._json()["size"]:
            raise Refusal(404, f"{oid} is not stored")
        return {}

    def lfs_download(self, oid: str) -> Any:
        if oid not in self.hub.stored:
            raise Refusal(404, f"{oid} is not stored")
        return File(self.hub.stored[oid], True), {}

    def commit(self, kind: str, repo: str, revision: str) -> Any:
        self._writer()
        repository, parent = self._at(kind, repo, revision)
        if revision not in repository.branches:
            raise Refusal(400, f"{revision} is no branch")
        title, files = "", dict(parent.files)
        for line in self._body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit", parent.sha) != parent.sha:
                    raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in self.hub.stored:
                    raise Refusal(400, f"{value['path']}: its contents were not uploaded")
                files[value["path"]] = File(self.hub.stored[value["oid"]], True)
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                raise Refusal(400, f"unknown operation {key!r}")
        new = repository.commit(revision, title, files)
        prefix = "" if kind == "model" else f"{kind}s/"
        url = f"{self.hub.url}/{prefix}{repo}/commit/{new.sha}"
        return {"success": True, "commitOid": new.sha, "commitUrl": url, "hookOutput": ""}

    def create_branch(self, kind: str, repo: str, name: str) -> Any:
        self._writer()
        repository, start = self._at(kind, repo, self._json().get("startingPoint") or "main")
        if name in repository.branches:
            raise Refusal(409, f"Reference already exists: {name}")
        repository.branches[name] = start.sha
        return {}

    def create_tag(self, kind: str, repo: str, revision: str) -> Any:
        self._writer()
        repository, target = self._at(kind, repo, revision)
        name = self._json()["tag"]
        if name in repository.tags:
            raise Refusal(409, f"Tag already exists: {name}")
        repository.tags[name] = target.sha
        return {}

    def refs(self, kind: str, repo: str) -> Any:
        repository = self._repository(kind, repo)
        listed = {
            where: [{"name": name, "ref": f"refs/{prefix}/{name}", "targetCommit": sha} for name, sha in names.items()]
            for where, prefix, names in (
                ("branches", "heads", repository.branches),
                ("tags", "tags", repository.tags),
            )
        }
        return listed | {"converts": [], "pullRequests": []}

    def commits(self, kind: str, repo: str, revision: str) -> Any:
        repository, newest = self._at(kind, repo, revision)
        history = list(repository.commits.values())
        history = history[: history.index(newest) + 1]
        return [
            {"id": commit.sha, "title": commit.title, "message": "", "date": commit.date, "authors": [{"user": USER}]}
            for commit in reversed(history)
        ]

    def tree(self, kind: str, repo: str, revision: str, folder: str = "") -> Any:
        _, commit = self._at(kind, repo, revision)
        folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
        recursive = self._query.get("recursive", ["false"])[0].lower() in ("true", "1")
        listed: dict[str, dict[str, Any]] = {}
        for path, file in sorted(commit.files.items()):
            if path.startswith(folder):
                parts = path[len(folder) :].split("/")
                for depth in range(1, len(parts)):
                    if depth == 1 or recursive:
                        parent = folder + "/".join(parts[:depth])
                        oid = hashlib.sha1(parent.encode()).hexdigest()
                        listed[parent] = {"type": "directory", "path": parent, "oid": oid, "size": 0}
                if len(parts) == 1 or recursive:
                    listed[path] = self._expanded(file.listed(path), commit)
        if folder and not listed:
            raise Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        return list(listed.values())

    def paths_info(self, kind: str, repo: str, revision: str) -> Any:
        _, commit = self._at(kind, repo, revision)
        asked = json.loads(self._body) if self._body.startswith(b"{") else parse_qs(self._body.decode())
        found = []
        for path in asked.get("paths", []):
            path = path.strip("/")
            if path in commit.files:
                found.append(self._expanded(commit.files[path].listed(path), commit))
            elif any(name.startswith(f"{path}/") for name in commit.files):
                oid = hashlib.sha1(path.encode()).hexdigest()
                found.append({"type": "directory", "path": path, "oid": oid, "size": 0})
        return found

    def resolve(self, kind: str | None, repo: str, revision: str, path: str) -> Any:
        _, commit = self._at(kind or "model", repo, revision)
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        file = commit.files.get(path)
        if file is None:
            raise Refusal(404, f"{path} does not exist on {revision}", "EntryNotFound")
        if file.lfs:
            headers |= {"X-Linked-Size": str(len(file.data)), "X-Linked-ETag": f'"{file.sha256}"'}
            # By another name, as the real one sends clients to other machines for large files.
            return 302, headers | {"Location": f"http://localhost:{self.server.server_port}/lfs/{file.sha256}"}
        return file, headers

    routes: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("GET", "/api/whoami-v2", whoami),
        ("POST", "/api/repos/create", create_repository),
        ("POST", "/api/validate-yaml", validate_card),
        ("GET", _API, info),
        ("GET", rf"{_API}/revision/(?P<revision>[^/]+)", info),
        ("POST", rf"{_API}/preupload/(?P<revision>[^/]+)", preupload),
        ("POST", rf"{_API}/commit/(?P<revision>[^/]+)", commit),
        ("POST", rf"{_API}/branch/(?P<name>[^/]+)", create_branch),
        ("POST", rf"{_API}/tag/(?P<revision>[^/]+)", create_tag),
        ("GET", rf"{_API}/refs", refs),
        ("GET", rf"{_API}/commits/(?P<revision>[^/]+)", commits),
        ("GET", rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?", tree),
        ("POST", rf"{_API}/paths-info/(?P<revision>[^/]+)", paths_info),
        ("POST", rf"{_PREFIX}\.git/info/lfs/objects/batch", lfs_batch),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_upload),
        ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify", lfs_verify),
        ("GET", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_download),
        ("GET", rf"{_PREFIX}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
    )

    # ---- what they share ----

    def _writer(self) -> None:
        if not self._known:
            raise Refusal(401, "Invalid username or password.")

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, kind: str, repo: str) -> Repository:
        repository = self.hub.repositories.get((kind, repo))
        if repository is None or (repository.private and not self._known):
            raise Refusal(404 if self._known else 401, "Repository not found", "RepoNotFound")
        return repository

    def _at(self, kind: str, repo: str, revision: str) -> tuple[Repository, Commit]:
        repository = self._repository(kind, repo)
        commit = repository.at(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository, commit

    def _expanded(self, entry: dict[str, Any], commit: Commit) -> dict[str, Any]:
        return entry | {"lastCommit": {"id": commit.sha, "title": commit.title, "date": commit.date}}

    def _json(self) -> Any:
        return json.loads(self._body or b"{}")

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self) -> None:
        address = urlsplit(self.path)
        self._query = parse_qs(address.query)
        self._body = self._read()  # whatever the answer: the next request follows on the same connection
        self.hub.requests.append((self.command, address.path))
        method = "GET" if self.command == "HEAD" else self.command
        for wanted, pattern, part in self.routes:
            found = re.fullmatch(pattern, address.path) if wanted == method else None
            if found:
                given = {name: unquote(value) for name, value in found.groupdict().items() if value is not None}
                if "kind" in found.groupdict():
                    given.setdefault("kind", "model")
                try:
                    answer = part(self, **given)
                except Refusal as refusal:
                    code = {"X-Error-Code": refusal.code} if refusal.code else {}
                    self._send_json(refusal.status, {"error": str(refusal)}, code | {"X-Error-Message": str(refusal)})
                    return
                if isinstance(answer, tuple) and isinstance(answer[0], File):
                    self._send_file(*answer)
                elif isinstance(answer, tuple) and "Location" in answer[1]:
                    self._send(answer[0], b"", answer[1])
                elif isinstance(answer, tuple):
                    self._send_json(*answer, {})
                else:
                    self._send_json(200, answer, {})
                return
        self._send_json(404, {"error": f"no such address: {self.command} {address.path}"}, {})

    def _send_json(self, status: int, document: Any, headers: dict[str, str]) -> None:
        self._send(status, json.dumps(document).encode(), headers | {"Content-Type": "application/json"})

    def _send_file(self, file: File, headers: dict[str, str]) -> None:
        headers = headers | {"ETag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self._send(200, file.data, headers)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(file.data) - 1), len(file.data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(file.data)}"
        self._send(206, file.data[start : end + 1], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # a client that is gone
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # the names that the base class calls

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty Hub that lives as long as the test."""
    with HubServer() as server:
        yield server
