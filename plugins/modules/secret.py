#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret
short_description: Make passwords and certificates once, and keep them in Secrets
version_added: 0.1.0
description:
  - Keeps a list of Kubernetes Secrets. Random values are made inside the module when they are first needed, stored, and
    from then on never changed. They never pass through a variable, a result, a diff or a log.
  - One Secret can live in several namespaces with the same values. The first namespace of the list that has a value
    owns it; other namespaces get copies. A copy that differs is made equal to it again. To rotate a value, delete its
    key in every namespace of the list, or change it in the first one, and run the task again.
  - Texts such as a configuration file or an access list can be filled in from other values of the same call, see
    O(secrets[].render).
  - Certificates are renewed by a later run, random values never.
  - Nothing is written unless the cluster accepts all of it in a dry run.
  - Keys that are not named are left alone, those that were named before among them. Deleting a key is left to people.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
requirements:
  - kubernetes >= 24.2.0 (Python)
  - cryptography >= 42 (Python), for certificates
options:
  secrets:
    description: The Secrets. A name stands once in the list, with all its namespaces.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The Secret's name.
        type: str
        required: true
      namespaces:
        description: Where it lives. The first namespace owns the values.
        type: list
        elements: str
        required: true
      state:
        description: V(absent) deletes the Secret in all these namespaces, and with it its values.
        type: str
        choices: [present, absent]
        default: present
      type:
        description:
          - The Secret's type. It cannot be changed later.
          - The default is V(kubernetes.io/tls) with O(secrets[].certificate) and V(Opaque) without.
        type: str
      labels:
        description:
          - Labels, next to C(app.kubernetes.io/part-of) and C(app.kubernetes.io/managed-by), which are always set.
        type: dict
        default: {}
      random:
        description:
          - Values to make, as C({KEY{:} {length{:} 32, alphabet{:} abc}}). The length is 32 characters and the alphabet
            ASCII letters and digits, unless given.
          - The randomness is the operating system's. Less than 64 bits of it are refused.
          - Changing length or alphabet does not change a value that exists.
          - With C(previous{:} NAME) the key C(NAME) of the first namespace holds the value before from a rotation on,
            and a random value that nobody is given until then, so that a server can take both at any time
            (O(secrets[].forget)).
        type: dict
        default: {}
      data:
        description: Fixed values, as C({KEY{:} VALUE}). They are set again whenever they differ.
        type: dict
        default: {}
      alternate:
        description:
          - Values that take turns, as C({KEY{:} [FIRST, SECOND]}). The first is set where there is none of them; from
            then on it stays until O(secrets[].rotate) takes the next.
          - The names of two logins of one user, say, so that the old one works until everybody has the new one.
        type: dict
        default: {}
      rotate:
        description:
          - Make O(secrets[].random) anew and take the next of O(secrets[].alternate), in the first namespace alone. The
            others keep theirs until a call without it, so that a server can learn the new values before its clients.
          - While the first namespace is ahead of another, or the value before is not forgotten, the rotation goes on,
            and another call makes nothing anew.
          - A certificate is made anew. An authority gets its next certificate and key, and C(ca.crt) has both
            certificates; it goes on to sign with the one that it has (O(secrets[].certificate.switch)).
        type: bool
        default: false
      forget:
        description:
          - Make the value before anew (C(previous) in O(secrets[].random)), so that nobody can use it any more, and
            take the certificate before out of an authority's C(ca.crt). Nothing changes where no rotation has left one.
        type: bool
        default: false
      render:
        description:
          - Texts to fill in, as C({KEY{:} TEXT}). They are written anew whenever the text or a value changes.
          - V({value:SECRET/KEY}) stands for the value of a key of this call, V({sha256:SECRET/KEY}) for the
            SHA-256 hash of it in hexadecimal digits, V({base64:SECRET/KEY}) for its base64 form, and
            V({scram:SECRET/KEY}) for the SCRAM-SHA-256 verifier that PostgreSQL stores in its place. Other braces stay
            as they are.
          - The key may be random, fixed, an alternate or a certificate's, of any Secret of the same call, but not
            rendered itself.
        type: dict
        default: {}
      certificate:
        description:
          - A certificate with an ECDSA P-256 key, in the keys C(tls.crt) and C(tls.key), and its authority's
            certificate in C(ca.crt).
          - It is renewed when less than a third of its life is left, and when its names, its authority or
            O(secrets[].certificate.is_ca) change.
          - It begins one hour before it is made, for clocks that differ by less.
        type: dict
        suboptions:
          common_name:
            description: The subject's common name, 1 to 64 characters.
            type: str
            required: true
          dns_names:
            description: DNS names that it is valid for. C(*.) may begin a name.
            type: list
            elements: str
            default: []
          ip_addresses:
            description: IP addresses that it is valid for.
            type: list
            elements: str
            default: []
          valid_days:
            description: Its life. A change counts from the next renewal.
            type: int
            default: 365
          is_ca:
            description:
              - Make an authority that can sign other certificates of the list.
              - A renewed authority keeps its key, so certificates that it signed stay valid.
            type: bool
            default: false
          switch:
            description:
              - An authority signs with its next key from now on, where a rotation has made one, and C(ca.crt) keeps the
                certificate before until O(secrets[].forget). What it signs is renewed by the same call.
            type: bool
            default: false
          ca:
            description: Who signs it. Without it, the certificate signs itself.
            type: dict
            suboptions:
              secret:
                description: The name of the authority's Secret, one of this call or one that exists.
                type: str
                required: true
              namespace:
                description: Where an authority lives that this call does not name. The default is the first namespace.
                type: str
