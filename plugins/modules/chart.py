#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: chart
short_description: Install, upgrade, repair and remove Helm releases
version_added: 0.1.0
description:
  - Brings a list of Helm releases to what their charts render to, with Helm 3 or Helm 4.
  - Each chart is rendered first. Nothing is changed, and no revision is made, when the release is deployed, its chart
    version, values, manifest and hooks are equal to the rendering, and the live objects say what the manifest says.
    Order of keys, white space and comments do not count, nor does the spelling of quantities or what the cluster
    adds by itself.
  - When the rendering differs from the last revision, C(helm upgrade --install) makes a new one.
  - When only live objects differ (somebody edited, scaled or deleted them), they are applied again as rendered, with
    server-side apply under Helm's field manager. That makes no new revision and runs no hooks, so the history keeps
    what a rollback needs. Helm alone would not do it for custom resources, because Helm 3 compares those with its last
    manifest only and not with the cluster.
  - What others add to an object (a sidecar, a label, an entry in a list that has keys) is left alone. An object that
    the chart does not render is not looked at.
  - Replica counts of workloads that a HorizontalPodAutoscaler scales, one of the chart or one in the cluster, are
    neither compared nor changed, also when the chart gives a count.
  - A release that a killed run left C(pending-install), C(pending-upgrade), C(pending-rollback) or C(uninstalling) is
    taken over once its process is known to have ended, or, where nothing is known of that process, after
    O(pending_grace_seconds). Releases that are C(failed) or C(superseded) are brought to an end too.
  - What a chart renders anew each time (random passwords, certificates, the time) is made once. An upgrade keeps the
    installed values, also in the middle of a text, and check mode shows what the upgrade does. A digest in a pod
    template's annotations is kept with them, unless another field of such an object changes. Hooks are run and not
    kept, so they get new values whenever they run.
  - Volumes can grow. Where a StatefulSet asks for a larger one, its claims get the new size, if their StorageClass
    allows it, and it is made anew around its pods, which run on. A smaller size, another class, a class that the
    cluster does not have, or data of another version than the one that would run (the annotation
    C(lambda-microservice.platform/data-version) of a StatefulSet) is an error before anything is changed.
  - It does not wait for workloads to become ready. M(lambda_microservice.platform.rollout) does, for many releases at
    once, and says why one does not come.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
requirements:
  - helm 3.13 or later, or helm 4, on the machine that runs the module
  - kubernetes >= 24.2.0 (Python)
  - PyYAML >= 3.11 (Python)
