"""What the guides show works: commands, settings, addresses, bodies and names of metrics."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import typer
import yaml
from pydantic import BaseModel

from tests.exported import exported
from tests.unit.test_dashboard import WORDS, words
from training_cluster.api.app import create_app
from training_cluster.api.auth import Access
from training_cluster.api.schemas import TrainRequest
from training_cluster.cli.main import build
from training_cluster.domain.event import NOTIFIED, EventType
from training_cluster.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
NAMES = (
    "slack", "mlflow", "wandb", "prometheus", "following", "storage", "service", "upgrading",
    "container", "security", "sharing", "access", "datasets", "dialects",
    "openai", "lamini", "vertesia",
)  # fmt: skip
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in NAMES}
PAGES["README"] = (ROOT / "README.md").read_text()
SHOWN_SETTINGS = ROOT / "configs" / "training_cluster.toml"


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


def lines_of(page: str) -> Iterator[str]:
    """Shell commands, those of several lines put together."""
    for block in blocks(page, "bash"):
        pending = ""
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            pending += line + "\n"
            if pending.count("'") % 2 == 0:
                yield pending.strip()
                pending = ""
        assert not pending, f"{page}: a quote is not closed"


def commands() -> Iterator[tuple[str, str]]:
    """Every command line that is shown, in blocks and in running text."""
    for page, text in PAGES.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        inline = re.findall(r"`(training-cluster [^`]+)`", " ".join(prose.split()))
        for line in (*lines_of(page), *inline):
            if line.startswith("training-cluster "):
                yield page, line


def option_names(command: Any) -> set[str]:
    pairs = ((*each.opts, *each.secondary_opts) for each in command.params)
    return {name for pair in pairs for name in pair} | {"--help"}


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_every_command_that_is_shown_exists_with_its_options(page, line):
    rest = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(build())
    while hasattr(command, "commands") and rest:
        assert rest[0] in command.commands, f"{page}: there is no {rest[0]!r} in {line}"
        command, rest = command.commands[rest[0]], rest[1:]
    if "--" in rest:  # what follows is for `serve`
        test_every_command_that_is_shown_exists_with_its_options(
            page, shlex.join(["training-cluster", "serve", *rest[rest.index("--") + 1 :]])
        )
        rest = rest[: rest.index("--")]
    context = command.make_context("shown", list(rest)) if rest else None
    options = {word.partition("=")[0] for word in rest if word.startswith("-")}
    assert options <= option_names(command), page
    assert context is None or not context.args
    assert command.help, "`--help` has something to say"


def sections() -> dict[str, type[BaseModel]]:
    """The settings that are sections, by name."""
    fields = Settings.model_fields.items()
    kinds = {name: field.annotation for name, field in fields}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_is_named_exists(page):
    known = sections()
    for section, name in re.findall(r"`(\w+)\.(\w+)`", PAGES[page]):
        job_says = section == "tracking" and name in TrainRequest.model_fields[
            "tracking"
        ].annotation.__args__[0].model_fields  # fmt: skip
        is_event = f"{section}.{name}" in {kind.value for kind in EventType}
        if section in known and not job_says and not is_event:
            assert name in known[section].model_fields, f"{section}.{name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_settings_file_that_is_shown_is_valid(page, tmp_path):
    for block in blocks(page, "toml"):
        file = tmp_path / "shown.toml"
        file.write_text(block)
        load_settings(file)


def shown_settings() -> Iterator[tuple[str, str, Any]]:
    """Section, name and value of every line of the shown settings file."""
    section = ""
    for line in SHOWN_SETTINGS.read_text().splitlines():
        if line.startswith("["):
            section = next(iter(tomllib.loads(line)))
        found = re.match(r"# (\w+) = ", line)
        if found:
            yield section, found[1], tomllib.loads(line.removeprefix("# "))[found[1]]


def test_the_shown_settings_file_has_every_setting_with_its_default():
    defaults = Settings.model_construct().model_dump(mode="json")
    shown = {(section, name): value for section, name, value in shown_settings()}
    parts = sections()
    expected = {("", name) for name in Settings.model_fields if name not in parts}
    for section, kind in parts.items():
        expected |= {(section, name) for name in kind.model_fields}
    assert shown.keys() == expected
    for (section, name), value in shown.items():
        default = defaults[section][name] if section else defaults[name]
        is_path = isinstance(default, str) and default.startswith("/")
        is_folders = isinstance(value, list) and any("<" in str(item) for item in value)
        if default is not None and not is_path and not is_folders:
            assert value == default, name


@cache
def documented_routes() -> dict[tuple[str, str], set[str]]:
    """Query parameters by method and path."""

    def never() -> Any:
        raise AssertionError

    document = create_app(never, Access("local", never)).openapi()  # type: ignore[arg-type]
    return {
        (method.upper(), path): {
            each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def requests() -> Iterator[tuple[str, str, str]]:
    """Page, method and address of every request that is shown with curl."""
    for page in PAGES:
        for line in lines_of(page):
            if line.startswith("curl ") and "://" in line:  # not an address that an answer gave
                words = shlex.split(line)
                method = words[words.index("-X") + 1] if "-X" in words else "GET"
                yield page, method, next(word for word in words if "://" in word)


def matches(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


@pytest.mark.parametrize(("page", "method", "address"), list(requests()))
def test_every_address_that_is_shown_is_answered(page, method, address):
    parts = urlsplit(address)
    queries = [
        names
        for (verb, template), names in documented_routes().items()
        if verb == method and matches(template, parts.path)
    ]
    assert queries, f"{page}: nothing answers {method} {parts.path}"
    assert any(parse_qs(parts.query).keys() <= names for names in queries), address


@pytest.mark.parametrize("page", NAMES)
def test_every_route_that_is_named_exists(page):
    known = documented_routes()
    for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]*)`", PAGES[page]):
        found = any(verb == method and matches(route, path) for verb, route in known)
        assert found or (method, path) in known, f"{method} {path}"


@pytest.mark.parametrize("page", PAGES)
def test_every_job_that_is_shown_is_valid(page):
    bodies = [block for block in blocks(page, "json") if "tracking" in block]
    for line in lines_of(page):
        words = shlex.split(line, comments=True)
        if "-d" in words and any(urlsplit(word).path == "/train" for word in words):
            bodies.append(words[words.index("-d") + 1])
    for body in bodies:
        TrainRequest.model_validate(json.loads(body))


def test_the_slack_guide_lists_exactly_the_events_that_are_sent():
    rows = re.findall(r"^\| (`(?:job|device)\.[^|]*) \|", PAGES["slack"], re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert listed == {kind.value for kind in NOTIFIED}


def table_of_metrics() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric in the table of the Prometheus guide."""
    rows = re.findall(
        r"^\| `(training_cluster_\w+)` \| (\w+) \|([^|]*)\|", PAGES["prometheus"], re.MULTILINE
    )
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_prometheus_guide_lists_exactly_what_is_exported():
    ours = {name: labels for name, labels in exported().items() if name.startswith("training_")}
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    listed = {
        name + suffix: labels
        for name, (kind, labels) in table_of_metrics().items()
        for suffix in suffixes.get(kind, ("",))
    }
    assert listed == ours


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_that_is_named_is_exported(page):
    known = exported().keys() | table_of_metrics().keys()
    named = re.findall(r"`((?:training_cluster|process)_[a-z_]+)`", PAGES[page])
    assert set(named) <= known


def test_every_alert_asks_for_what_is_exported():
    rules = [
        rule
        for block in blocks("prometheus", "yaml")
        for group in yaml.safe_load(block).get("groups", ())
        for rule in group["rules"]
    ]
    assert len(rules) >= 5
    for rule in rules:
        names = words(rule["expr"]) - WORDS - {"instance", "le", "up"}
        metrics = names & exported().keys()
        labels = {label for name in metrics for label in exported()[name]} | {"job"}
        assert metrics or "up" in words(rule["expr"]), rule["alert"]
        assert names - metrics <= labels, rule["alert"]


def test_links_between_pages_lead_somewhere():
    for name in NAMES:
        for link in re.findall(r"\]\(([^):#]+)\)", PAGES[name]):
            assert (ROOT / "docs" / link).resolve().exists(), f"{name}: {link}"


def test_every_test_that_vouches_for_a_promise_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)`", PAGES["security"])
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []
