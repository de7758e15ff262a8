# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients are served of a feature flag, in an expression."""

from __future__ import annotations

DOCUMENTATION = r"""
name: feature_flag
short_description: The value of a feature flag that clients are served
version_added: 1.1.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Asks on the controller what clients are served now, and returns the value of each flag.
  - Where that is not known the lookup fails and says why, unless there is a O(default). That includes a flag that is
    switched off in such a way that clients get what stands in their own code, and one that only a share of the clients
    is served, where it cannot be asked for one of them.
requirements:
  - requests, for providers with an HTTP API
  - kubernetes >= 28.1.0, or urllib3, for flags in a cluster
options:
  _terms:
    description: The flags.
    required: true
    type: list
    elements: str
  flags:
    description:
      - What the other options are taken from where they are not set, a dictionary with C(provider), C(environment),
        C(project), C(context) and C(deadline).
    type: dict
    default: {}
    vars:
      - name: delivery_flags
  provider:
    description: Where the flags are, as O(selfheal.delivery.feature_flag#module:provider) takes it.
    type: dict
  environment:
    description: The environment whose clients it is about.
    type: str
  project:
    description: The project that the flags are in.
    type: str
  context:
    description: Whom the flags are evaluated for.
    type: dict
  deadline:
    description: Seconds that asking for one flag may take. V(30) when it is not set.
    type: float
  default:
    description: What is returned for a flag of which it is not known what clients are served.
    type: raw
notes:
  - The environment variables of O(selfheal.delivery.feature_flag#module:provider) count here, too.
seealso:
  - module: selfheal.delivery.feature_flag
  - module: selfheal.delivery.feature_flag_info
"""

EXAMPLES = r"""
- name: Warm the new search's cache where it is on
  ansible.builtin.command: /srv/shop/bin/warm-cache
  changed_when: true
  when: lookup('selfheal.delivery.feature_flag', 'new-search', default=false)
  vars:
    delivery_flags:
      environment: production
      project: default
      provider:
        type: unleash
        url: https://unleash.example.org
        client_token_file: /run/secrets/unleash-client
"""

RETURN = r"""
_raw:
  description: For each flag the value that clients are served, or the O(default).
  type: list
  elements: raw
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import failure
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import served_to
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import FlagError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import plain

_SHARED = ("provider", "environment", "project", "context", "deadline")


class LookupModule(LookupBase):
    def run(self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> List[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return [self._one(str(term), has_default="default" in kwargs) for term in terms]
        except Exception as error:
            message = str(failure(error)["msg"])
        # raised here, so that the first error's own text, which nobody has checked for secrets, is not chained to it
        raise AnsibleLookupError(message)

    def _one(self, flag: str, *, has_default: bool) -> Any:
        try:
            served = served_to({"flag": flag, **self._where()})
            if not served.known:
                raise FlagError(f"what clients are served of flag {flag!r} is not known: {served.why}")
            if served.value is None and served.percentage is not None:
                raise FlagError(
                    f"clients are not all served the same of flag {flag!r}, and rules decide what each gets"
                )
            return served.value
        except OptionError:
            raise
        except DeliveryError:
            if has_default:
                return self.get_option("default")
            raise

    def _where(self) -> Dict[str, Any]:
        templar: Any = self._templar
        # of a variable only the outermost level is rendered by then
        shared: Dict[str, Any] = templar.template(self.get_option("flags"))
        own = {name: self.get_option(name) for name in _SHARED}
        for name in shared:
            if name not in _SHARED:
                raise OptionError(f"flags has no key {name!r}", mend=f"It takes {', '.join(_SHARED)}")
        found: Dict[str, Any] = plain({**shared, **{name: value for name, value in own.items() if value is not None}})
        return found
