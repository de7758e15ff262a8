# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where metrics come from, in the same words everywhere."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - requests
  - prometheus_client, when the source's type is V(exposition)
notes:
  - Runs on the controller, whatever host the play is on, unless the task is delegated to a host that is not local. Then
    it runs there, and needs Python 3.9 or newer and the libraries there.
  - The clocks of the controller, the places and the metrics server have to agree within a few seconds.
options:
  source:
    description: Where metrics come from.
    type: dict
    suboptions:
      type:
        description:
          - V(exposition) scrapes the places' own C(/metrics), in the Prometheus text format or OpenMetrics.
          - V(prometheus) asks a metrics server by the Prometheus HTTP API, as Prometheus, Thanos, Mimir and
            VictoriaMetrics speak it.
        type: str
        choices: [exposition, prometheus]
      url:
        description:
          - With O(source.type=exposition), the page to scrape where only one place is asked.
          - With O(source.type=prometheus), the address of the server up to, but without, C(/api/v1). When it is not
            set, the environment variable E(SELFHEAL_PROMETHEUS_URL) counts.
        type: str
      urls:
        description: The pages of several instances of the one place that is asked. Their counters are summed.
        type: list
        elements: str
      token:
        description:
          - A bearer token.
          - Without any credentials, a source of type V(prometheus) takes them from the environment variables
            E(SELFHEAL_PROMETHEUS_TOKEN), E(SELFHEAL_PROMETHEUS_TOKEN_FILE), or E(SELFHEAL_PROMETHEUS_USERNAME) and
            E(SELFHEAL_PROMETHEUS_PASSWORD). They are never sent to places that are scraped.
        type: str
      token_file:
        description: A file with a bearer token, read anew for each request.
        type: path
      username:
        description: A name for basic authentication.
        type: str
      password:
        description: The password that goes with O(source.username).
        type: str
      client_cert:
        description: A PEM file with the certificate to show, and its key unless O(source.client_key) is set.
        type: path
      client_key:
        description: A PEM file with the key of O(source.client_cert).
        type: path
      ca_path:
        description: A PEM file, or a folder, with the certificates of the authorities to trust.
        type: path
      validate_certs:
        description: Whether the server's certificate is checked. True when it is not set.
        type: bool
      headers:
        description: Further headers to send.
        type: dict
      tenant:
        description: What to send as C(X-Scope-OrgID), which tells the tenants of Mimir and Thanos apart.
        type: str
      timeout:
        description: How long a question may take that has no timeout of its own, in seconds. V(5) when it is not set.
        type: float
      place_label:
        description:
          - The label of the metrics server that tells the places apart. V(instance) when it is not set. In a policy
            whose places are clusters it is V(pod), and V(flag_variant) where they are feature flags.
          - Its value is a place's name, or begins with it before the port. Anything else is named by the target.
        type: str
      window:
        description:
          - How far back the metrics server is asked for raw samples, in seconds. V(150) when it is not set.
          - It has to span more than two of its scrape intervals.
        type: float
      up:
        description: The selector of the metrics server's own series about who answers. V(up) when it is not set.
        type: str
"""

    TARGETS = r"""
options:
  targets:
    description:
      - The places to ask.
      - Without any, everything that the source has counts as one place, V(all).
    type: list
    elements: dict
    suboptions:
      place:
        description: The place's name.
        type: str
        required: true
      url:
        description: The page to scrape.
        type: str
      urls:
        description: The pages of the place's instances. Their counters are summed.
        type: list
        elements: str
      instance:
        description: The value of the metrics server's O(source.place_label) where it is not the place's name.
        type: str
"""

    # the same for plugins, which take credentials from more than their options
    PLUGIN = r"""
requirements:
  - requests
  - prometheus_client, when the source's type is V(exposition)
notes:
  - Runs on the controller.
options:
  source:
    description:
      - Where metrics come from, as O(selfheal.delivery.metric_info#module:source) takes it.
      - Without a type it is V(prometheus).
    type: dict
    default: {}
    vars:
      - name: selfheal_source
  url:
    description: The address of the metrics server where O(source) does not say it.
    type: str
    env:
      - name: SELFHEAL_PROMETHEUS_URL
    ini:
      - section: selfheal_delivery
        key: prometheus_url
    vars:
      - name: selfheal_prometheus_url
  token:
    description: A bearer token for a metrics server where O(source) has no credentials. Never sent to scraped places.
    type: str
    env:
      - name: SELFHEAL_PROMETHEUS_TOKEN
    vars:
      - name: selfheal_prometheus_token
  token_file:
    description: A file with such a token.
    type: path
    env:
      - name: SELFHEAL_PROMETHEUS_TOKEN_FILE
    ini:
      - section: selfheal_delivery
        key: prometheus_token_file
    vars:
      - name: selfheal_prometheus_token_file
  username:
    description: A name for basic authentication where O(source) has no credentials.
    type: str
    env:
      - name: SELFHEAL_PROMETHEUS_USERNAME
    ini:
      - section: selfheal_delivery
        key: prometheus_username
    vars:
      - name: selfheal_prometheus_username
  password:
    description: The password that goes with O(username).
    type: str
    env:
      - name: SELFHEAL_PROMETHEUS_PASSWORD
    vars:
      - name: selfheal_prometheus_password
"""
