# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""E-mail, by a server that takes mail: with STARTTLS, TLS from the start, or in the clear but then without a login."""

from __future__ import annotations

import smtplib
import ssl
from datetime import datetime, timezone
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from hashlib import sha256
from typing import List, Mapping, Sequence, Tuple

from .._errors import OptionError, nearest
from .channel import NEAR, Config, Sent, authority, flag, text
from .message import Message, addresses, rows
from .text import clean

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_SUBJECT = 150
# codes that speak of the login, which can be mended without the message
_LOGIN = (530, 534, 535, 538)


class Email:
    OPTIONS: Mapping[str, type] = {
        "host": str,
        "port": int,
        "security": str,
        "username": str,
        "password": str,
        "sender": str,
        "to": list,
        "ca_path": str,
        "validate_certs": bool,
    }
    REQUIRED: Sequence[str] = ("host", "sender", "to")
    SECRETS: Sequence[str] = ("password",)
    LEAST = "info"
    ORDERED = False

    def check(self, config: Config) -> None:
        security = text(config, "security", "starttls")
        if security not in _PORTS:
            word = clean(security, 40)
            raise OptionError(
                f"its security is {word!r}{nearest(word, _PORTS)}", mend=f"Take one of {', '.join(_PORTS)}"
            )
        if security == "none" and text(config, "username") and text(config, "host") not in NEAR:
            raise OptionError("its password would be sent unencrypted", mend="Set security to starttls or tls")
        if bool(text(config, "username")) != bool(text(config, "password")):
            raise OptionError("a login needs both, username and password", mend="Set both, or neither")
        for one in [text(config, "sender"), *_to(config)]:
            if not one.isprintable() or "@" not in parseaddr(one)[1]:
                raise OptionError(f"{clean(one, 80)!r} is not an e-mail address", mend="Write it like ops@example.org")

    def send(self, message: Message, config: Config, timeout: float) -> Sent:
        host = text(config, "host")
        try:
            lost = _send(letter(message, text(config, "sender"), _to(config)), config, timeout)
        except smtplib.SMTPResponseException as error:
            return _answered(host, error.smtp_code, error.smtp_error)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            return _answered(host, code, said)
        except ssl.SSLError as error:
            return Sent(False, f"{host} cannot be trusted: {clean(error.reason, 80)}", again=True, stop=True)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            return Sent(False, f"{host} {_why(error, timeout)}", again=True, stop=True)
        return Sent(True, f"accepted, but not for {', '.join(lost)}" if lost else "accepted")


def letter(message: Message, sender: str, to: List[str]) -> EmailMessage:
    """The mail. Its id is the message's, and all about one incident are one thread."""
    mail = EmailMessage()
    domain = parseaddr(sender)[1].rpartition("@")[2]
    thread = sha256(message.dedup_key.encode("utf-8", "replace")).hexdigest()[:32]
    title = f"[{message.severity}] {message.service}: {message.event.replace('_', ' ')}"
    mail["Subject"] = clean(title, _SUBJECT)
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at, timezone.utc))
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["References"] = f"<{thread}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    pairs = [*rows(message), *((words, href) for href, words in addresses(message))]
    mail.set_content("\n".join([message.summary, "", *(f"{name}: {value}" for name, value in pairs)]) + "\n")
    return mail


def _to(config: Config) -> List[str]:
    to = config.get("to")
    return [str(one) for one in to] if isinstance(to, list) else []


def _send(mail: EmailMessage, config: Config, timeout: float) -> List[str]:
    """Who of several recipients was refused; an exception of smtplib when nobody got it."""
    security = text(config, "security", "starttls")
    given = config.get("port")
    server = text(config, "host"), given if isinstance(given, int) else _PORTS[security]
    with _connected(server, security, _context(config), timeout) as smtp:
        if text(config, "username"):
            smtp.login(text(config, "username"), text(config, "password"))
        return sorted(smtp.send_message(mail))


def _connected(server: Tuple[str, int], security: str, context: ssl.SSLContext, timeout: float) -> smtplib.SMTP:
    if security == "tls":
        return smtplib.SMTP_SSL(*server, timeout=timeout, context=context)
    smtp = smtplib.SMTP(*server, timeout=timeout)
    if security == "starttls":
        try:
            smtp.starttls(context=context)
        except Exception:
            smtp.close()
            raise
    return smtp


def _context(config: Config) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority(config))
    if not flag(config, "validate_certs", True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _answered(host: str, code: int, said: object) -> Sent:
    words = clean(said.decode("utf-8", "replace") if isinstance(said, bytes) else said, 160)
    again = not 500 <= code < 600 or code in _LOGIN
    return Sent(False, f"{host} answers {code}: {words}", again=again, stop=again)


def _why(error: Exception, timeout: float) -> str:
    # smtplib takes a time that is up for the end of the connection
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return f"did not answer within {round(timeout, 1):g} s"
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "offers no STARTTLS, or no login"
    if isinstance(error, (smtplib.SMTPServerDisconnected, ConnectionError)):
        return "broke the connection"
    return f"could not be spoken to ({type(error).__name__})"
