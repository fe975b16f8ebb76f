"""The Grafana dashboard asks only for what /metrics exports, and is laid out without overlap."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exported import exported

DASHBOARD = Path(__file__).parents[2] / "configs" / "grafana-dashboard.json"
WORDS = {
    *("by", "on", "and", "or", "sum", "min", "max", "count", "rate", "increase", "vector"),
    *("histogram_quantile", "label_values"),
}
FROM_PROMETHEUS = {"instance", "job", "le"}  # labels nobody exports under these names


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def expressions() -> Iterator[tuple[str, str]]:
    """Title and PromQL of every query, those of variables included."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def words(expression: str) -> set[str]:
    """Names in an expression: quoted text, durations, variables and numbers are none."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]', "", expression)
    return set(re.findall(r"(?<![\w$.])[a-zA-Z_]\w*", bare))


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_every_name_in_a_query_is_exported(title, expression):
    names = words(expression) - WORDS
    metrics = names & exported().keys()
    assert metrics, f"{title} asks for nothing"
    labels = set().union(*(exported()[name] for name in metrics)) | FROM_PROMETHEUS
    assert names - metrics <= labels, title
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


def test_everything_that_is_exported_is_shown():
    asked = set().union(*(words(expression) for _, expression in expressions()))
    base = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    ours = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in exported()
        if name.startswith("training_cluster_")
    }
    seen_otherwise = {"training_cluster_jobs"}  # states: the queue and attempts say more
    assert ours - base <= seen_otherwise


def test_legends_name_labels_that_are_there():
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            metrics = words(target["expr"]) & exported().keys()
            labels = set().union(*(exported()[name] for name in metrics)) | FROM_PROMETHEUS
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels


def test_it_works_with_whatever_the_data_source_is_called():
    document = dashboard()
    text = json.dumps([document["panels"], document["templating"]])
    assert set(re.findall(r'"type": "prometheus", "uid": "([^"]*)"', text)) == {"${datasource}"}
    variables = {variable["name"] for variable in document["templating"]["list"]}
    assert set(re.findall(r"\$(?!__)\{?(\w+)", text)) <= variables
    assert document["id"] is None, "an id would replace somebody's dashboard"
    assert document["schemaVersion"] >= 39


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
