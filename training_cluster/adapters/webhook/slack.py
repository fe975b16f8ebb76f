"""Says a notification as a Slack message (Block Kit), and knows Slack's addresses."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from training_cluster.adapters.webhook import wording
from training_cluster.adapters.webhook.addresses import Target, refusal
from training_cluster.adapters.webhook.wording import Document, Failure

if TYPE_CHECKING:
    from slack_sdk.models.blocks import Block, MarkdownTextObject, PlainTextObject

HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")
_INCOMING = "/services/"

_MOST_IN_HEADER = 150
_MOST_IN_FIELD = 2000
_MOST_IN_SECTION = 3000
_MOST_FIELDS = 10
_MOST_IN_FALLBACK = 500
_MOST_IN_VALUE = 300
_MOST_IN_REASON = 900
_MOST_BARS = 200

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ZERO_WIDTH_SPACE = "\u200b"
_NOT_IN_LABEL = re.compile(r"[^\w&. -]")
_CALL = re.compile(r"@(?=(?:channel|here|everyone|group)\b)", re.IGNORECASE)
_SAFE_IN_LINK = "/:?=&%#+,;@~!$'()*[]-._"


def is_slack(target: Target) -> bool:
    """True for an incoming webhook of Slack. Raises InvalidRequest for Slack's other addresses,
    which do not take messages: a workflow's trigger wants variables of its own only."""
    if target.host not in HOSTS:
        return False
    if not target.path.startswith(_INCOMING):
        raise refusal(
            "it is an address of Slack, but not an incoming webhook",
            f"https://{HOSTS[0]}{_INCOMING}..., from Slack's page on incoming webhooks",
        )
    return True


def render(document: Document) -> bytes:
    """The message's JSON. Every value is inert: no mention, link or formatting can come of it."""
    message = {
        "text": escape(_fallback(document), _MOST_IN_FALLBACK),
        "blocks": [block.to_dict() for block in _blocks(document)],
        "unfurl_links": False,
        "unfurl_media": False,
    }
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def escape(text: str, most: int) -> str:
    """Text for Slack, at most so many characters long as escaped, cut between characters."""
    text = _CALL.sub(f"@{_ZERO_WIDTH_SPACE}", text)
    pieces: list[str] = []
    room = most
    for index, character in enumerate(text):
        piece = _ESCAPES.get(character, character)
        rest = 0 if index == len(text) - 1 else 1
        if len(piece) + rest > room:
            pieces.append("…" if room else "")
            break
        pieces.append(piece)
        room -= len(piece)
    return "".join(pieces)


def _blocks(document: Document) -> list[Block]:
    from slack_sdk.models.blocks import HeaderBlock

    title = f"{wording.emoji(document)} {wording.headline(document)}"
    failure = wording.failure(document)
    return [
        HeaderBlock(text=_plain(title, _MOST_IN_HEADER)),
        *_facts(document),
        *_curve(document),
        *_reason(document),
        *(_failure(failure) if failure else ()),
        *_links(document),
        *_footnote(document),
    ]


def _facts(document: Document) -> list[Block]:
    """Two columns: labels, and values that as plain text can neither format nor mention."""
    from slack_sdk.models.blocks import SectionBlock, TextObject

    fields: list[str | dict[str, str] | TextObject] = []
    for label, value in wording.facts(document):
        fields += [_markdown(f"*{label}*"), _plain(value, _MOST_IN_VALUE)]
    starts = range(0, len(fields), _MOST_FIELDS)
    return [SectionBlock(fields=fields[start : start + _MOST_FIELDS]) for start in starts]


def _reason(document: Document) -> list[Block]:
    return _section(wording.reason(document))


def _failure(failure: Failure) -> list[Block]:
    from slack_sdk.models.blocks import SectionBlock

    said = (f"Reason: {failure.code}", failure.message, failure.hint)
    blocks = _section("\n".join(text[:_MOST_IN_REASON] for text in said if text))
    code = _code(failure.lines)
    return [*blocks, SectionBlock(text=_markdown(code))] if code else blocks


def _curve(document: Document) -> list[Block]:
    from slack_sdk.models.blocks import SectionBlock

    bars = wording.sparkline(document)[:_MOST_BARS]
    return [SectionBlock(text=_markdown(f"*Loss curve*  {bars}"))] if bars else []


def _links(document: Document) -> list[Block]:
    from slack_sdk.models.blocks import SectionBlock

    text = ""
    for label, url in wording.links(document):
        link = f"<{_address(url)}|{_label(label)}>"
        if len(text) + len(link) + 3 <= _MOST_IN_SECTION:
            text += f" · {link}" if text else link
    return [SectionBlock(text=_markdown(text))] if text else []


def _footnote(document: Document) -> list[Block]:
    from slack_sdk.models.blocks import ContextBlock

    text = wording.footnote(document)
    return [ContextBlock(elements=[_plain(text, _MOST_IN_FIELD)])] if text else []


def _section(text: str) -> list[Block]:
    from slack_sdk.models.blocks import SectionBlock

    return [SectionBlock(text=_plain(text, _MOST_IN_SECTION))] if text else []


def _plain(text: str, most: int) -> PlainTextObject:
    from slack_sdk.models.blocks import PlainTextObject

    return PlainTextObject(text=escape(text, most), emoji=False)


def _markdown(text: str) -> MarkdownTextObject:
    """`verbatim` keeps Slack from finding addresses, channels and people in plain words."""
    from slack_sdk.models.blocks import MarkdownTextObject

    return MarkdownTextObject(text=text, verbatim=True)


def _code(lines: tuple[str, ...]) -> str:
    """The last lines that fit, as a code block they cannot end."""
    room = _MOST_IN_SECTION - len("```\n\n```")
    kept: list[str] = []
    for line in reversed(lines):
        text = escape(line.replace("``", f"`{_ZERO_WIDTH_SPACE}`"), _MOST_IN_VALUE)
        if len(text) + 1 > room:
            break
        room -= len(text) + 1
        kept.insert(0, text)
    return "```\n" + "\n".join(kept) + "\n```" if any(kept) else ""


def _address(url: str) -> str:
    """A URL that cannot end its link or begin another."""
    return quote(url, safe=_SAFE_IN_LINK, errors="replace").replace("&", "&amp;")


def _label(text: str) -> str:
    return escape(_NOT_IN_LABEL.sub(" ", text), 40)


def _fallback(document: Document) -> str:
    """What a phone shows: one sentence."""
    job = wording.part(document, "data", "job")
    about = [wording.one_line(job.get(key)) for key in ("user", "model_name")]
    known = ", ".join(word for word in about if word)
    failure = wording.failure(document)
    return (
        wording.headline(document)
        + (f" ({known})" if known else "")
        + (f": {failure.code}" if failure else "")
    )
