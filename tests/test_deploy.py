"""The files in deploy/, as far as they can be checked where no container engine runs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from indexer.__main__ import main
from server.config import OPTIONS
from tests.support.project import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


@pytest.mark.slow
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_gets_all_that_it_needs_and_the_build_context_has_it() -> None:
    lines = re.findall(r"^COPY (?!--)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    copied = {name for line in lines for name in line.split()}
    assert copied == {"setup.cfg", "pyproject.toml", "constraints.txt", "README.md", "shared", "indexer", "server"}
    assert {f"!{name}" for name in copied} <= set((ROOT / ".dockerignore").read_text().split())


@pytest.mark.parametrize("resource", KUBERNETES, ids=lambda resource: resource["kind"])
def test_kubernetes_knows_every_field(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.slow
def test_no_service_sets_our_options() -> None:
    """Kubernetes puts `<NAME OF THE SERVICE>_PORT` into every container, which is SIMILARITY_PORT here."""
    (service,) = (each for each in KUBERNETES if each["kind"] == "Service")
    assert service["metadata"]["name"] == "similarity"
    (server,) = (each["spec"]["template"]["spec"] for each in KUBERNETES if each["kind"] == "Deployment")
    (indexer,) = (each["spec"]["jobTemplate"]["spec"]["template"] for each in KUBERNETES if each["kind"] == "CronJob")
    assert server["enableServiceLinks"] is indexer["spec"]["enableServiceLinks"] is False


def test_the_pod_stops_its_proxy_before_its_server_and_gives_both_the_time() -> None:
    (pod,) = (each["spec"]["template"]["spec"] for each in KUBERNETES if each["kind"] == "Deployment")
    proxy, server = pod["containers"]
    waits = [int(each["lifecycle"]["preStop"]["exec"]["command"][1]) for each in (proxy, server)]
    nginx = int(re.findall(r"worker_shutdown_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text())[0])
    assert waits[1] > waits[0] + nginx
    assert pod["terminationGracePeriodSeconds"] > waits[1] + 30  # gunicorn's graceful_timeout
    assert {"name": "proxy", "configMap": {"name": "similarity-proxy"}} in pod["volumes"]
    assert {"ip": "127.0.0.1", "hostnames": ["similarity"]} in pod["hostAliases"]
    (service,) = (each["spec"] for each in KUBERNETES if each["kind"] == "Service")
    assert [port["targetPort"] for port in service["ports"]] == [proxy["ports"][0]["name"]]


def test_systemd_tells_only_the_master_to_stop() -> None:
    """Workers that are told too would close the listener before the master lets nobody begin to connect."""
    assert "KillMode=mixed" in (DEPLOY / "similarity.service").read_text().splitlines()


def test_compose_has_the_store_the_indexer_and_two_servers_behind_a_proxy() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"s3", "indexer", "server1", "server2", "proxy"}
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert services["proxy"]["volumes"] == ["./nginx.conf:/etc/nginx/nginx.conf:ro"]
    for name in ("server1", "server2"):
        assert services[name]["networks"]["default"]["aliases"] == ["similarity"]
        assert "SIMILARITY_PROXY" in services[name]["environment"]
    assert [name for name, service in services.items() if "build" in service] == ["indexer", "server1"]
    assert services["indexer"]["image"] != services["server1"]["image"] == services["server2"]["image"]


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "kubernetes.yaml", "similarity.service"])
def test_every_variable_is_an_option(name: str) -> None:
    options = {str(option.envvar) for option in OPTIONS}
    for command in main.commands.values():
        options |= {str(each.envvar) for each in command.params if isinstance(each, click.Option)}
    assert set(re.findall(r"SIMILARITY_[A-Z_]+", (DEPLOY / name).read_text())) <= options