options:
  releases:
    description:
      - The releases. They are handled concurrently, apart from those that wait for others by O(releases[].after).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The release's name.
        type: str
        required: true
      namespace:
        description: The release's namespace.
        type: str
        required: true
      chart:
        description:
          - A chart's folder or C(.tgz) archive, an C(oci://) address, a folder of a Go module
            (C(go:MODULE@VERSION/FOLDER)), or with O(releases[].repository) a name.
          - Required if O(releases[].state=present).
        type: str
      repository:
        description:
          - The URL of the chart's repository. It is used as it is; no repository is added to Helm's configuration, so
            check mode works as well.
          - A login in it works like O(releases[].repository_username) and O(releases[].repository_password), which are
            better, since Ansible shows the arguments of tasks.
        type: str
      repository_username:
        description: The user name for the chart's repository, or for the registry of an C(oci://) chart.
        type: str
      repository_password:
        description:
          - The password of O(releases[].repository_username). It reaches Helm through a private file, never its command
            line.
        type: str
      version:
        description: The version of a chart from a repository or registry. Without it, the newest is taken.
        type: str
      values:
        description:
          - The release's values. They reach Helm through its standard input, never its command line.
          - They are all of the release's values; those of earlier revisions are not reused.
          - An integer beyond 2^53 is refused, since Helm would round it. Quote it, so that it is a text.
        type: dict
        default: {}
      state:
        description:
          - V(present) installs, upgrades or repairs the release, V(absent) uninstalls it.
          - CustomResourceDefinitions of a chart's C(crds) folder stay, since deleting them deletes all their objects.
        type: str
        choices: [present, absent]
        default: present
      timeout_seconds:
        description: How long Helm may take for each hook.
        type: int
        default: 300
      create_namespace:
        description: Create the namespace if it does not exist.
        type: bool
        default: false
      crds:
        description:
          - What is done with the CustomResourceDefinitions in the C(crds) folder of the chart and its subcharts.
          - V(apply) creates and updates them. Helm by itself never updates them, so an operator's new version would run
            with its old definitions.
          - V(create) only creates missing ones. V(skip) leaves them to somebody else.
        type: str
        choices: [apply, create, skip]
        default: apply
      after:
        description: Names of releases of this list that are finished before this one begins.
        type: list
        elements: str
        default: []
      plain_http:
        description: Talk HTTP without TLS to the registry of an C(oci://) chart.
        type: bool
        default: false
      ignore:
        description:
          - Fields that something in the cluster is meant to change, such as a webhook's C(failurePolicy) that an
            operator sets. They are not repaired. Changes in the chart still come through.
        type: list
        elements: dict
        default: []
        suboptions:
          kind:
            description: The object's kind.
            type: str
            required: true
          name:
            description: The object's name, or a pattern with C(*).
            type: str
            default: "*"
          path:
            description: A JSON pointer (RFC 6901) to the field, in which C(*) stands for any key or index.
            type: str
            required: true
  helm_binary:
    description: The helm program, a path or a name that is searched in C(PATH).
    type: str
    default: helm
  pending_grace_seconds:
    description:
      - How long the record of a pending revision must have stayed unchanged before it is taken over, if its process
        belongs to another machine, or to a user whose processes are hidden, and nothing is known about it. The module
        waits until then. It is never less than O(releases[].timeout_seconds), since a hook may take so long.
      - Times are those of the API server, or those that the module itself has waited, so the clock of this machine does
        not matter.
      - A process of this machine is looked at instead. While it lives, the module waits for it up to
        O(releases[].timeout_seconds); once it has ended, there is no wait.
    type: int
    default: 60
attributes:
  check_mode:
    details: Renders and compares, and changes nothing. Works before namespaces and CustomResourceDefinitions exist.
    support: full
  diff_mode:
    details:
      - Shows the changed objects before and after. Values of Secrets are replaced by marks that differ when the
        values differ.
    support: full
notes:
  - A Secret that a chart renders is stored by Helm in the release's record too. Passwords are better made by
    M(lambda_microservice.platform.secret).
  - What a chart renders anew each time is recognised by rendering twice, where the rendering differs from the record.
  - Helm uses the proxy that the Kubernetes client uses, and leaves out what that one leaves out (C(NO_PROXY)). An exec
    plugin of the kubeconfig stays one for Helm, so that its token is renewed during long hooks.
  - Ctrl-C and the task keyword C(timeout) end the running helm, which marks its release as failed, and remove the
    folder with its credentials. The next run goes on from there.
seealso:
  - module: lambda_microservice.platform.rollout
  - module: lambda_microservice.platform.secret
  - module: kubernetes.core.helm
"""

EXAMPLES = r"""
- name: Install the edge
  lambda_microservice.platform.chart:
    releases:
      - name: envoy
        namespace: ingress
        chart: "{{ role_path }}/files/charts/envoy"
        values:
          replicas: 3

- name: Install an operator, then what needs its definitions
  lambda_microservice.platform.chart:
    releases:
      - name: eck-operator
        namespace: monitoring
        chart: eck-operator
        repository: https://helm.elastic.co
        version: 3.5.0
      - name: logging
        namespace: monitoring
        chart: oci://registry.example.com/charts/logging
        version: 1.2.0
        repository_username: deployer
        repository_password: "{{ vault_registry_password }}"
        after: [eck-operator]

- name: Leave alone what istiod sets in its own webhook
  lambda_microservice.platform.chart:
    releases:
      - name: istiod
        namespace: istio-system
        chart: /srv/charts/istiod
        ignore:
          - kind: ValidatingWebhookConfiguration
            path: /webhooks/*/failurePolicy

- name: Remove a release
  lambda_microservice.platform.chart:
    releases:
      - name: envoy
        namespace: ingress
        state: absent
"""

RETURN = r"""
releases:
  description: What was done, one entry for each release in the order given. In check mode, what would be done.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The release's name.
      type: str
      returned: always
    namespace:
      description: The release's namespace.
      type: str
      returned: always
    action:
      description: V(installed), V(upgraded), V(repaired) (live objects only), V(uninstalled) or V(unchanged).
      type: str
      returned: always
    changed:
      description: Whether anything was done.
      type: bool
      returned: always
    revision:
      description: The revision that is deployed now. None if the release is gone.
      type: int
      returned: always
    chart:
      description: The chart's name and version.
      type: str
      returned: when the state is present
    why:
      description: What was found different. Names values and fields, never what they hold.
      type: list
      elements: str
      returned: always
      sample: ["values: replicas", "Deployment ingress/envoy: spec.replicas"]
    missing:
      description: Objects that did not exist in the cluster.
      type: list
      elements: str
      returned: always
      sample: ["Service ingress/envoy"]
    drifted:
      description: Objects that were changed in the cluster, with the fields.
      type: dict
      returned: always
      sample: {"Deployment ingress/envoy": ["spec.replicas"]}
not_started:
  description: Releases that were not begun because one that they wait for failed.
  returned: on failure
  type: list
  elements: str
reason:
  description:
    - The kind of failure, such as V(render), V(values), V(admission), V(quota), V(forbidden), V(unauthorized),
      V(unreachable), V(timeout), V(busy), V(hook).
  returned: on failure
  type: str
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin of the same name cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart

    run_as_module(chart)


if __name__ == "__main__":
    main()
