# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: policy
short_description: Apply a batch of Kubernetes objects and prune what the batch no longer names
version_added: 0.1.0
description:
  - Applies all objects of a batch by server-side apply under the field manager V(lambda-microservice-platform), many at
    once, in an order that lets them depend on each other (Namespaces and CustomResourceDefinitions first, webhook
    configurations and admission policy bindings last).
  - Field conflicts are forced, the batch's values win. Fields that the batch does not set stay with whoever set them.
  - What differs is first tried in a dry run, removals too. If the cluster refuses one object, the task fails with every
    refusal and nothing is changed. A refusal that is about what the batch itself writes first (a PriorityClass, a
    ServiceAccount, a quota, a new field of a CustomResourceDefinition) is no failure. RV(notes) names it, and the
    object is tried when its turn comes.
  - An object whose fields and their ownership are already as the batch says is recognised without a request of its own,
    so that a run without changes costs one list per kind and namespace.
  - The batch is an ApplySet (KEP-3659). Its record is the ConfigMap C(policy-NAME) in O(namespace), its members carry
    the label C(applyset.kubernetes.io/part-of). Other tools that know ApplySets can list them.
  - An object belongs to one batch. Naming an object with the label of another batch or tool is an error that names
    both. An object that exists without a label is adopted, and RV(notes) says so.
  - Objects with owner references to anything but the record are no members, whatever their labels say. Controllers
    copy labels to what they make; such objects are never pruned.
  - A run waits up to 30 s for what it deletes to be gone, in the reverse order, since what is written first may be
    needed to end what is written later. The record names what is still there, until a run finds it gone.
  - Runs of one batch at the same time never take from the record what another one has put into it.
  - A run that was interrupted leaves nothing that the next run does not finish.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  name:
    description:
      - The batch's name, unique in O(namespace). At most 53 characters.
      - Under another name it is another batch; remove the old one with O(state=absent).
    type: str
    required: true
  namespace:
    description:
      - Where the batch's record is, at most 63 characters. It exists already or is one of the batch's Namespaces.
      - Namespaced objects without C(metadata.namespace) belong here too.
    type: str
    required: true
  objects:
    description:
      - The objects of the batch, dictionaries with C(apiVersion), C(kind) and C(metadata.name), in any namespaces.
      - A null, such as an empty document of a YAML stream is read as, is left out.
      - A Secret's C(stringData) is stored as its C(data). A null is the same as an absent field.
      - A peer of a NetworkPolicy can have the one key C(found), V(kubernetes-api) or V(dns), in place of which the
        addresses and pods are applied where the cluster's API and its DNS answer now. None is an error.
      - With O(state=absent) they are only needed to find members whose record was lost.
    type: list
    elements: raw
    default: []
  files:
    description:
      - Files of JSON, each a list of further objects of the batch. What is too large for variables and templates comes
        this way, such as an operator's CustomResourceDefinitions.
    type: list
    elements: path
    default: []
  prune:
    description:
      - Delete members that the batch no longer names. Only objects with the batch's label are ever deleted, and only
        the one that was seen (by its UID).
      - Objects of a kind whose API cannot be read now (its aggregated server is down) stay, and so does the kind in the
        record; RV(notes) says so.
      - Namespaces, CustomResourceDefinitions (but for O(definitions_unless_used)), PersistentVolumes and
        PersistentVolumeClaims are never deleted, since what they hold would go with them, nor are objects that belong
        to a Helm release. They lose the label, stay, and are named in RV(notes).
    type: bool
    default: true
  existing:
    description:
      - What to do with an object that exists and that the batch has not made.
      - With V(adopt) it becomes a member, with the batch's fields. With V(leave) it stays as it is, whatever the batch
        says of it, and is no member.
    type: str
    choices: [adopt, leave]
    default: adopt
  unserved:
    description:
      - What to do with objects of kinds or versions that the cluster does not serve.
      - With V(skip) they are left out, and RV(notes) says so. An object may then be given in several API versions, of
        which the first that is served is applied.
    type: str
    choices: [fail, skip]
    default: fail
  state:
    description: V(absent) deletes all members in reverse order and then the record. While a member is not gone, the
      task fails, names what holds it, and the record stays.
    type: str
    choices: [present, absent]
    default: present
  definitions_unless_used:
    description:
      - With O(state=absent), the kinds whose objects need the batch's CustomResourceDefinitions. Where no object of
        these kinds is left in the cluster, whoever made it, the definitions that the batch has made are deleted too,
        and with them the objects of their other kinds; else they stay, and RV(notes) says for what.
      - Without it, they stay.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    details:
      - Tells what would change, after the same dry run.
      - Objects in namespaces and of kinds that do not exist yet count as created, and RV(notes) says that they were not
        checked.
    support: full
  diff_mode:
    details: Shows each changed object before and after. A Secret's values are hidden, also when they differ.
    support: full
requirements:
  - kubernetes >= 24.2
"""

EXAMPLES = r"""
- name: Apply the controller's policies
  lambda_microservice.platform.policy:
    name: controller
    namespace: controller
    objects: "{{ platform_flows | lambda_microservice.platform.network_policies('controller') }}"

- name: Apply objects from templates
  lambda_microservice.platform.policy:
    name: foundation
    namespace: kube-system
    objects: "{{ lookup('ansible.builtin.template', 'foundation.yml.j2') | from_yaml_all }}"

- name: Remove the batch
  lambda_microservice.platform.policy:
    name: controller
    namespace: controller
    state: absent
"""

RETURN = r"""
objects:
  description:
    - What happened to each object, and to the batch's record.
  returned: success
  type: list
  elements: dict
  contains:
    apiVersion: {description: The API version., type: str, returned: always}
    kind: {description: The kind., type: str, returned: always}
    name: {description: The name., type: str, returned: always}
    namespace: {description: 'The namespace, empty for objects of the whole cluster.', type: str, returned: always}
    action:
      description:
        - V(created), V(updated), V(unchanged) or V(deleted); V(adopted) for an object that existed before and was no
          member; V(released) for one that lost the label and stays; V(deleting) for one whose deletion is not complete
          (a finalizer, a grace period); V(kept) for one that O(prune=false) leaves, or that another one that is still
          being deleted may need; V(left) for one of somebody else's that O(existing=leave) leaves as it is.
      type: str
      returned: always
    fields:
      description:
        - Paths of the fields that changed in an updated object. V(metadata.managedFields) alone is a change of owner.
      type: list
      elements: str
      returned: always
  sample:
    - apiVersion: networking.k8s.io/v1
      kind: NetworkPolicy
      name: controller
      namespace: controller
      action: updated
      fields: ['spec.ingress[0].ports[0].port']
notes:
  description: What a person should know, such as objects that were adopted, that stay, that are still being deleted,
    and that could not be checked beforehand.
  returned: success
  type: list
  elements: str
applyset:
  description: The batch's record, with C(name), C(namespace) and C(id), the value of the members' label.
  returned: success
  type: dict
errors:
  description: When several objects failed, the parts of each error (C(what), C(where), C(found), C(expected), C(fix)).
  returned: failure
  type: list
  elements: dict
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin of the same name cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy

    run_as_module(policy)


if __name__ == "__main__":
    main()
