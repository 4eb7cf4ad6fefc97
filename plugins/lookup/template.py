# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: template
short_description: A template of the role, filled in
version_added: 0.2.0
description:
  - As P(ansible.builtin.template#lookup), which first makes a deep copy of every variable of the play. That was two
    fifths of what C(site.yml) did where nothing had changed.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
options:
  _terms:
    description: The files, which are looked for in C(templates) of the role.
    type: list
    elements: str
    required: true
  template_vars:
    description: Variables beside those of the play.
    type: dict
    default: {}
notes:
  - What is printed before and after C({%) and C(%}) is as with C(trim_blocks), Ansible's own default.
"""

EXAMPLES = r"""
- name: The users
  ansible.builtin.debug:
    msg: "{{ lookup('lambda_microservice.platform.template', 'users.acl.j2', template_vars={'side': 'redis'}) }}"
"""

RETURN = r"""
_list:
  description: The text of each file.
  type: list
  elements: str
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.template import trust_as_template


class LookupModule(LookupBase):
    """What Ansible calls."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        """As RETURN says."""
        self.set_options(var_options=variables, direct=kwargs)
        seen = {**variables, **self.get_option("template_vars")}
        templar = self._templar.copy_with_new_env(available_variables=seen)
        found = []
        for term in terms:
            file = self.find_file_in_search_path(variables, "templates", term)
            if not file:
                raise AnsibleError(f"template: there is no {term} in templates of the role.")
            text = trust_as_template(self._loader.get_text_file_contents(file))
            found.append(templar.template(text, escape_backslashes=False))
        return found
