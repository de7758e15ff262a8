# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guard
short_description: May we act? And what people say of it, pause, resume, approve, hold, promote or abort
description:
  - With O(command=acquire), asks whether an action may be taken on a service, by the policy and by all that the ledger
    remembers. Where the answer is yes, the same transaction takes the service's lease and writes the intent, so that
    nothing acts twice, and nothing acts unrecorded. O(command=release) records how the action went, once.
  - Any other command is a person's word, from any terminal, pipeline or job template that reaches the same ledger.
    It is recorded with who said it and why.
  - A bake that runs obeys V(hold), V(resume), V(promote) and V(abort) at its next look. A rollout that nobody is at
    work on is taken up by the next run of C(selfheal.delivery.reconcile).
  - A pause stops everything but the undo of an unfinished rollout. As long as it is in force, each run shows it as a
    warning.
  - It runs once for a play, whatever hosts are in it. With C(run_once=true) every host gets the registered result.
version_added: 1.0.0
author:
  - selfheal.delivery contributors (@selfheal-delivery)
extends_documentation_fragment:
  - selfheal.delivery.attributes
  - selfheal.delivery.attributes.action
  - selfheal.delivery.ledger
attributes:
  check_mode:
    support: full
    details:
      - Everything is checked, and nothing is recorded. An action that would be allowed is handed on with the id
        C(check).
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each time is recorded as an entry of its own. A rollout that hears the same word twice does what it does once, a
        trigger is acted on once, and an action is closed once.
options:
  service:
    description:
      - The service as its ledger knows it, environment and name.
      - It is required unless O(all_services=true). An empty name is never read as every service.
    type: str
    default: ""
  all_services:
    description: Pause or resume every service, with O(command=pause) and O(command=resume).
    type: bool
    default: false
  command:
    description:
      - V(acquire) asks whether O(action) may be taken. V(release) closes it.
      - V(pause) stops all action. V(resume) lifts the pause, and lets a held rollout go on; whatever there is.
      - V(approve) is the yes to a recommendation. Whoever acquires with O(approved) may then act once.
      - V(hold) keeps the share of places that the rollout has reached, and judges on.
      - V(promote) goes on as if the gates had passed. It needs a O(reason).
      - V(abort) takes every changed place back.
    type: str
    required: true
    choices: [acquire, release, pause, approve, hold, resume, promote, abort]
  reason:
    description:
      - Why. It is kept in the ledger, so it must not contain a secret.
      - It is required for V(pause), V(approve) and V(promote).
    type: str
    default: ""
  by:
    description:
      - Who says it. By default the user of the AWX job, else the operating system's user on the controller.
    type: str
  action:
    description:
      - What is wanted. Required for O(command=acquire).
      - Going back from an unfinished rollout needs nobody's leave, and is not asked for.
    type: str
    choices: [rollout, promote, flag_on, rollback, flag_off, restart, scale, rerun]
  trigger:
    description: Why it is wanted. It selects a policy and nothing else; no text of it is ever run or rendered.
    type: dict
    default: {}
    suboptions:
      kind:
        description: What kind of trigger it is. V(call) is a signed call of another system.
        type: str
        choices: [alert, error_code, call, pipeline, person]
        default: person
      name:
        description: The alert's name, the error code, or the caller. Required for those; else who runs this.
        type: str
        default: ""
      id:
        description:
          - What is the same for every copy of one incident's signal, such as fingerprint and start of an alert. By it,
            the trigger is acted on once.
          - Required for an alert, an error code and a call. Else each run has its own.
        type: str
        default: ""
      at:
        description: When the condition began, in seconds since the epoch.
        type: float
      active:
        description: V(false) when the condition is over.
        type: bool
        default: true
      level:
        description: What was measured, as a multiple of its limit.
        type: float
      evidence:
        description: What is kept with it. It must not contain a secret.
        type: dict
        default: {}
  situation:
    description: What the play found out itself, from its own configuration and sources, and never from the trigger.
    type: dict
    default: {}
    suboptions:
      confirmed:
        description: Whether the source, asked again, says that it is bad. Leave it out when it does not say.
        type: bool
      current:
        description: The release that runs.
        type: str
        default: ""
      known_good:
        description: The release that a rollback would go back to.
        type: str
        default: ""
      changed_at:
        description: When the service was changed last, in seconds since the epoch, where the ledger does not know it.
        type: float
      blocked:
        description: Why the current release must not be rolled back, by its own declaration.
        type: str
        default: ""
      places:
        description: How many places would be changed.
        type: int
        default: 0
      services:
        description: How many services the inventory has. V(0) when that is not known.
        type: int
        default: 0
      alarming:
        description: How many of these alarm now, by a source that was asked. V(0) when only the ledger can tell.
        type: int
        default: 0
  guard:
    description: The guard's policy for the service, C(delivery_services.<service>.guard). Without it, the defaults.
    type: dict
    default: {}
  release:
    description: The release that the action is about, for O(kind=rollback) the one that it leaves. By default the
      current one.
    type: str
    default: ""
  kind:
    description: What is written into the ledger. V(rollback) for going back to a release, V(action) for everything
      else.
    type: str
    choices: [rollback, action]
    default: action
  intent:
    description: What is written down before the action, for whoever has to find out what it was. It must not contain a
      secret.
    type: dict
    default: {}
  after:
    description:
      - The id of the action, C(id) in RV(rollout), that was taken on the same trigger a moment ago and did not help,
        which is closed. This one is then the next way back of one and the same incident, and neither the cooldown nor
        the breaker that the first one set off stands against it.
      - It has to be the service's last action, another one than O(action), and closed as failed or V(not_recovered)
        within the last 15 minutes. Otherwise it changes nothing.
    type: str
    default: ""
  approved:
    description: The RV(decision.id) of the recommendation that a person has approved.
    type: str
    default: ""
  lease_ttl:
    description: How many seconds the lease lasts, unless it is renewed. Longer than the action takes.
    type: float
    default: 60.0
  on_denied:
    description: Whether the task fails when the action is not allowed.
    type: str
    choices: [fail, continue]
    default: fail
  rollout:
    description: The C(rollout.id) that V(acquire) returned. Required for O(command=release).
    type: str
    default: ""
  lease:
    description:
      - The lease that V(acquire) returned. One that has expired will do, as long as nobody has taken the service since.
      - Without it, O(command=release) takes the action over from a controller that is gone.
    type: dict
  ok:
    description: Whether the action went well. Required for O(command=release).
    type: bool
  verified:
    description: What the service's own metrics said afterwards. V(unverified) when they said nothing.
    type: str
    choices: [recovered, not_recovered, unverified]
  facts:
    description: What is recorded with the outcome. It must not contain a secret.
    type: dict
    default: {}
  for:
    description: How long the pause lasts, such as V(90m) or V(2h). A pause needs this, O(ends_at) or O(without_end).
    type: str
  ends_at:
    description: When the pause ends, as a date and time with its offset, such as V(2026-11-30T08:00:00+01:00).
    type: str
  without_end:
    description: The pause lasts until somebody resumes it. Each run shows it until then.
    type: bool
    default: false
  decision:
    description: The id of the recommendation to approve. Required for O(command=approve).
    type: str
    default: ""
