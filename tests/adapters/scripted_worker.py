"""A worker without a tracker: does what the key of a request says; stdlib only.

Keys: `plain...`, `refused`, `unavailable`, `die` (says why on stderr), `silent` (never answers),
`stopped` (stops the whole process), `garbage` (breaks the protocol), `child` (starts a process in
a session of its own, and has its pid as run id). Every request is noted in <folder>/requests.
"""

import json
import os
import signal
import subprocess
import sys


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "configure":
            folder = request["configuration"]["folder"]
        with open(f"{folder}/requests", "a") as notes:
            notes.write(line)
        result = behave(request)
        if result is not None:
            print(json.dumps({"id": request["id"], **result}), flush=True)


def behave(request: dict) -> dict | None:
    key = request.get("key", "")
    run_id = key
    if key in ("refused", "unavailable"):
        return {"error": {"kind": key, "message": "says the script"}}
    if key == "die":
        sys.stderr.write("the reason\n")
        os._exit(3)
    if key == "silent":
        return None
    if key == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if key == "garbage":
        print("hello", flush=True)
        return None
    if key == "child":
        child = subprocess.Popen(
            ["sleep", "600"], stdout=subprocess.DEVNULL, start_new_session=True
        )
        run_id = str(child.pid)
    return {"ok": {"run_id": run_id, "url": None, "recorded": None, "warning": None}}


main()
