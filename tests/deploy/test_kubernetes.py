"""deploy/kubernetes: schemas, and each pod with the configuration that it gets there."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deployed import DEPLOY, documents, started_as, tool, unit_of

from flows.service.settings import SECRET_VARIABLES
from flows.service.supervisor import STOP_SECONDS
from flows.service.units import MAKERS

HERE = DEPLOY / "kubernetes"
OPERATOR = Path(__file__).parent / "dask_operator"
(KUSTOMIZATION,) = documents(HERE / "kustomization.yaml")
OBJECTS = [part for name in KUSTOMIZATION["resources"] for part in documents(HERE / name)]
HOME = "/var/lib/tilewright"
DASK = "kubernetes.dask.org/v1"


def name_of(part: dict[str, Any]) -> str:
    return f"{part['kind']}/{part['metadata']['name']}"


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pod's spec, named as its unit."""
    for part in OBJECTS:
        spec = part.get("spec", {})
        if "template" in spec:
            yield part["metadata"]["name"], spec["template"]["spec"]
        if part["kind"] == "DaskCluster":
            yield "scheduler", spec["scheduler"]["spec"]
            yield "workers", spec["worker"]["spec"]
        if part["kind"] == "DaskWorkerGroup":
            yield "gpu-workers", spec["worker"]["spec"]


PODS = dict(pods())