seealso:
  - module: selfheal.delivery.guard_info
  - module: selfheal.delivery.ledger_info
"""

EXAMPLES = r"""
- name: Go back now
  selfheal.delivery.guard:
    service: shop
    command: abort
    reason: Support sees empty baskets, which no gate measures
  delegate_to: localhost

- name: Promote ahead of the verdict
  selfheal.delivery.guard:
    service: shop
    command: promote
    reason: INC-4711, the old release loses orders
    by: "{{ lookup('env', 'GITLAB_USER_LOGIN') }}"
    ledger:
      path: /var/lib/selfheal/ledger.sqlite
  delegate_to: localhost

- name: Nothing may act during the migration
  selfheal.delivery.guard:
    all_services: true
    command: pause
    for: 4h
    reason: CHG-1234, the database moves

- name: Approve what the guard recommended
  selfheal.delivery.guard:
    service: production/shop
    command: approve
    decision: 5f2c81d09ab4
    reason: The graphs agree, go back

# Any play can act under the guard. What is not allowed fails, and the rescue tells it.
- name: Restart the shop when it says that it is stuck
  hosts: shop_controller
  gather_facts: false
  tasks:
    - name: Restart it once, if the guard allows it
      block:
        - name: May we?
          selfheal.delivery.guard:
            command: acquire
            service: production/shop
            action: restart
            trigger:
              kind: alert
              name: ShopStuck
              id: "{{ alert.fingerprint }}:{{ alert.startsAt }}"
            situation:
              confirmed: "{{ stuck.value > 0 }}"
              places: 1
            guard: "{{ delivery_services.shop.guard }}"
            lease_ttl: 300
          register: granted

        - name: Restart it
          ansible.builtin.service:
            name: shop
            state: restarted

        - name: Does it answer again?
          ansible.builtin.uri:
            url: http://127.0.0.1:8080/healthz
          register: answered
          retries: 10
          delay: 3
          until: answered is succeeded

        - name: Remember that it helped
          ansible.builtin.set_fact:
            healed: "{{ granted.rollout.id }}"
      rescue:
        - name: Say why it was not restarted, or did not help
          ansible.builtin.debug:
            msg: "{{ ansible_failed_result.msg }}"
      always:
        - name: Record how it went, and give the lease back
          selfheal.delivery.guard:
            command: release
            service: production/shop
            rollout: "{{ granted.rollout.id }}"
            lease: "{{ granted.lease }}"
            ok: "{{ healed | default('') == granted.rollout.id }}"
            verified: "{{ 'recovered' if healed | default('') == granted.rollout.id else 'not_recovered' }}"
          when: granted.allowed | default(false)
