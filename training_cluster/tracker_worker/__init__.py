"""Tells one tracker, MLflow or W&B, what the daemon tells it; runs in an environment of its own.

Started as `python -I .../tracker_worker mlflow|wandb`; imports nothing of ours. It reads one JSON
object a line on stdin and answers each, by its `id`, on stdout:

    {"id", "op": "configure", "configuration": {...}}     the first one; `folder` and what the
                                                           tracker's module asks for
    {"id", "op": "open", "key", "run": {...}}              -> run_id, url, recorded, warning
    {"id", "op": "log", "key", "lines": [[position, step, time, {name: value}], ...]}
    {"id", "op": "finish", "key", "ending": {...}}
    {"id", "op": "ping"}
    answers: {"id", "ok": {...}} or {"id", "error": {"kind": "unavailable"|"refused", "message"}}

Requests of one key are done in order, those of different keys at the same time. The end of stdin
ends the process at once. It keeps nothing that a successor would need: runs are found again by
their key. `<folder>/<tracker>.lock` is held for life, so that there is one worker at a time.

Started as `python -I .../tracker_worker wandb sync DIRECTORY...` it uploads runs kept offline.
"""