attributes:
  check_mode:
    details:
      - Says which keys would be made, and writes nothing. What the cluster would refuse, it refuses in check mode too.
      - What goes into a namespace that does not exist yet cannot be checked; RV(notes) names it.
    support: full
  diff_mode:
    details: Shows names of keys and what becomes of them, never a value.
    support: full
seealso:
  - module: kubernetes.core.k8s
"""

EXAMPLES = r"""
- name: Passwords for Redis, and the list of users that Redis reads
  lambda_microservice.platform.secret:
    secrets:
      # The controller reads its own copy; both have the same value.
      - name: redis-controller
        namespaces: [data-services, controller]
        data: {username: controller}
        random: {password: {}}
      - name: redis-replication
        namespaces: [data-services]
        random: {password: {length: 48}}
      - name: redis-users
        namespaces: [data-services]
        render:
          # Redis takes a password as its SHA-256 hash, so this Secret cannot give it away.
          users.acl: |
            user default off
            user controller on #{sha256:redis-controller/password} ~session:* +@read +@write
            user replication on #{sha256:redis-replication/password} +psync +replconf +ping

- name: An authority and the edge's certificate
  lambda_microservice.platform.secret:
    secrets:
      - name: edge-ca
        namespaces: [ingress]
        certificate: {common_name: Platform edge CA, is_ca: true, valid_days: 3650}
      - name: envoy-tls
        namespaces: [ingress]
        certificate:
          common_name: localhost
          dns_names: [localhost]
          ip_addresses: [127.0.0.1]
          ca: {secret: edge-ca}
  register: edge

- name: Keep the authority's certificate, which is public, for callers
  ansible.builtin.copy:
    content: "{{ edge.ca_certificates['envoy-tls'] }}"
    dest: ca.crt
    mode: "0644"
"""

RETURN = r"""
secrets:
  description: What was done, one entry for each Secret and namespace. In check mode, what would be done.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The Secret's name.
      type: str
      returned: always
    namespace:
      description: The Secret's namespace.
      type: str
      returned: always
    action:
      description: V(created), V(updated), V(deleted) or V(unchanged).
      type: str
      returned: always
    key_actions:
      description:
        - What became of each named key. V(unchanged), V(generated), V(rotated), V(forgotten), V(set), V(rendered),
          V(issued), V(renewed) with the reason, V(copied) or V(copied over another value).
      type: dict
      returned: always
      sample: {"password": "generated"}
ca_certificates:
  description:
    - The certificate of the authority of each Secret that has a certificate, in PEM. It is public.
    - In check mode, one that would be made is left out.
  returned: always
  type: dict
alternates:
  description: What of O(secrets[].alternate) is in turn, or would be, by Secret and key.
  returned: always
  type: dict
  sample: {"postgresql-controller": {"username": "controller_2"}}
overlaps:
  description: Since when the value before is taken beside the present one, by Secret, as ISO 8601.
  returned: always
  type: dict
  sample: {"redis-controller": "2026-12-01T09:00:00Z"}
rendered:
  description: The SHA-256 of each O(secrets[].render), by Secret and key, by which a server's copy can be recognized.
  returned: always
  type: dict
certificates_expire:
  description: When each certificate ends, as ISO 8601.
  returned: always
  type: dict
  sample: {"envoy-tls": "2027-01-31T12:00:00Z"}
notes:
  description: What could not be checked before it was written, or in check mode at all.
  returned: when there is something
  type: list
  elements: str
reason:
  description: The kind of failure, such as V(argument), V(forbidden), V(conflict), V(certificate), V(unreachable).
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret

    run_as_module(secret)


if __name__ == "__main__":
    main()