"""

RETURN = r"""
allowed:
  description: Whether to act.
  returned: for O(command=acquire)
  type: bool
  sample: false
decision:
  description: The decision as it was recorded, also when the task fails.
  returned: for O(command=acquire)
  type: dict
  contains:
    id:
      description: Its id, and the one of the rollout that it opened.
      type: str
      sample: 5f2c81d09ab4
    service:
      description: The service.
      type: str
      sample: production/shop
    action:
      description: What was asked for.
      type: str
      sample: restart
    verdict:
      description: >-
        V(allowed), V(denied), V(recommended), which waits for a person's approval, or V(observed), which is only
        recorded.
      type: str
      sample: denied
    reason:
      description: Why it is not allowed, in one word. V(store_unavailable) when the ledger cannot be reached.
      type: str
      sample: paused
    message:
      description: Why, in one sentence.
      type: str
      sample: >-
        ada paused it at 2026-11-21 15:50:28 UTC until 2026-11-21 17:50:28 UTC: CHG-1234, the database moves. Resume it
        with the guard module.
    page:
      description: Whether a person has to know, now.
      type: bool
      sample: true
    until:
      description: When asking again may help, in seconds since the epoch, or V(null).
      type: float
      sample: 1795283428.8
    policy:
      description: The version of the policy that decided, the beginning of its SHA-256.
      type: str
      sample: ef12f6feb9f7
    storm:
      description: So many services alarm together that people are paged once for all of them.
      type: bool
      sample: false
repeated:
  description: The same trigger was told the same before. It was counted, and not recorded again.
  returned: for O(command=acquire)
  type: bool
  sample: false
lease:
  description: The right to act on the service, or V(null).
  returned: for O(command=acquire)
  type: dict
  sample: {service: production/shop, holder: "ci@runner-3 pid 4711", token: 7, expires: 1795251653.8}
rollout:
  description: The action as the ledger has it, or V(null). As RV(selfheal.delivery.rollout#module:rollout).
  returned: for O(command=acquire) and O(command=release)
  type: dict
  sample: {id: 5f2c81d09ab4, service: production/shop, release: 2.0.1, kind: action, state: open, token: 7}
outcome:
  description: How it was recorded, V(done) when it went well, else V(undone).
  returned: for O(command=release)
  type: str
  sample: done
pause:
  description: The pause. Its C(service) is empty for the one of every service, its C(until) V(null) when it has no end.
  returned: for O(command=pause)
  type: dict
  sample: {service: "", by: ada, at: 1795251593.85, reason: "CHG-1234, the database moves", until: 1795265993.85}
unpaused:
  description: Whether a pause was lifted.
  returned: for O(command=resume)
  type: bool
  sample: true
approved:
  description: The id of the recommendation.
  returned: for O(command=approve)
  type: str
  sample: 5f2c81d09ab4
said:
  description: The command as it was recorded.
  returned: for O(command=hold), O(command=resume) with an unfinished rollout, O(command=promote) and O(command=abort)
  type: dict
  contains:
    seq:
      description: Its number, which rises with each command. V(0) in check mode.
      type: int
      sample: 3
    service:
      description: The service.
      type: str
      sample: shop
    rollout:
      description: The id of the rollout that it was said about.
      type: str
      sample: 5f2c81d09ab4
    command:
      description: The command.
      type: str
      sample: abort
    by:
      description: Who said it.
      type: str
      sample: ada
    reason:
      description: Why.
      type: str
      sample: Support sees empty baskets, which no gate measures
    at:
      description: When, in seconds since the epoch.
      type: float
      sample: 1795251593.85
    taken:
      description: When the bake saw it, in seconds since the epoch. Not yet, so V(null).
      type: float
      sample: null
holder:
  description: Who is at work on the service and will obey, or V(null) when nobody is.
  returned: with RV(said)
  type: str
  sample: "ci-7:21337"
msg:
  description: The same in one line, or what went wrong.
  returned: always
  type: str
  sample: "shop: abort of rollout 5f2c81d09ab4 by ada; ci-7:21337 obeys it at its next look"
"""
