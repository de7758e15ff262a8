# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rulebooks for error codes and for canaries, as they are: what each acts on, and what it only records."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from pathlib import Path
from typing import Any, Dict

import pytest
import requests
from code_catalogue import CART, catalogue, entry
from many_services import ALARM, BAD, services
from rulebook import HERE, Rulebook, alert, notification, rulebook
from tell_servers import hook

pytestmark = [pytest.mark.xdist_group("eda-end-to-end")]


def signed_post(book: Rulebook, key: bytes, body: Dict[str, Any]) -> int:
    """The status that a call is answered with, signed as Standard Webhooks says."""
    text, moment, ident = json.dumps(body).encode(), str(int(time.time())), secrets.token_hex(8)
    code = hmac.new(key, b".".join((ident.encode(), moment.encode(), text)), hashlib.sha256).digest()
    shown = {"webhook-id": ident, "webhook-timestamp": moment, "Content-Type": "application/json"}
    shown["webhook-signature"] = f"v1,{base64.b64encode(code).decode()}"
    return requests.post(f"{book.url}/calls", data=text, headers=shown, timeout=30, proxies=HERE).status_code


def test_a_signed_error_code_gets_the_response_of_its_catalogue(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    key = secrets.token_bytes(32)
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text(f"pipeline whsec_{base64.b64encode(key).decode()}\n")
    codes = tmp_path / "codes.yml"
    codes.write_text(catalogue(**{CART.replace("-", "_"): entry(response=["page"])}))
    given = {"selfheal_signing_keys_file": str(keys), "selfheal_token_file": None}
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told = {"type": "selfheal.error_code", "error_code": CART, "service": "svc000", "timestamp": moment}
    with hook() as people:
        known: Dict[str, Any] = {"delivery_error_codes": str(codes)}
        known["delivery_notify"] = {"people": {"type": "webhook", "url": people.url}}
        with services(tmp_path / "services", 3, ["svc000"], **known) as there:
            folder, name = tmp_path / "book", "selfheal.delivery.error_code"
            with rulebook(folder, ansible_env, name, inventory=there.inventory, variables=given) as book:
                assert signed_post(book, secrets.token_bytes(32), told) == 401
                assert signed_post(book, key, {**told, "version": BAD}) == 200
                book.wait_idle()
                assert book.answered() == 1 and book.count("requests", "unauthorised") == 1
            (page,) = [post.json for post in people.posts]
            assert page["type"] == "selfheal.delivery.page" and CART in json.dumps(page), book.log
            assert there.current("svc000") == BAD


def test_an_alert_of_a_canary_without_a_rollout_aborts_nothing(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    with services(tmp_path / "services", 3, ["svc000"]) as there:
        name = "selfheal.delivery.canary_abort"
        with rulebook(tmp_path / "book", ansible_env, name, inventory=there.inventory) as book:
            assert book.post(notification([alert(ALARM, "svc000", time.time())])) == 200
            book.wait(lambda: "nothing is aborted: " in book.log, "it is said that nothing is aborted", 60)
            book.wait_idle()
            assert book.answered() == 1
        assert there.current("svc000") == BAD and not there.rollouts("svc000")
