# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_route
short_description: Make Alertmanager's way to the event source that acts on alerts
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
description:
  - Puts a receiver and its routes before all others of O(config). Alerts with a C(service) whose label C(response) asks
    to act go to O(url), by service, and to people by your own routes as well. The Watchdog goes to O(url) alone.
  - Alertmanager proves who it is by a file on its own machine. Without a proof nothing is made, unless
    O(unauthenticated) says so.
  - Where there is a O(path), the whole configuration is checked and kept on the host that the play is on, by
    M(selfheal.delivery.alert_file). Otherwise merge RV(routes) and RV(receivers) into a template of your own.
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.alerting
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - With O(config), which may hold secrets, it says that the file differs, not how.
  idempotent:
    support: full
options:
  path:
    description: Alertmanager's configuration, on the host that the play is on. Without it nothing is written.
  url:
    description: Where alerts are taken, such as C(https://controller.example.org:5050/alerts), without any secret.
    type: str
    required: true
  credentials_file:
    description: A file on Alertmanager's machine with the bearer token.
    type: str
    default: ""
  username:
    description: The user of basic authentication.
    type: str
    default: ""
  password_file:
    description: A file on Alertmanager's machine with that user's password.
    type: str
    default: ""
  ca_file:
    description: A file on Alertmanager's machine with the authority that signed the certificate of O(url).
    type: str
    default: ""
  cert_file:
    description: A file on Alertmanager's machine with the certificate that it shows.
    type: str
    default: ""
  key_file:
    description: A file on Alertmanager's machine with the key to O(cert_file).
    type: str
    default: ""
  server_name:
    description: The name in the certificate of O(url), where it is not its host.
    type: str
    default: ""
  unauthenticated:
    description: Whether to send alerts without any proof. The event source refuses them, unless it was told to.
    type: bool
    default: false
  group_wait:
    description: How long to wait for more alerts of the same service.
    type: str
    default: 1s
  group_interval:
    description: How long to wait before telling of a change.
    type: str
    default: 15s
  repeat_interval:
    description: After how long to tell again of what still fires, should it have been lost.
    type: str
    default: 5m
  max_alerts:
    description: How many alerts one POST may hold.
    type: int
    default: 500
  responses:
    description: Which values of the label C(response) go to O(url).
    type: list
    elements: str
    choices: [rollback, flag_off, restart, page]
    default: [rollback, flag_off, restart]
  receiver:
    description: The name of the receiver.
    type: str
    default: selfheal
  watchdog:
    description: The name of the alert that fires always. Empty where there is none.
    type: str
    default: Watchdog
  watchdog_every:
    description: How often the Watchdog is sent.
    type: str
    default: 1m
  watchdog_continue:
    description: Whether your own routes get the Watchdog as well.
    type: bool
    default: false
  config:
    description:
      - Alertmanager's configuration without ours, with C(route) and C(receivers). By default it tells nobody else.
      - It may hold secrets. It is never shown, though files with secrets, such as C(api_url_file), are safer.
    type: dict
seealso:
  - module: selfheal.delivery.alert_rules
"""

EXAMPLES = r"""
- name: Send alerts to the controller
  hosts: alertmanager
  tasks:
    - name: Keep the configuration
      selfheal.delivery.alert_route:
        path: /etc/alertmanager/alertmanager.yml
        url: https://controller.example.org:5050/alerts
        credentials_file: /etc/alertmanager/selfheal.token
        ca_file: /etc/alertmanager/ca.pem
        config:
          route: {receiver: on-call}
          receivers:
            - name: on-call
              slack_configs:
                - {channel: "#on-call", api_url_file: /etc/alertmanager/slack.url}
        reload_url: http://127.0.0.1:9093
"""

RETURN = r"""
content:
  description: The whole configuration.
  returned: without O(path) and O(config)
  type: str
  sample: "route: {}"
path:
  description: The file.
  returned: with O(path)
  type: str
  sample: /etc/alertmanager/alertmanager.yml
checked_by:
  description: The program that found it to be right; empty where there is none, which is warned of.
  returned: with O(path)
  type: str
  sample: /usr/bin/amtool
reloaded:
  description: Whether Alertmanager was asked to read it, and has.
  returned: with O(path)
  type: bool
  sample: true
routes:
  description:
    - What belongs at the beginning of Alertmanager's C(route.routes). After them a route without C(matchers) has to
      hold your own routes and the receiver of C(route), which is not told of what a child has matched.
  returned: success
  type: list
  elements: dict
  sample:
    - matchers: ['service!=""', 'response=~"flag_off|restart|rollback"']
      receiver: selfheal
      group_by: [service, environment]
      group_wait: 1s
      group_interval: 15s
      repeat_interval: 5m
      continue: true
receivers:
  description: What belongs into Alertmanager's C(receivers).
  returned: success
  type: list
  elements: dict
  sample:
    - name: selfheal
      webhook_configs:
        - url: https://controller.example.org:5050/alerts
          send_resolved: true
          max_alerts: 500
          http_config:
            authorization: {type: Bearer, credentials_file: /etc/alertmanager/selfheal.token}
            tls_config: {ca_file: /etc/alertmanager/ca.pem}
            follow_redirects: false
"""
