"""What each cloud's load balancer is told, in the names of the controllers' documents. No cloud is asked."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.load_balancer import load_balancer
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.edge import (
    is_public,
)

NLB = "service.beta.kubernetes.io/aws-load-balancer-"
ALB = "alb.ingress.kubernetes.io/"


def made(kind, **options):
    return load_balancer(
        kind,
        **{
            "namespace": "ingress",
            "internal": False,
            "proxy_protocol": False,
            "health_port": 8080,
            "drain_seconds": 170,
            "timeout_seconds": 35,
            **options,
        },
    )


def attributes(annotation):
    return dict(pair.split("=") for pair in annotation.split(","))


def test_an_nlb_keeps_the_clients_address_in_one_of_two_ways():
    kept = made("nlb")["annotations"]
    assert attributes(kept[f"{NLB}target-group-attributes"])["preserve_client_ip.enabled"] == "true"
    assert f"{NLB}proxy-protocol" not in kept
    told = made("nlb", proxy_protocol=True)["annotations"]
    assert told[f"{NLB}proxy-protocol"] == "*"
    # Both at once would be a header from an address that is the client's already.
    assert "preserve_client_ip.enabled" not in attributes(told[f"{NLB}target-group-attributes"])


def test_an_nlb_asks_the_pods_where_they_say_first_that_they_leave():
    told = made("nlb")["annotations"]
    assert {name: told[f"{NLB}healthcheck-{name}"] for name in ("protocol", "port", "path")} == {
        "protocol": "http",
        "port": "8080",
        "path": "/ready",
    }
    assert attributes(told[f"{NLB}target-group-attributes"])["deregistration_delay.timeout_seconds"] == "170"


@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize("kind", ["nlb", "gce"])
def test_it_is_public_or_not_as_it_was_asked_for(kind, internal):
    service = {"type": "LoadBalancer", "annotations": made(kind, internal=internal)["annotations"]}
    assert is_public(service) != internal


def test_an_alb_ends_tls_encrypts_again_and_cuts_no_request():
    (ingress,) = made("alb", certificate_arns=["arn:a", "arn:b"], waf_acl_arn="arn:waf", timeout_seconds=120)["objects"]
    told = {name.removeprefix(ALB): value for name, value in ingress["metadata"]["annotations"].items()}
    assert told["certificate-arn"] == "arn:a,arn:b"
    assert told["wafv2-acl-arn"] == "arn:waf"
    assert (told["backend-protocol"], told["ssl-redirect"]) == ("HTTPS", "443")
    assert int(attributes(told["load-balancer-attributes"])["idle_timeout.timeout_seconds"]) > 120
    assert ingress["spec"]["ingressClassName"] == "alb"
    (rule,) = ingress["spec"]["rules"]
    assert "host" not in rule
    assert rule["http"]["paths"][0]["backend"] == {"service": {"name": "envoy", "port": {"name": "https"}}}


def test_an_alb_answers_the_named_hosts():
    (ingress,) = made("alb", hosts=["a.example", "b.example"])["objects"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["a.example", "b.example"]
    told = ingress["metadata"]["annotations"]
    assert not [name for name in told if name.endswith(("certificate-arn", "wafv2-acl-arn"))]


def test_annotations_are_texts():
    for kind in ("nlb", "alb", "gce"):
        result = made(kind)
        for told in [result["annotations"], *(obj["metadata"]["annotations"] for obj in result["objects"])]:
            assert all(isinstance(value, str) for value in told.values())


def test_none_is_nothing_and_a_wrong_kind_is_named():
    assert made("none") == {"annotations": {}, "objects": []}
    with pytest.raises(AnsibleFilterError, match="'elb'.*none, nlb, alb, gce"):
        made("elb")


@pytest.mark.parametrize("kind", ["nlb", "alb"])
def test_both_families_where_they_are_asked_for(kind):
    def said(**given):
        told = made(kind, **given)
        annotations = [told["annotations"], *(obj["metadata"]["annotations"] for obj in told["objects"])]
        return [value for each in annotations for name, value in each.items() if name.endswith("ip-address-type")]

    assert said() == []
    assert said(dual_stack=True) == ["dualstack"]