def environment_of(name: str) -> dict[str, str]:
    (container,) = PODS[name]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def secrets_of(name: str) -> dict[str, str]:
    return {
        item["path"]: f"of-{item['key']}:x"
        for volume in PODS[name]["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    }


def started(name: str, home: Path) -> Any:
    environment = {
        variable: value
        for variable, value in environment_of(name).items()
        if variable.startswith("TILEWRIGHT_")
    }
    return started_as(home, HERE / "service.yaml", environment, secrets_of(name))


def test_all_files_are_applied() -> None:
    applied = {"kustomization.yaml", "service.yaml", *KUSTOMIZATION["resources"]}
    assert applied == {path.name for path in HERE.iterdir()}


@pytest.mark.parametrize("part", [p for p in OBJECTS if p["apiVersion"] != DASK], ids=name_of)
def test_schema_of_kubernetes(part: dict[str, Any]) -> None:
    kubernetes_validate.validate(part, "1.30", strict=True)


@pytest.mark.parametrize("part", [p for p in OBJECTS if p["apiVersion"] == DASK], ids=name_of)
def test_schema_of_the_dask_operator(part: dict[str, Any]) -> None:
    jsonschema.validate(part, operator_schema(part["kind"]))


def test_unknown_keys_of_the_dask_operator_are_found() -> None:
    (part,) = documents(HERE / "gpu-workers.yaml")
    part["spec"]["worker"]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="replica"):
        jsonschema.validate(part, operator_schema(part["kind"]))


def operator_schema(kind: str) -> Any:
    """The operator's own, with no other keys; pods and services are checked apart."""
    (templates,) = documents(OPERATOR / "templates.yaml")
    definitions = templates["definitions"]
    if kind == "DaskWorkerGroup":
        (resource,) = documents(OPERATOR / "daskworkergroup.yaml")
        schema = resource["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    else:
        schema = definitions[f"dask.k8s.api.v1.{kind}"]

    def closed(part: Any) -> Any:
        if isinstance(part, list):
            return [closed(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            return closed(definitions[name]) if name in definitions else {"type": "object"}
        found = {key: closed(value) for key, value in part.items()}
        if part.get("type") == "object" and "properties" in part:
            found["additionalProperties"] = False
        return found

    top = closed(schema)
    top["properties"].update({"apiVersion": {}, "kind": {}, "metadata": {}})
    return top


@pytest.mark.parametrize("name", sorted(PODS))
def test_pods_are_valid_and_closed(name: str) -> None:
    spec = PODS[name]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": spec}
    kubernetes_validate.validate(pod, "1.30", strict=True)
    assert spec["automountServiceAccountToken"] is False
    # Variables that Kubernetes makes of services look like ours.
    assert spec["enableServiceLinks"] is False
    # What the level `restricted` of the namespace demands.
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec.get("terminationGracePeriodSeconds", 30) > STOP_SECONDS
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == set(container["resources"])
    volumes = [volume["name"] for volume in spec["volumes"]]
    if name == "postgres":
        volumes.append("data")
    assert sorted(mount["name"] for mount in container["volumeMounts"]) == sorted(volumes)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_unit_starts_with_what_it_is_given(name: str, tmp_path: Path) -> None:
    (container,) = PODS[name]["containers"]
    with started(name, tmp_path) as settings:
        unit = unit_of(settings, container["args"])
        passwords = settings.server.password, settings.server.database
        places = {*map(str, settings.archives), *map(str, settings.outputs)}
    assert container["args"][-1] == name
    asks = {"server": (True, True), "runner": (True, False), "pages": (True, False)}
    assert tuple(map(bool, passwords)) == asks.get(name, (False, False))
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    needs_keys = "--tls-key" in unit.command or name == "runner"
    assert (f"{HOME}/keys" in mounts) is needs_keys
    assert {HOME, "/tmp", "/etc/tilewright"} <= set(mounts)
    if name in ("workers", "gpu-workers", "runner"):
        assert places <= set(mounts)
        assert mounts["/archive"]["readOnly"]


def test_secrets_are_named_and_not_contained() -> None:
    assert not [part for part in OBJECTS if part["kind"] == "Secret"]
    keys = set()
    for spec in PODS.values():
        for volume in spec["volumes"]:
            secret = volume.get("secret")
            if secret is None:
                continue
            # With fsGroup, the group of the pod may read it, which `key_files` accepts of root's.
            assert secret["defaultMode"] == stat.S_IRUSR | stat.S_IRGRP
            assert secret["secretName"] in ("passwords", "keys")
            keys |= {(item["key"], item["path"]) for item in secret.get("items", [])}
    names = {name for name, _ in keys}
    assert all(name == path for name, path in keys)
    assert names - {"postgres_password"} <= {name.lower() for name in SECRET_VARIABLES}


def test_ports_and_addresses_are_those_of_the_configuration(tmp_path: Path) -> None:
    with started("server", tmp_path) as settings:
        pass
    cluster = next(part for part in OBJECTS if part["kind"] == "DaskCluster")
    services = {p["metadata"]["name"]: p["spec"] for p in OBJECTS if p["kind"] == "Service"}
    # The operator names it so.
    services[f"{cluster['metadata']['name']}-scheduler"] = cluster["spec"]["scheduler"]["service"]
    ports = {
        name: [port["port"] for port in service["ports"]] for name, service in services.items()
    }
    own = settings.cluster
    assert ports == {
        "server": [settings.server.port],
        "pages": [settings.pages.port],
        "postgres": [5432],
        "tilewright-scheduler": [own.port, own.dashboard_port],
    }
    for url in (settings.server.api_url, own.address):
        there = urlsplit(url)
        assert there.port in ports[str(there.hostname)]
    listening = {
        name: [port["containerPort"] for port in spec["containers"][0].get("ports", [])]
        for name, spec in PODS.items()
    }
    assert listening == {
        "server": [settings.server.port],
        "scheduler": [own.port, own.dashboard_port],
        "pages": [settings.pages.port],
        "postgres": [5432],
        "runner": [],
        "workers": [],
        "gpu-workers": [],
    }
    group = next(part for part in OBJECTS if part["kind"] == "DaskWorkerGroup")
    assert group["spec"]["cluster"] == cluster["metadata"]["name"]


def test_what_is_asked_for_its_health_answers_there(tmp_path: Path) -> None:
    with started("runner", tmp_path) as settings:
        port = settings.runs.health_port
    probes = {
        name: [spec["containers"][0].get(f"{kind}Probe") for kind in ("startup", "liveness")]
        for name, spec in PODS.items()
    }
    assert {name for name, found in probes.items() if not all(found)} == {"workers", "gpu-workers"}
    paths = {
        name: {probe["httpGet"]["path"] for probe in found}
        for name, found in probes.items()
        if all(found) and "httpGet" in found[0]
    }
    assert paths == {"server": {"/api/health"}, "scheduler": {"/health"}, "pages": {"/health"}}
    for probe in probes["runner"]:
        assert f"http://127.0.0.1:{port}/health" in probe["exec"]["command"][-1]


def test_only_the_namespace_reaches_the_scheduler() -> None:
    policies = {p["metadata"]["name"]: p["spec"] for p in OBJECTS if p["kind"] == "NetworkPolicy"}
    assert policies["inside"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {}}]}],
    }
    # The pages of the scheduler alone, not the port that runs code.
    (rule,) = policies.pop("operator")["ingress"]
    assert [port["port"] for port in rule["ports"]] == [8787]
    assert set(policies) == {"inside"}


def test_workers_have_the_names_that_the_operator_retires() -> None:
    for name in ("workers", "gpu-workers"):
        command = PODS[name]["containers"][0]["command"]
        assert command[-1] == "TILEWRIGHT_CLUSTER__WORKER_NAME=$(DASK_WORKER_NAME)"


def test_scheduler_answers_the_operator_over_http(tmp_path: Path) -> None:
    routes = yaml.safe_load(
        environment_of("scheduler")["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"]
    )
    import dask.config
    import distributed  # noqa: F401  its defaults

    defaults = dask.config.get("distributed.scheduler.http.routes")
    assert routes == [*defaults, "distributed.http.scheduler.api"]


def test_kustomize_builds_it() -> None:
    done = subprocess.run(
        [tool("kubectl"), "kustomize", HERE], capture_output=True, text=True, check=True
    )
    built = [part for part in yaml.safe_load_all(done.stdout) if part]
    assert len(built) == len(OBJECTS) + 1
    assert {part["metadata"].get("namespace") for part in built} == {None, "tilewright"}
    assert done.stdout.count("image: tilewright:0.1.0") == len(MAKERS)
