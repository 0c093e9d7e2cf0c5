"""Kaggle, Google storage, the Hugging Face hub with a CDN, a plain web server, one with TLS and a proxy, on loopback, for tests.

    servers.py ROOT [--tls CERT KEY] [--kaggle-port N]

ROOT/kaggle/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION/FILE, ROOT/storage/BUCKET/NAME, ROOT/hub/OWNER/REPO/FILE, ROOT/hub/datasets/OWNER/REPO/FILE and ROOT/web/FILE hold what
is served; ROOT/storage/BUCKET.names may hold further names, one a line, that listings show. Writes ROOT/ports (NAME=PORT lines) when
ready. Faults are posted to any server: POST /control [{"role","match","do",...,"times"}]; GET /control answers the log of requests.
A request with credentials that reaches the storage, the CDN or the web servers is noted in ROOT/violations.
"""
import base64
import email.utils
import gzip
import hashlib
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK = threading.Lock()
FAULTS, LOG, SUMS, PORTS = [], [], {}, {}
STATE = {"signature": 1}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ACCOUNTS = {"Basic " + base64.b64encode(b"alice:secret").decode(): "good", "Bearer kaggle_good": "good",
            "Basic " + base64.b64encode(b"bob:secret").decode(): "no consent", "Bearer hf_good": "good", "Bearer hf_nolicence": "no consent"}


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack(">I", crc ^ 0xFFFFFFFF)


