"""Stands in for zrok, whose network cannot be had in a test: says what the real one says and
forwards as it does, keeping Host and adding X-Proxy, from a port of this machine.

usage: [zrok|zrok2] status | share public TARGET ... [--headless] | share public --help
What it is called by decides its version. Its folder has `calls` (its words, a line a call), `port`
(where it forwards from), `unshared` (once it took a share back); a file `disabled`, `refuse` or
`end` there makes it be so.
"""

import http.client
import http.server
import json
import os
import signal
import sys
import threading
import time
from urllib.parse import urlsplit

HERE = os.path.dirname(os.path.abspath(sys.argv[0]))
IS_2 = os.path.basename(sys.argv[0]) == "zrok2"


def has(name):
    return os.path.exists(os.path.join(HERE, name))


def note(name, text):
    with open(os.path.join(HERE, name), "a") as file:
        file.write(text + "\n")


class Forward(http.server.BaseHTTPRequestHandler):
    target = ""

    def do_GET(self):
        upstream = http.client.HTTPConnection(self.target, timeout=10)
        headers = {**dict(self.headers), "X-Proxy": "zrok"}
        upstream.request(self.command, self.path, headers=headers)
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(f"{self.client_address[0]} -> {self.command} {self.path}", flush=True)

    def log_message(self, *_):
        pass


def say_address(host):
    """Version 1 writes text to a pipe when told so, version 2 JSON without the scheme."""
    said = "access your zrok share at the following endpoints:\n "
    if IS_2:
        source = {"function": "main.(*sharePublicCommand).shareLocal", "line": 281}
        line = {"time": "2026-10-03T22:44:05Z", "level": "INFO", "source": source}
        print(json.dumps({**line, "msg": said + host}), file=sys.stderr, flush=True)
    else:
        prefix = "[   0.069]    INFO main.(*sharePublicCommand).run: "
        print(f"{prefix}{said}https://{host}", file=sys.stderr, flush=True)


def share(words):
    if "--help" in words:
        print("Flags:\n      --force-local   Skip agent detection and force local mode")
        return 0
    if has("refuse"):
        print("[ERROR]: unable to create share (the name is held by another)", file=sys.stderr)
        return 2
    Forward.target = urlsplit(words[words.index("public") + 1]).netloc
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    note("port", str(server.server_port))
    signal.signal(signal.SIGINT, lambda *_: stop(0))
    signal.signal(signal.SIGTERM, lambda *_: stop(0))
    say_address(f"share{os.getpid()}.shares.zrok.io")
    while not has("end"):
        time.sleep(0.02)
    os.unlink(os.path.join(HERE, "end"))
    print('{"level":"ERROR","msg":"the network has gone"}', flush=True)
    return 1


def stop(code):
    note("unshared", str(os.getpid()))
    os._exit(code)


def main():
    note("calls", json.dumps({"words": sys.argv[1:], "environment": sorted(os.environ)}))
    if sys.argv[1] == "status":
        print("Environment:\n\n Account Token  <<SET>>" if not has("disabled") else "Config:\n")
        return 0
    return share(sys.argv[2:])


sys.exit(main())
