"""The order of a batch, and which refusals of the API server an earlier wave may lift."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.refusals import refusal
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import GroupKind
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.order import (
    in_waves,
    lasts,
    that_may_lift,
    wave_of,
)


def obj(api_version, kind, name, namespace="", **fields):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def core(kind, name, namespace="home"):
    return obj("v1", kind, name, namespace)


def rbac(kind, name, namespace="home"):
    return obj("rbac.authorization.k8s.io/v1", kind, name, "" if kind.startswith("Cluster") else namespace)


POD = core("Pod", "web")
DEPLOYMENT = obj("apps/v1", "Deployment", "web", "home")
WIDGET = obj("example.com/v2", "Widget", "w", "home")
CRD = obj(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "widgets.example.com",
    spec={
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Widget"},
        "versions": [{"name": "v1"}, {"name": "v2"}],
    },
)
POLICY = obj("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "read-only")
POLICY_REFUSED = (
    "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'read-only' with binding 'all' denied request: %s"
)
FORBIDDEN = (
    'widgets.example.com "w" is forbidden: User "ci" cannot patch resource "widgets" in API group "example.com" '
    'in the namespace "home"'
)


def refused(message, status=403, reason="Forbidden"):
    return refusal(status, reason, message, [], "where")


# As an API server of Kubernetes 1.37 words them.
LIFTED = {
    "PriorityClass": (
        POD,
        refused('pods "web" is forbidden: no PriorityClass with name high was found'),
        obj("scheduling.k8s.io/v1", "PriorityClass", "high"),
    ),
    "ServiceAccount": (
        POD,
        refused('pods "web" is forbidden: error looking up service account home/web: serviceaccount "web" not found'),
        core("ServiceAccount", "web"),
    ),
    "RuntimeClass": (
        POD,
        refused('pods "web" is forbidden: pod rejected: RuntimeClass "kata" not found'),
        obj("node.k8s.io/v1", "RuntimeClass", "kata"),
    ),
    "ClusterRole": (
        rbac("RoleBinding", "b"),
        refused('clusterroles.rbac.authorization.k8s.io "reader" not found', 404, "NotFound"),
        rbac("ClusterRole", "reader"),
    ),
    "ConfigMap for a webhook": (
        DEPLOYMENT,
        refused('admission webhook "check.example.com" denied the request: ConfigMap settings does not exist'),
        core("ConfigMap", "settings"),
    ),
    "Secret for a webhook": (
        WIDGET,
        refused('admission webhook "check.example.com" denied the request: secrets "token" not found'),
        core("Secret", "token"),
    ),
    "a quota that grows": (
        core("Service", "web"),
        refused(
            'services "web" is forbidden: exceeded quota: home, requested: count/services=1, '
            "used: count/services=5, limited: count/services=5"
        ),
        core("ResourceQuota", "home"),
    ),
    "defaults for a quota": (
        POD,
        refused('pods "web" is forbidden: failed quota: home: must specify limits.cpu for: main'),
        core("LimitRange", "defaults"),
    ),
    "a limit that grows": (
        POD,
        refused('pods "web" is forbidden: maximum cpu usage per Container is 1, but limit is 2'),
        core("LimitRange", "limits"),
    ),
    "a namespace that becomes privileged": (
        POD,
        refused('pods "web" is forbidden: violates PodSecurity "restricted:latest": host namespaces'),
        obj("v1", "Namespace", "home"),
    ),
    "the account of a new namespace": (
        POD,
        refused(
            'pods "web" is forbidden: error looking up service account home/default: serviceaccount "default" not found'
        ),
        obj("v1", "Namespace", "home"),
    ),
    "a namespace that a policy leaves out": (
        DEPLOYMENT,
        refused(POLICY_REFUSED % "no"),
        obj("v1", "Namespace", "home"),
    ),
    "a policy that changes": (DEPLOYMENT, refused(POLICY_REFUSED % "no"), POLICY),
    "a policy's parameters": (
        DEPLOYMENT,
        refused(
            POLICY_REFUSED
            % "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        ),
        core("ConfigMap", "limits"),
    ),
    "a new field of a kind": (
        WIDGET,
        refused(
            "failed to create typed patch object (home/w; example.com/v2, Kind=Widget): .spec.new: field not "
            "declared in schema",
            500,
            "InternalError",
        ),
        CRD,
    ),
    "a right": (WIDGET, refused(FORBIDDEN), rbac("ClusterRole", "widgets")),
    "a right of a binding": (WIDGET, refused(FORBIDDEN), rbac("RoleBinding", "widgets")),
}

NOT_LIFTED = {
    "another PriorityClass": (
        POD,
        refused('pods "web" is forbidden: no PriorityClass with name higher was found'),
        obj("scheduling.k8s.io/v1", "PriorityClass", "high"),
    ),
    "the object's own name": (
        POD,
        refused('pods "web" is forbidden: no PriorityClass with name high was found'),
        core("ServiceAccount", "web"),
    ),
    "a container of the same name": (
        POD,
        refused(
            'pods "web" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
            '(container "runner" must set securityContext.allowPrivilegeEscalation=false)'
        ),
        core("ServiceAccount", "runner"),
    ),
    "another namespace": (
        POD,
        refused('pods "web" is forbidden: violates PodSecurity "restricted:latest": host namespaces'),
        obj("v1", "Namespace", "far"),
    ),
    "an account in another namespace": (
        POD,
        refused('pods "web" is forbidden: error looking up service account home/a: serviceaccount "a" not found'),
        core("ServiceAccount", "a", "far"),
    ),
    "another policy": (
        DEPLOYMENT,
        refused(POLICY_REFUSED % "no"),
        obj("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "read"),
    ),
    "a later wave": (
        core("ConfigMap", "x"),
        refused('admission webhook "check.example.com" denied the request: deployment web not found'),
        DEPLOYMENT,
    ),
    "the same wave": (
        core("ConfigMap", "x"),
        refused('admission webhook "check.example.com" denied the request: secret token not found'),
        core("Secret", "token"),
    ),
    "a wrong field of Kubernetes itself": (
        DEPLOYMENT,
        refused('Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1', 422, "Invalid"),
        CRD,
    ),
    "a server that is down": (
        DEPLOYMENT,
        refused("the server is currently unable to handle the request: ConfigMap settings", 503, "ServiceUnavailable"),
        core("ConfigMap", "settings"),
    ),
}


@pytest.mark.parametrize("case", LIFTED)
def test_a_refusal_that_an_earlier_wave_may_lift(case):
    wanted, error, earlier = LIFTED[case]
    assert that_may_lift(error, wanted, [core("ServiceAccount", "else", "far"), earlier, wanted]) == [earlier]


@pytest.mark.parametrize("case", NOT_LIFTED)
def test_a_refusal_that_no_earlier_wave_lifts(case):
    wanted, error, other = NOT_LIFTED[case]
    assert that_may_lift(error, wanted, [other, wanted]) == []


def test_bindings_of_admission_policies_come_last():
    binding = obj("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "b")
    ordered = [obj("v1", "Namespace", "n"), CRD, core("ConfigMap", "c"), DEPLOYMENT, binding]
    assert in_waves(reversed(ordered)) == [[entry] for entry in ordered]
    assert wave_of(GroupKind.of(WIDGET)) == wave_of(GroupKind.of(DEPLOYMENT))


WEBHOOK = obj("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "w")


@pytest.mark.parametrize(
    ("error", "changing", "expected"),
    [
        (refused(FORBIDDEN), [POD], True),
        (refused(FORBIDDEN), [rbac("Role", "r")], False),
        (refused('admission webhook "check.example.com" denied the request: no'), [POD], True),
        (refused('admission webhook "check.example.com" denied the request: no'), [WEBHOOK], False),
        (refused('failed calling webhook "check.example.com": refused', 500, "InternalError"), [WEBHOOK], False),
        (refused("busy", 503, "ServiceUnavailable"), [POD], False),
    ],
)
def test_whether_a_refused_removal_stays_refused(error, changing, expected):
    assert lasts(error, changing) is expected
