"""A stand-in of the Hugging Face Hub on this machine: repositories, revisions, tokens, and commits of files.

It answers the requests that huggingface_hub makes to download a file and to push a folder, from what the documentation
of the API says. `HF_ENDPOINT` names it.
"""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secretsecretsecret"  # noqa: S105  # of the stand-in


class Repository:
    """Files by commit; `main` is the newest."""

    def __init__(self, private=False):
        self.private, self.commits, self.tags = private, {}, {}

    def commit(self, files, message=""):
        """Add a commit with these files on top of the newest, and return its id."""
        before = self.commits[self.tags["main"]] if "main" in self.tags else {}
        content = {**before, **files}
        listing = json.dumps([len(self.commits), message, sorted((k, len(v)) for k, v in content.items())])
        name = hashlib.sha1(listing.encode()).hexdigest()  # noqa: S324  # as git does
        self.commits[name] = content
        self.tags["main"] = name
        return name

    def files(self, revision):
        return self.commits.get(self.tags.get(revision, revision))


class Hub:
    """The state of the stand-in. `requested` lists the requests; those whose path matches `failing` get `status`."""

    def __init__(self):
        self.repositories, self.objects, self.requested, self.messages = {}, {}, [], []
        self.failing, self.status = None, 503
        self.url = ""

    def environment(self, home, token=None):
        """What the environment of a process must have that talks to this hub; its cache is in the folder `home`."""
        offline = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "no_proxy": "127.0.0.1"}
        return {**offline, **own, "HF_TOKEN": token or ""}


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def _authorized(self):
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def _answer(self, status, body=b"", head=False, **headers):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if not head:
                self.wfile.write(content)

        def _body(self):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _handle(self):
            path = unquote(urlsplit(self.path).path)
            hub.requested.append(f"{self.command} {path}")
            body = self._body()
            if hub.failing and re.search(hub.failing, path):
                self._answer(hub.status, {"error": "broken"}, self.command == "HEAD")
                return
            for pattern, method in ROUTES:
                if found := re.fullmatch(pattern, f"{self.command} {path}"):
                    method(self, body, *found.groups())
                    return
            self._answer(404, {"error": "no such route"}, self.command == "HEAD")

        do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815  # names of the base class

        def _known(self, name):
            """The repository, if the caller may see it; otherwise the error is sent."""
            repository = hub.repositories.get(name)
            if repository is None or (repository.private and not self._authorized()):
                head = self.command == "HEAD"
                status = 404 if self._authorized() else 401
                self._answer(status, {"error": "Repository not found"}, head, X_Error_Code="RepoNotFound")
                return None
            return repository

        def resolve(self, _body, name, revision, file):
            if (repository := self._known(name)) is None:
                return
            head = self.command == "HEAD"
            files = repository.files(revision)
            if files is None:
                self._answer(404, {"error": "x"}, head, X_Error_Code="RevisionNotFound")
                return
            commit = repository.tags.get(revision, revision)
            if file not in files:
                self._answer(404, {"error": "x"}, head, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
                return
            digest = hashlib.sha256(files[file]).hexdigest()
            self._answer(200, files[file], head, ETag=f'"{digest}"', X_Repo_Commit=commit)

        def info(self, _body, name, revision="main"):
            if (repository := self._known(name)) is not None:
                sha = repository.tags.get(revision, revision)
                known = {"id": name, "private": repository.private, "sha": sha, "siblings": [], "tags": []}
                self._answer(200, known)

        def create(self, body):
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'user'}/{asked['name']}"
            if not self._authorized():
                self._answer(401, {"error": "Invalid username or password."})
            elif name in hub.repositories:
                self._answer(409, {"error": "exists", "url": f"{hub.url}/{name}"})
            else:
                private = asked.get("private") or asked.get("visibility") == "private"
                hub.repositories[name] = Repository(bool(private))
                self._answer(200, {"url": f"{hub.url}/{name}", "name": name, "id": name})

        def validate(self, body):
            head = json.loads(body)["content"].split("---")[1]
            self._answer(200, {"errors": [], "warnings": []} if head else {"errors": [{"message": "no head"}]})

        def preupload(self, body, name, _revision):
            if self._known(name) is not None:
                files = [
                    {"path": each["path"], "uploadMode": _mode(each["path"]), "shouldIgnore": False, "oid": None}
                    for each in json.loads(body)["files"]
                ]
                self._answer(200, {"files": files})

        def batch(self, body, _name):
            objects = [
                {
                    "oid": each["oid"],
                    "size": each["size"],
                    "actions": {"upload": {"href": f"{hub.url}/objects/{each['oid']}"}},
                }
                for each in json.loads(body)["objects"]
            ]
            self._answer(200, {"transfer": "basic", "objects": objects})

        def store(self, body, digest):
            assert hashlib.sha256(body).hexdigest() == digest
            hub.objects[digest] = body
            self._answer(200)

        def commit(self, body, name, _revision):
            if (repository := self._known(name)) is None:
                return
            if not self._authorized():
                self._answer(403, {"error": "forbidden"})
                return
            files = {}
            for line in body.decode().splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "header":
                    hub.messages.append(value["summary"])
                elif entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
            made = repository.commit(files)
            url = f"{hub.url}/{name}/commit/{made}"
            self._answer(200, {"success": True, "commitOid": made, "commitUrl": url})

    ROUTES = [  # noqa: N806  # a table
        (r"POST /api/repos/create", Handler.create),
        (r"POST /api/validate-yaml", Handler.validate),
        (r"(?:GET|HEAD) /([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", Handler.resolve),
        (r"GET /api/models/([\w.-]+/[\w.-]+)", Handler.info),
        (r"GET /api/models/([\w.-]+/[\w.-]+)/revision/([^/]+)", Handler.info),
        (r"POST /api/models/([\w.-]+/[\w.-]+)/preupload/([^/]+)", Handler.preupload),
        (r"POST /([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", Handler.batch),
        (r"PUT /objects/([0-9a-f]{64})", Handler.store),
        (r"POST /api/models/([\w.-]+/[\w.-]+)/commit/([^/]+)", Handler.commit),
    ]
    return Handler


def _mode(path):
    return "lfs" if path.endswith((".safetensors", ".png")) else "regular"


@contextmanager
def hub_server():
    """Yield a running `Hub` without repositories."""
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub)) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