def sums(path):
    """size, md5, crc32c (base64; none for large files, which Python is too slow for), sha256, git sha1 (hex)"""
    st = os.stat(path)
    key = (path, st.st_mtime_ns, st.st_size)
    if key not in SUMS:
        md5, sha256, git = hashlib.md5(), hashlib.sha256(), hashlib.sha1(b"blob %d\0" % st.st_size)
        with open(path, "rb") as f:
            while chunk := f.read(1 << 20):
                md5.update(chunk), sha256.update(chunk), git.update(chunk)
        crc = None
        if st.st_size <= 1 << 16:
            with open(path, "rb") as f:
                crc = base64.b64encode(crc32c(f.read())).decode()
        SUMS[key] = {"size": st.st_size, "md5": base64.b64encode(md5.digest()).decode(), "crc32c": crc, "sha256": sha256.hexdigest(),
                     "git": git.hexdigest(), "generation": str(st.st_mtime_ns // 1000)}
    return SUMS[key]


def take_fault(role, path, phase):
    """The first fault that fits, once less; phase "before" answers instead of the server, "body" changes how a file is sent."""
    with LOCK:
        for f in FAULTS:
            before = f["do"] in ("status", "redirect", "reset")
            if f["role"] == role and f.get("match", "") in path and f.get("times", 1) > 0 and before == (phase == "before"):
                if f.get("skip", 0) > 0:
                    f["skip"] -= 1
                    continue
                f["times"] = f.get("times", 1) - 1
                return f
    return None


def below(root, *parts):
    """A path under root, or None: names are not to lead out."""
    path = os.path.normpath(os.path.join(root, *parts))
    return path if path.startswith(os.path.normpath(root) + os.sep) and os.path.isfile(path) else None


def walk(folder):
    for base, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(base, name), folder)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = role = None

    def log_message(self, *args):
        pass

    # replies

    def reply(self, status, body=b"", ctype="application/json", headers=()):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        elif isinstance(body, str):
            body = body.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if body:
            self.send_header("Content-Type", ctype)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def before(self):
        fault = take_fault(self.role, self.path, "before")
        if not fault:
            return False
        if fault["do"] == "reset":
            self.reset()
            return True
        headers = [(k, v) for k, v in fault.get("headers", {}).items()]
        if fault.get("date"):
            headers.append(("Retry-After", email.utils.formatdate(time.time() + fault["date"], usegmt=True)))
        if fault["do"] == "redirect":
            self.reply(fault.get("status", 302), headers=[("Location", fault["to"].format(**PORTS))])
        else:
            self.reply(fault["status"], fault.get("body", ""), fault.get("ctype", "application/json"), headers)
        return True

    def file(self, path, headers=(), ctype="application/octet-stream", hashes=True):
        """A file with ranges, validators and x-goog-hash, as storage sends it."""
        fault = take_fault(self.role, self.path, "body") or {}
        do, info = fault.get("do"), sums(path)
        size, first = info["size"], 0
        etag = '"%s"' % info["md5"]
        head = [("Accept-Ranges", "bytes"), ("ETag", etag), ("Content-Type", ctype)] + list(headers)
        if hashes:
            head += [("X-Goog-Generation", info["generation"]), ("X-Goog-Stored-Content-Encoding", fault.get("stored", "identity"))]
            lines = fault.get("hashes", (["crc32c=" + info["crc32c"]] if info["crc32c"] else []) + ["md5=" + info["md5"]])
            head += [("X-Goog-Hash", line) for line in lines]
        if do == "anonymous":
            head = [h for h in head if h[0] not in ("ETag", "X-Goog-Hash", "X-Goog-Generation")]
        if do == "latin1":
            head[1] = ("ETag", '"caf\u00e9"')
        if fault.get("etag") == "weak":
            head[1] = ("ETag", "W/" + etag)
        elif fault.get("etag"):
            date = fault["etag"] if fault["etag"] != "now" else email.utils.formatdate(time.time(), usegmt=True)
            head[1] = ("Last-Modified", date)
            if self.headers.get("If-Modified-Since") == date:
                return self.reply(304, headers=[head[1]])
        if self.headers.get("If-None-Match") == etag:
            return self.reply(304, headers=[("ETag", etag)])
        want = self.headers.get("Range", "")
        status = 200
        if want.startswith("bytes=") and do != "ignore-range":
            first = int(want[6:].split("-")[0])
            last = want[6:].split("-")[1]
            if first >= size:
                return self.reply(416, "<Error><Code>InvalidRange</Code></Error>", "application/xml",
                                  [("Content-Range", "bytes */%d" % size), ("ETag", etag)])
            status = 206
            if last:
                size = min(size, int(last) + 1)
            start = first + (1 if do == "wrong-range" else 0)
            head.append(("Content-Range", "bytes %d-%d/%d" % (start, size - 1, info["size"])))
        length = size - first
        self.send_response(status)
        for name, value in head:
            self.send_header(name, value)
        if do == "gzip":
            with open(path, "rb") as f:
                body = gzip.compress(f.read())
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return self.wfile.write(body)
        if do in ("chunked", "chunked-cut"):
            self.send_header("Transfer-Encoding", "chunked")
        elif do in ("no-length", "anonymous"):
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length + fault.get("longer", 0)))
        self.end_headers()
        if self.command != "HEAD":
            self.send(path, first, length, do, fault)

    def send(self, path, first, length, do, fault):
        self.wfile.flush()
        with open(path, "rb") as f:
            f.seek(first)
            if do in ("cut", "rst", "chunked-cut", "no-length") and "at" in fault:
                part = f.read(max(0, min(length, fault["at"] - first if fault.get("absolute") else fault["at"])))
                if do == "chunked-cut":
                    part = b"%x\r\n%s\r\n" % (len(part), part)
                self.wfile.write(part)
                self.wfile.flush()
                if do == "rst":
                    time.sleep(0.05)
                    return self.reset()
                self.close_connection = True
            elif do == "corrupt":
                data = bytearray(f.read(length))
                data[-1] ^= 1
                self.wfile.write(data)
            elif do == "chunked":
                while chunk := f.read(65536):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.write(b"0\r\n\r\n")
            elif do == "drip":
                for _ in range(length):
                    self.wfile.write(f.read(1))
                    self.wfile.flush()
                    time.sleep(fault.get("every", 0.2))
            elif do == "rate":
                while chunk := f.read(fault["bytes_per_s"] // 20):
                    self.wfile.write(chunk)
                    time.sleep(0.05)
            elif isinstance(self.connection, ssl.SSLSocket):
                while chunk := f.read(1 << 18):
                    self.wfile.write(chunk)
            else:
                sent = 0
                while sent < length:
                    n = os.sendfile(self.connection.fileno(), f.fileno(), first + sent, length - sent)
                    if n == 0:
                        break
                    sent += n

    # requests

    def do_GET(self):
        try:
            self.route()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/control":
            with LOCK:
                FAULTS[:] = json.loads(body)
                LOG.clear()
            return self.reply(200, {})
        self.post = json.loads(body)
        self.do_GET()

    def route(self):
        if self.path == "/control":
            with LOCK:
                return self.reply(200, "".join(json.dumps(x) + "\n" for x in LOG), "text/plain")
        auth = self.headers.get("Authorization")
        with LOCK:
            LOG.append({"role": self.role, "method": self.command, "path": self.path, "range": self.headers.get("Range"), "auth": bool(auth),
                        "none_match": bool(self.headers.get("If-None-Match"))})
        if auth and self.role in ("storage", "web", "tls"):
            with open(os.path.join(self.root, "violations"), "a") as f:
                f.write("%s %s\n" % (self.role, self.path))
        if self.before():
            return
        url = urllib.parse.urlsplit(self.path)
        getattr(self, "role_" + self.role)(url.path, urllib.parse.parse_qs(url.query, keep_blank_values=True))

    def role_proxy(self, path, query):
        request = urllib.request.Request(self.path, headers={k: v for k, v in self.headers.items() if k.lower() in ("range", "user-agent")})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as r:
            self.reply(r.status, r.read(), r.headers.get("Content-Type", ""), [(k, v) for k, v in r.headers.items() if k in ("ETag", "X-Goog-Hash")])

    def role_web(self, path, query):
        found = below(os.path.join(self.root, "web"), urllib.parse.unquote(path).lstrip("/"))
        if not found:
            return self.reply(404, "<html>not here</html>", "text/html")
        self.file(found, hashes=False)

    role_tls = role_web

    # Kaggle

    def kaggle_refusal(self, owner_model):
        account = ACCOUNTS.get(self.headers.get("Authorization", ""))
        if self.headers.get("Authorization") and not account:
            return self.reply(401, {"code": 401, "message": "Unauthorized"}) or True
        if owner_model != "public/model" and not account:
            return self.reply(401, {"code": 401, "message": "Unauthorized"}) or True
        if owner_model != "public/model" and account == "no consent":
            return self.reply(403, {"code": 403, "message": "User has not consented to terms of use."}) or True
        return False

    def kaggle_get(self, folder):
        versions = sorted(int(v) for v in os.listdir(folder))
        self.reply(200, {"id": 1, "slug": os.path.basename(folder), "versionNumber": versions[-1]})

    def kaggle_files(self, folder, size, token):
        names = sorted(walk(folder))
        first = int(token or 0)
        page = names[first:first + size]
        more = str(first + size) if first + size < len(names) else ""
        self.reply(200, {"files": [{"name": n, "size": sums(os.path.join(folder, n))["size"], "creationDate": "2024-05-14T00:00:00Z"} for n in page],
                         "nextPageToken": more})

    def kaggle_download(self, folder, rel):
        path = below(folder, rel)
        if not path:
            return self.reply(404, {"code": 404, "message": "File not found"})
        where = urllib.parse.quote(os.path.relpath(path, os.path.join(self.root, "kaggle")))
        self.reply(302, headers=[("Location", "http://127.0.0.1:%d/kaggle-models-data/%s?X-Goog-Signature=s%d" % (PORTS["storage"], where, STATE["signature"]))])

    def role_kaggle(self, path, query):
        parts = [urllib.parse.unquote(p) for p in path.strip("/").split("/")]
        if self.command == "POST":
            return self.kaggle_service(parts[-2], parts[-1])
        if parts[:3] != ["api", "v1", "models"] or len(parts) < 8:
            return self.reply(404, "<html>no such page</html>", "text/html")
        folder = os.path.join(self.root, "kaggle", *parts[3:7])
        if not os.path.isdir(folder):
            return self.reply(403, {"code": 403, "message": "Permission 'models.get' was denied"})
        if parts[7] == "get":
            return self.kaggle_get(folder)
        folder = os.path.join(folder, parts[7])
        if not os.path.isdir(folder):
            return self.reply(404, {"code": 404, "message": "Not found"})
        if parts[8] == "files":
            return self.kaggle_files(folder, int(query.get("page_size", query.get("pageSize", ["25"]))[0]),
                                     query.get("pageToken", query.get("page_token", [""]))[0])
        if not self.kaggle_refusal("/".join(parts[3:5])):
            self.kaggle_download(folder, "/".join(parts[9:]))

    def kaggle_service(self, service, method):
        if service != "models.ModelApiService":
            return self.reply(200, {"message": "hello", "userName": "alice"})
        p = self.post
        framework = p.get("framework", "").removeprefix("MODEL_FRAMEWORK_").lower()
        folder = os.path.join(self.root, "kaggle", p["ownerSlug"], p["modelSlug"], framework, p["instanceSlug"])
        if not os.path.isdir(folder):
            return self.reply(404, {"code": 404, "message": "Not found"})
        if method == "GetModelInstance":
            return self.kaggle_get(folder)
        folder = os.path.join(folder, str(p.get("versionNumber", 1)))
        if not os.path.isdir(folder):
            return self.reply(404, {"code": 404, "message": "Not found"})
        if method == "ListModelInstanceVersionFiles":
            return self.kaggle_files(folder, p.get("pageSize", 25), p.get("pageToken", ""))
        if not self.kaggle_refusal(p["ownerSlug"] + "/" + p["modelSlug"]):
            self.kaggle_download(folder, p.get("path", ""))

    # storage and CDN

    def role_storage(self, path, query):
        parts = path.lstrip("/").split("/")
        if parts[0] == "kaggle-models-data":
            if query.get("X-Goog-Signature") != ["s%d" % STATE["signature"]]:
                return self.reply(403, "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access denied.</Message></Error>", "application/xml")
            found = below(os.path.join(self.root, "kaggle"), urllib.parse.unquote("/".join(parts[1:])))
            return self.file(found) if found else self.reply(404, "", "application/xml")
        if parts[0] == "cdn":
            for base in walk(os.path.join(self.root, "hub")):
                full = os.path.join(self.root, "hub", base)
                if sums(full)["sha256"] == parts[1]:
                    return self.file(full, hashes=False)
            return self.reply(404, "", "application/xml")
        if parts[0] == "download":
            parts = parts[1:]
        if parts[:3] == ["storage", "v1", "b"] and parts[4] == "o":
            bucket = urllib.parse.unquote(parts[3])
            if len(parts) == 5:
                return self.storage_list(bucket, query)
            return self.storage_object(bucket, urllib.parse.unquote(parts[5]), query)
        return self.storage_object(parts[0], urllib.parse.unquote("/".join(parts[1:])), query, xml=True)

    def storage_list(self, bucket, query):
        folder = os.path.join(self.root, "storage", bucket)
        if not os.path.isdir(folder):
            return self.storage_denied("storage.objects.list")
        names = set(walk(folder))
        extra = folder + ".names"
        if os.path.exists(extra):
            with open(extra, encoding="utf-8") as f:
                names |= set(f.read().splitlines())
        names = sorted(n for n in names if n.startswith(query.get("prefix", [""])[0]))
        first = int(query.get("pageToken", ["0"])[0] or 0)
        size = min(STATE.get("page", 1000), int(query.get("maxResults", ["1000"])[0]))
        page = {"kind": "storage#objects"}
        items = []
        for n in names[first:first + size]:
            path = below(folder, n)
            info = sums(path) if path else {"size": 0, "md5": "1B2M2Y8AsgTpgAmY7PhCfg==", "crc32c": "AAAAAA==", "generation": "1"}
            item = {"kind": "storage#object", "name": n, "bucket": bucket, "size": str(info["size"]), "generation": info["generation"], "md5Hash": info["md5"]}
            if info["crc32c"]:
                item["crc32c"] = info["crc32c"]
            items.append(item)
        if items:
            page["items"] = items
        if first + size < len(names):
            page["nextPageToken"] = str(first + size)
        self.reply(200, page)

    def storage_denied(self, permission):
        text = "Anonymous caller does not have %s access to the Google Cloud Storage bucket. Permission denied on resource (or it may not exist)." % permission
        self.reply(401, {"error": {"code": 401, "message": text, "errors": [{"message": text, "domain": "global", "reason": "required"}]}})

    def storage_object(self, bucket, name, query, xml=False):
        folder = os.path.join(self.root, "storage", bucket)
        if not os.path.isdir(folder):
            return self.storage_denied("storage.objects.get")
        path = below(folder, name)
        info = sums(path) if path else None
        if not path or query.get("generation", [info["generation"]])[0] != info["generation"]:
            if xml:
                return self.reply(404, "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>", "application/xml")
            return self.reply(404, "No such object: %s/%s" % (bucket, name), "text/html; charset=UTF-8")
        if xml or query.get("alt") == ["media"]:
            return self.file(path)
        self.reply(200, {"kind": "storage#object", "name": name, "bucket": bucket, "size": str(info["size"]), "generation": info["generation"],
                         "md5Hash": info["md5"], "crc32c": info["crc32c"], "contentType": "application/octet-stream"})

    # the hub

    def role_hub(self, path, query):
        parts = [urllib.parse.unquote(p) for p in path.strip("/").split("/")]
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            return self.hub_api(parts[2:4], parts[4:], query)
        if parts[:2] == ["api", "datasets"] and len(parts) >= 4:
            return self.hub_api(parts[1:4], parts[4:], query)
        if parts[:2] == ["api", "resolve-cache"] and parts[2:3] in (["models"], ["datasets"]):
            repo = parts[3:5] if parts[2] == "models" else parts[2:5]
            found = below(os.path.join(self.root, "hub"), *repo, "/".join(parts[6:]))
            return self.hub_small(found) if found else self.reply(404)
        n = 3 if parts[0] == "datasets" else 2
        if len(parts) >= n + 3 and parts[n] == "resolve":
            return self.hub_resolve(parts[:n], parts[n + 1], "/".join(parts[n + 2:]))
        self.reply(404, "<html></html>", "text/html")

    def hub_error(self, status, code, message):
        headers = ([("X-Error-Code", code)] if code else []) + [("X-Error-Message", message)]
        self.reply(status, {"error": message}, headers=headers)

    def hub_api(self, repo, rest, query):
        folder = os.path.join(self.root, "hub", *repo)
        if not os.path.isdir(folder):
            return self.hub_error(401, "RepoNotFound", "Invalid username or password.") if not self.headers.get("Authorization") else \
                self.hub_error(404, "RepoNotFound", "Repository not found")
        names = sorted(walk(folder))
        if rest[:1] != ["tree"]:
            rev = rest[1] if len(rest) > 1 else "main"
            if rev not in ("main", "float16", "refs/pr/1", COMMIT):
                return self.hub_error(404, "RevisionNotFound", "Invalid rev id: " + rev)
            return self.reply(200, {"id": "/".join(repo), "modelId": "/".join(repo), "sha": COMMIT, "private": False, "gated": False, "tags": [],
                                    "downloads": 0, "likes": 0, "siblings": [{"rfilename": n} for n in names]})
        first = int(query.get("cursor", ["0"])[0])
        out = []
        for n in names[first:first + 3]:
            info = sums(os.path.join(folder, n))
            item = {"type": "file", "path": n, "size": info["size"], "oid": info["git"]}
            if self.is_lfs(n):
                item["lfs"] = {"oid": info["sha256"], "size": info["size"], "pointerSize": 135}
            out.append(item)
        if first == 0:
            out.append({"type": "directory", "path": "x", "oid": "0" * 40, "size": 0})
        headers = []
        if first + 3 < len(names):
            headers.append(("Link", '<http://127.0.0.1:%d/api/%s/tree/%s?recursive=true&cursor=%d>; rel="next"'
                            % (PORTS["hub"], self.hub_kind(repo), rest[1], first + 3)))
        self.reply(200, out, headers=headers)

    @staticmethod
    def hub_kind(repo):
        return "/".join(repo if repo[0] == "datasets" else ["models", *repo])

    @staticmethod
    def is_lfs(name):
        return name.endswith((".safetensors", ".model", ".npz", ".jpg", ".png", ".tar"))

    def hub_small(self, path):
        info = sums(path)
        headers = [("X-Repo-Commit", COMMIT), ("Accept-Ranges", "bytes"), ("ETag", '"%s"' % info["git"])]
        with open(path, "rb") as f:
            self.reply(200, f.read(), "text/plain", headers)

    def hub_resolve(self, repo, rev, name):
        folder = os.path.join(self.root, "hub", *repo)
        full = "/".join(repo)
        account = ACCOUNTS.get(self.headers.get("Authorization", ""))
        if not os.path.isdir(folder):
            return self.hub_error(401 if not account else 404, "RepoNotFound", "Repository not found")
        if "gated" in repo and not account:
            return self.hub_error(401, "GatedRepo", "Access to model %s is restricted. You must have access to it and be authenticated to access it. Please log in." % full)
        if repo[0] == "gated" and account == "no consent":
            return self.hub_error(403, "GatedRepo", "Access to model %s is restricted and you are not in the authorized list." % full)
        path = below(folder, name)
        if not path:
            return self.hub_error(404, "EntryNotFound", "Entry not found")
        info = sums(path)
        if not self.is_lfs(name):
            where = "/api/resolve-cache/%s/%s/%s?etag=x" % (self.hub_kind(repo), COMMIT, urllib.parse.quote(name))
            return self.reply(307, headers=[("Location", where), ("X-Repo-Commit", COMMIT), ("X-Linked-Size", str(info["size"])),
                                            ("X-Linked-Etag", '"%s"' % info["git"])])
        self.reply(302, headers=[("Location", "http://127.0.0.1:%d/cdn/%s?Signature=s" % (PORTS["storage"], info["sha256"])), ("X-Repo-Commit", COMMIT),
                                 ("X-Linked-Size", str(info["size"])), ("X-Linked-Etag", '"%s"' % info["sha256"]), ("Accept-Ranges", "bytes"),
                                 ("X-Xet-Hash", "0" * 64)])


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        kind = sys.exc_info()[0]
        if not issubclass(kind, (ConnectionError, OSError, ValueError)):
            super().handle_error(request, client_address)


def main():
    root, args = sys.argv[1], sys.argv[2:]
    port = int(args[args.index("--kaggle-port") + 1]) if "--kaggle-port" in args else 0
    roles = ["kaggle", "storage", "hub", "web", "proxy"] + (["tls"] if "--tls" in args else [])
    for role in roles:
        handler = type(role, (Handler,), {"root": root, "role": role})
        server = Server(("127.0.0.1", port if role == "kaggle" else 0), handler)
        if role == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            at = args.index("--tls")
            context.load_cert_chain(args[at + 1], args[at + 2])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        PORTS[role] = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(os.path.join(root, "ports.new"), "w") as f:
        f.writelines("%s=%d\n" % (k, v) for k, v in PORTS.items())
    os.rename(os.path.join(root, "ports.new"), os.path.join(root, "ports"))
    parent = os.getppid()
    while os.getppid() == parent:  # a test that was killed is not to leave a server behind
        time.sleep(0.2)
        for name in ("signature", "page"):  # expired signatures, short pages
            try:
                with open(os.path.join(root, name)) as f:
                    STATE[name] = int(f.read())
            except (OSError, ValueError):
                pass


main()
