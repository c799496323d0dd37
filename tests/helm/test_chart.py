"""What the chart renders; nothing is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm.conftest import CHART, Template, refusal, template_output
from services.helm import helm
from toolkeeper import __version__

pytestmark = pytest.mark.kubernetes
CRDS = Path(__file__).parents[2] / "crds"
EVERYTHING = {
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {}}],
                      "toolboxes": {"cidrs": ["10.0.0.0/8"]}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "watch": {"namespaces": ["blue", "green"]},
    "allowPrune": True,
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "imagePullSecrets": [{"name": "pull"}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"operator": "Exists"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "tools"},
    "priorityClassName": "high",
}  # fmt: skip


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_helm_lint_finds_nothing(values: dict[str, Any]) -> None:
    done = helm("lint", "--strict", str(CHART), "-f", "-", given=json.dumps(values))
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_the_chart_has_the_version_of_the_programs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_charts_definitions_are_those_of_crds() -> None:
    own = {file.name: file.read_text() for file in (CHART / "files" / "crds").iterdir()}
    assert own == {file.name: file.read_text() for file in CRDS.glob("*.yaml")}, "run `make crds`"


def test_rendering_adds_nothing_to_a_definition_but_labels_and_the_keep_policy(template: Template) -> None:
    rendered = {each["metadata"]["name"]: each for each in template().of("CustomResourceDefinition")}
    for file in CRDS.glob("*.yaml"):
        definition = yaml.safe_load(file.read_text())
        found = rendered.pop(definition["metadata"]["name"])
        assert found["metadata"].pop("labels")["app.kubernetes.io/managed-by"] == "Helm"
        assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert found == definition
    assert rendered == {}


def test_keeping_and_installing_the_definitions_can_be_switched_off(template: Template) -> None:
    loose = template({"crds": {"keep": False}}).of("CustomResourceDefinition")
    assert len(loose) == 3
    assert all("annotations" not in each["metadata"] for each in loose)
    assert template({"crds": {"install": False}}).of("CustomResourceDefinition") == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"replica": 3}, "additional properties 'replica' not allowed"),
        ({"image": {"repo": "x"}}, "additional properties 'repo' not allowed"),
        ({"networkPolicy": {"toolboxes": {"cidr": "x"}}}, "additional properties 'cidr' not allowed"),
        ({"watch": {"namespaces": "blue"}}, "want array"),
        ({"watch": {"namespaces": ["Blue"]}}, "does not match pattern"),
        ({"replicas": 0}, "minimum"),
        ({"log": {"level": "loud"}}, "must be one of"),
        ({"image": {"digest": "1234"}}, "does not match pattern"),
        ({"serviceAccount": {"create": False}}, "name the account to use"),
        ({"extraEnv": [{"nam": "PROXY"}]}, "missing property 'name'"),
        ({"imagePullSecrets": [{}]}, "missing property 'name'"),
        ({"fullnameOverride": "Tool_Keeper"}, "does not match pattern"),
        ({"serviceAccount": {"name": "Tool_Keeper"}}, "does not match pattern"),
        ({"networkPolicy": {"toolboxes": {"cidrs": ["somewhere"]}}}, "does not match pattern"),
        ({"podDisruptionBudget": {"minAvailable": "half"}}, "does not match pattern"),
        ({"podDisruptionBudget": {"minAvailable": 2}}, "give less than replicas"),
        ({"podDisruptionBudget": {"minAvailable": "100%"}}, "give less than replicas"),
    ],
)  # fmt: skip
def test_values_that_mean_nothing_are_refused(values: dict[str, Any], says: str) -> None:
    assert says in refusal(values)


def test_every_value_has_its_place_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert _undescribed(yaml.safe_load((CHART / "values.yaml").read_text()), schema) == []
    assert set(schema["properties"]) - {"global"} == set(yaml.safe_load((CHART / "values.yaml").read_text()))


def _undescribed(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    wrong = []
    for name, value in values.items():
        if name not in schema.get("properties", {}):
            wrong += [f"{path}{name}"] if schema.get("additionalProperties") is False else []
        elif isinstance(value, dict):
            wrong += _undescribed(value, schema["properties"][name], f"{path}{name}.")
    return wrong


def test_two_replicas_are_kept_apart_and_never_all_evicted(template: Template) -> None:
    rendered = template()
    deployment, budget = rendered.one("Deployment"), rendered.one("PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 2
    assert budget["spec"]["minAvailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    spread = rendered.pod["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert all(each["labelSelector"] == deployment["spec"]["selector"] for each in spread)


def test_a_single_replica_does_not_keep_its_node_from_being_drained(template: Template) -> None:
    assert template({"replicas": 1}).of("PodDisruptionBudget") == []


def test_the_selectors_find_the_operators_pods_and_not_those_of_the_job(template: Template) -> None:
    rendered = template(EVERYTHING)
    pod = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    job = rendered.one("Job")["spec"]["template"]["metadata"]["labels"].items()
    for wanted in (
        rendered.one("Service")["spec"]["selector"],
        rendered.one("Deployment")["spec"]["selector"]["matchLabels"],
        rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert wanted.items() <= pod
        assert not wanted.items() <= job
    walled = rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items()
    assert walled <= pod
    assert walled <= job


def test_the_probes_ask_the_port_that_the_operator_is_told(template: Template) -> None:
    container = template().container
    assert "--health-address=:8080" in container["args"]
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }


def test_the_container_runs_as_nobody_on_a_read_only_root(template: Template) -> None:
    pod = template().pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert template().container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_digest_goes_before_a_tag(template: Template) -> None:
    digest = f"sha256:{'a' * 64}"
    assert template().container["image"] == f"toolkeeper:{__version__}"
    assert template({"image": {"tag": "2"}}).container["image"] == "toolkeeper:2"
    assert template({"image": {"tag": "2", "digest": digest}}).container["image"] == f"toolkeeper@{digest}"


def test_namespaces_reach_the_operator_and_the_job(template: Template) -> None:
    rendered = template(EVERYTHING)
    [job] = rendered.one("Job")["spec"]["template"]["spec"]["containers"]
    for arguments in (rendered.container["args"], job["args"]):
        assert [each for each in arguments if each.startswith("--namespace")] == [
            "--namespace=blue",
            "--namespace=green",
        ]
    assert "--allow-prune" in rendered.container["args"]
    assert not [each for each in template().container["args"] if each.startswith("--namespace")]


def test_watching_some_namespaces_needs_no_right_beyond_them(template: Template) -> None:
    rendered = template(EVERYTHING)
    people = {"toolkeeper-admin", "toolkeeper-user"}
    assert {each["metadata"]["name"] for each in rendered.of("ClusterRole")} == people
    assert rendered.of("ClusterRoleBinding") == []
    assert {each["metadata"]["namespace"] for each in rendered.of("RoleBinding")} == {
        "tools",
        "blue",
        "green",
    }


def test_secrets_can_be_limited_to_namespaces(template: Template) -> None:
    limited = template({"rbac": {"secrets": {"namespaces": ["blue"]}}})
    everywhere = [rule for each in limited.of("ClusterRole") for rule in each["rules"]]
    assert [rule for rule in everywhere if "secrets" in rule["resources"]] == []
    assert limited.one("Role", "tk-toolkeeper-secrets")["metadata"]["namespace"] == "blue"


def test_every_binding_names_a_role_and_an_account_of_the_chart(template: Template) -> None:
    for values in ({}, EVERYTHING):
        rendered = template(values)
        roles = {(each["metadata"].get("namespace"), each["metadata"]["name"])
                 for kind in ("Role", "ClusterRole") for each in rendered.of(kind)}  # fmt: skip
        accounts = {each["metadata"]["name"] for each in rendered.of("ServiceAccount")}
        for each in rendered.of("RoleBinding") + rendered.of("ClusterRoleBinding"):
            assert (each["metadata"].get("namespace"), each["roleRef"]["name"]) in roles
            assert [subject["name"] in accounts for subject in each["subjects"]] == [True]


def test_two_releases_of_one_name_share_nothing_of_the_cluster(template: Template) -> None:
    switched_off = {"rbac": {"aggregate": False}, "crds": {"install": False}}
    one, two = (template(switched_off, namespace=each) for each in ("one", "two"))
    names = [{each["metadata"]["name"] for kind in ("ClusterRole", "ClusterRoleBinding") for each in rendered.of(kind)}
             for rendered in (one, two)]  # fmt: skip
    assert names[0]
    assert names[0].isdisjoint(names[1])


def test_the_long_name_of_a_release_is_cut(template: Template) -> None:
    rendered = template({"fullnameOverride": "x" * 80})
    names = [each["metadata"]["name"] for each in rendered.documents if each["metadata"].get("namespace")]
    assert all(len(each) <= 63 for each in names)


def test_every_namespaced_object_says_its_namespace() -> None:
    cluster_wide = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    for each in yaml.safe_load_all(template_output(EVERYTHING)):
        if each and each["kind"] not in cluster_wide:
            assert each["metadata"].get("namespace"), each["kind"]


def test_the_network_policy_leads_to_names_the_api_server_and_toolboxes_only(template: Template) -> None:
    spec = template(EVERYTHING).one("NetworkPolicy")["spec"]
    ports = [[each["port"] for each in rule["ports"]] for rule in spec["egress"]]
    assert ports == [[53, 53], [443, 6443], [30000, 30443]]
    assert spec["egress"][2]["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert spec["ingress"][0]["from"] == [{"namespaceSelector": {}}]


def test_what_runs_before_an_uninstall_leaves_with_it(template: Template) -> None:
    hooks = [
        each for each in template().documents if "helm.sh/hook" in each["metadata"].get("annotations", {})
    ]
    assert {each["kind"] for each in hooks} == {
        "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Job",
    }  # fmt: skip
    for each in hooks:
        assert each["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
        assert "hook-succeeded" in each["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert template({"uninstall": {"releaseObjects": False}}).of("Job") == []


def test_service_monitor_is_asked_for(template: Template) -> None:
    assert template().of("ServiceMonitor") == []
    monitor = template(EVERYTHING).one("ServiceMonitor")
    service = template(EVERYTHING).one("Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
