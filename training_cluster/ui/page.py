"""The front page for browsers: devices, queue and latest jobs as plain HTML.

No script and nothing loaded from elsewhere, so that it runs under the strictest content policy;
every value is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

_GIB = 1024**3
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #2f7d4f; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } a { color: inherit; }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; } th { font-weight: 600; } td.number { font-variant-numeric: tabular-nums; }
.state { border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem; }
.free, .completed, .running { color: var(--accent); } .failed, .faulty { color: #c0392b; }
progress { width: 8rem; accent-color: var(--accent); } .empty { opacity: .7; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: .25rem; }
"""
_CURL = (
    "curl -X POST {origin}/train -H 'Content-Type: application/json' "
    '-d \'{{"dataset_version": "v1.0"}}\''
)


def overview_page(
    about: Mapping[str, Any],
    queue: Mapping[str, Any],
    recent: Sequence[Mapping[str, Any]],
    origin: str,
    who: str,
) -> str:
    """The page, from the same values the JSON API gives."""
    sections = [
        _section("Devices", ("Device", "Standing", "Memory", "Load", ""), _devices(queue)),
        _section("Running", ("Job", "User", "Model", "State", "Progress"), _running(queue)),
        _section("Waiting", ("", "Job", "Priority", "Devices", "Why it waits"), _waiting(queue)),
        _section("Latest jobs", ("Job", "User", "Model", "State", "Loss", ""), _latest(recent)),
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>training-cluster</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5"><style>{_STYLE}</style></head><body>
<header><h1>training-cluster <small>{escape(about["version"])}</small></h1>
<p>{_headline(about)}</p>
<p><code>{escape(_CURL.format(origin=origin))}</code></p>
<p><a href="docs">API documentation</a> · <a href="queue">queue as JSON</a> ·
<a href="login">{_name(who)}</a></p></header>
{"".join(sections)}</body></html>"""


def _headline(about: Mapping[str, Any]) -> str:
    text = f"{about['running']} running, {about['queue_length']} waiting"
    note = about["device_note"]
    return escape(text + (f" · {note}" if note else ""))


def _section(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return f"<section><h2>{title}</h2><p class='empty'>none</p></section>"
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<section><h2>{title}</h2><div class='table'>{table}</div></section>"


def _state(word: str) -> str:
    return f"<span class='state {escape(word)}'>{escape(word)}</span>"


def _name(text: object) -> str:
    """A name somebody chose, kept from turning the text around it."""
    return f"<bdi>{escape(str(text))}</bdi>"


def _job(view: Mapping[str, Any]) -> str:
    return f"<a href='train/{escape(view['job_id'])}'>{view['number']}</a>"


def _devices(queue: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            _name(f"{device['kind'].upper()} {device['index']} · {device['name']}"),
            _state(device["standing"]),
            _memory(device),
            _percent(device["utilization_percent"]),
            _name(device["reason"]),
        ]
        for device in queue["devices"]
    ]


def _memory(device: Mapping[str, Any]) -> str:
    total, used = device["total_memory_bytes"], device["used_memory_bytes"]
    if not total:
        return ""
    text = f"{total / _GIB:.0f} GiB"
    return text if used is None else f"{used / _GIB:.1f} of {text}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"


def _running(queue: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            _job(job),
            _name(job["user"]),
            _name(job["model_name"]),
            _state(job["status"]),
            _progress(job["progress"]),
        ]
        for job in queue["running"]
    ]


def _progress(progress: Mapping[str, Any] | None) -> str:
    if progress is None:
        return ""
    step, total = progress["step"], progress["total_steps"]
    return f"<progress value='{step}' max='{max(total, 1)}'></progress> {step}/{total}"


def _waiting(queue: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            str(job["queue_position"]),
            _job(job),
            str(job["priority"]),
            str(job["gpus"]),
            _name(job["wait_reason"]["message"]),
        ]
        for job in queue["queued"][:100]
    ]


def _latest(recent: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [
        [
            _job(job),
            _name(job["user"]),
            _name(job["config"]["model_name"]),
            _state(job["status"]),
            _loss(job),
            _name(job["error"]["code"] if job["error"] else _when(job["end_time"])),
        ]
        for job in recent
    ]


def _loss(job: Mapping[str, Any]) -> str:
    loss = (job["metrics"] or {}).get("train/loss")
    return "" if loss is None else f"{loss:.4g}"


def _when(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
