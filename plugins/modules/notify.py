# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: notify
short_description: Tell people what happened, by Slack, PagerDuty, a webhook or e-mail
description:
  - Sends one message to every channel that wants it, all at the same time, and within O(timeout) as a whole.
  - A notifier that is down, slow, or that refuses the message fails nothing. The message is kept in the ledger's store
    and sent again by the next run, at first at once, then after 30 seconds and twice as long each time, up to an hour.
    It is kept for a day, and not more than 50 are; what is given up is in RV(dropped).
  - A message may come twice, when an answer was lost or a run died at the wrong moment. It then has the same id, which
    a webhook gets as C(webhook-id), and PagerDuty takes both for one.
  - Texts are shown in one line and bounded, and what looks like a secret is masked. What a channel is reached by is
    never in a message, in the result or in the store.
  - When the ledger's store is down, it is sent all the same, and the result says that nothing could be kept.
  - It runs once for a play, whatever hosts are in it. With C(run_once=true) every host gets the registered result.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
requirements:
  - requests, for all but e-mail
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
attributes:
  check_mode:
    support: full
    details:
      - Everything is checked and nothing is sent, so a task with C(check_mode=true) tells wrong channels before
        anything else is begun.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run sends a message of its own.
options:
  channels:
    description:
      - The channels by a name of your choice. Each is a dictionary with its C(type), V(slack), V(pagerduty), V(webhook)
        or V(email), and the options of that type.
      - C(only) is a list of events that it is told of, all when it is not set. C(min_severity) is the least severity,
        V(info) when it is not set, for V(pagerduty) V(warning). What resolves an incident gets through to V(pagerduty)
        however small that is.
      - C(slack) takes C(url), the address of an incoming webhook.
      - C(pagerduty) takes C(routing_key), the integration key of an Events API v2 integration, and C(url) for another
        region.
      - C(webhook) takes C(url), and C(token) to send as a bearer token, C(secret) to sign with as Standard Webhooks
        says, or both. A secret begins with V(whsec_).
      - C(email) takes C(host), C(port), C(security) (V(starttls), V(tls) or V(none)), C(username) and C(password),
        C(sender), and C(to), a list of addresses.
      - All take C(ca_path), a file with the certificates of the authorities to trust, and C(validate_certs).
      - A C(url) of C(slack) or C(webhook), a C(routing_key), C(token), C(secret) or C(password) that is not set comes
        from the environment variable SELFHEAL_NOTIFY_NAME_OPTION, in capitals. For the C(url) of the channel C(team),
        that is C(SELFHEAL_NOTIFY_TEAM_URL).
      - Without any channel it does nothing.
    type: dict
    default: {}
  event:
    description:
      - What happened. By default what O(facts) say; for a rollout, how it stands.
    type: str
    choices:
      - started
      - done
      - held
      - undone
      - unresolved
      - rolled_back
      - denied
      - recommended
      - approved
      - paused
      - resumed
      - page
      - resolved
  message:
    description:
      - What happened, in words. By default what O(facts) say; for a rollout, how it ended, why, and where it is now.
    type: str
  facts:
    description:
      - What it is about. A rollout as RV(selfheal.delivery.rollout#module:rollout) has it, or a dictionary with
        C(rollout) and what you have to say beside it, which counts more, or only that.
      - C(service), C(environment), C(severity) (V(info), V(warning), V(error) or V(critical)), C(code), C(runbook) (an
        address), C(verdict) (a dictionary of C(verdict), C(reason), C(gate) and C(figures)), C(from_release),
        C(to_release), C(outcome), C(why), C(entry) (of the ledger, C(seq) and C(hash)), C(at) in seconds since the
        epoch, and C(links), a list of addresses or of dictionaries of C(href) and C(text).
      - C(incident) names what it is about where there is no rollout, so that later messages about the same are told as
        one. C(dedup_key) sets the whole key.
      - The number of the ledger's entry about a rollout is looked up when it is not given.
    type: dict
    default: {}
  timeout:
    description:
      - How long the sending may take as a whole, in seconds, up to V(300). The ledger's store has a bound of its own.
    type: float
    default: 10
  about:
    description:
      - Ids of rollouts and decisions of which this tells. What nobody has told of two minutes after it was recorded,
        because the run that had to was killed, is told by the next run of this module.
      - The rollout among the O(facts) is known without it.
    type: list
    elements: str
    default: []
  retry_only:
    description:
      - Only send what was kept.
    type: bool
    default: false
seealso:
  - module: selfheal.delivery.rollout
  - module: selfheal.delivery.ledger_info
"""

EXAMPLES = r"""
- name: Tell how the rollout ended
  selfheal.delivery.notify:
    facts:
      rollout: "{{ closed.rollout }}"
      runbook: https://runbooks.example.org/shop
    channels:
      team:
        type: slack
        url: "{{ vault_slack_hook }}"
      oncall:
        type: pagerduty
        routing_key: "{{ vault_pagerduty_key }}"
        only: [unresolved, held, page, undone, done]

- name: Wake somebody, with the key from SELFHEAL_NOTIFY_ONCALL_ROUTING_KEY
  selfheal.delivery.notify:
    event: page
    message: The shop loses orders, and its last release is three days old
    facts:
      service: production/shop
      code: SHOP-ORDER-001
      runbook: https://runbooks.example.org/SHOP-ORDER-001
    channels: {oncall: {type: pagerduty}}

- name: Send what could not be sent before
  selfheal.delivery.notify:
    retry_only: true
    channels: "{{ delivery_notify }}"
    ledger: "{{ delivery_ledger }}"
"""

RETURN = r"""
sent:
  description: What got through, each with the channel and what it answered.
  returned: success
  type: list
  elements: dict
  contains:
    channel: {description: The name of the channel., type: str, sample: team}
    event: {description: What happened., type: str, sample: undone}
    service: {description: The service., type: str, sample: production/shop}
    id: {description: The id of the message., type: str, sample: msg_0f5c1d2e}
    reason: {description: What the channel answered., type: str, sample: accepted}
kept:
  description: What did not get through and is sent again by a later run.
  returned: success
  type: list
  elements: dict
  contains:
    channel: {description: The name of the channel., type: str, sample: oncall}
    event: {description: What happened., type: str, sample: page}
    service: {description: The service., type: str, sample: production/shop}
    id: {description: The id of the message., type: str, sample: msg_0f5c1d2e}
    reason: {description: Why., type: str, sample: events.pagerduty.com did not answer within 10 s}
    tries: {description: How often it was tried., type: int, sample: 2}
    due: {description: When it is tried again at the earliest., type: str, sample: "2026-11-21T15:04:05Z"}
dropped:
  description: What was given up.
  returned: success
  type: list
  elements: dict
  contains:
    channel: {description: The name of the channel., type: str, sample: hook}
    event: {description: What happened., type: str, sample: done}
    service: {description: The service., type: str, sample: production/shop}
    reason: {description: Why., type: str, sample: "hook.example.org answers HTTP 400: unknown field"}
msg:
  description: The same in one line, or what is wrong with the options.
  returned: always
  type: str
  sample: sent to team; kept for oncall
"""
