"""Dashboard and alert rules ask only for what a live server tells, and the dashboard leaves nothing of it out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from policy.null import NullPolicy, null_spec
from policy.observation import Observation
from service.running import RunningServer
from service.wire import msgpack_codec
from service.wire.messages import ActRequest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "tinyvla.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "tinyvla-alerts.yml").read_text())["groups"][0]["rules"]
NAME = re.compile(r"\b((?:tinyvla|process)_\w+)")
LABEL = re.compile(r'(\w+)\s*(?:!=|=~|!~|=)\s*"')


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def queries() -> list[str]:
    variables = [one["definition"] for one in DASHBOARD["templating"]["list"] if "definition" in one]
    return dashboard_queries() + variables + [rule["expr"] for rule in RULES]


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """Metric -> labels, from a server that has answered and refused."""
    headers = {"content-type": msgpack_codec.CONTENT_TYPE}
    image = np.zeros((16, 16, 3), np.uint8)
    body = msgpack_codec.encode_request(ActRequest(Observation({"corner4": image}, np.zeros(4, np.float32))))
    with RunningServer(lambda: NullPolicy(null_spec(size=16))) as server:
        for content in (body, b"\xc1"):
            httpx.post(f"{server.http_url}/act", content=content, headers=headers, timeout=30)
        text = httpx.get(f"{server.http_url}/metrics", timeout=30).text
    return {
        sample.name: {label for s in family.samples if s.name == sample.name for label in s.labels}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_a_server_tells(query: str, told: dict[str, set[str]]) -> None:
    names = set(NAME.findall(query))
    if not names:
        assert query.startswith("up{")
    assert names - told.keys() == set()
    given = set().union({"job", "instance", "le"}, *(told[name] for name in names))
    assert set(LABEL.findall(query)) - given == set()


def test_the_dashboard_shows_every_metric_of_ours(told: dict[str, set[str]]) -> None:
    shown = {name for query in dashboard_queries() for name in NAME.findall(query)}
    families = {re.sub(r"_(total|bucket|count|sum|created)$", "", name) for name in shown}
    ours = {
        re.sub(r"_(total|bucket|count|sum|created)$", "", name)
        for name in told
        if name.startswith("tinyvla_")
    }
    assert ours - families == set()


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 5
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_panels_have_unlike_ids_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_scraper_s_example_names_the_rules_and_the_path() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["tinyvla-alerts.yml"]
    [job] = config["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("tinyvla", "/metrics")
