"""Mail with a file, by SMTP: encrypted unless it is said not to be, certificates always checked."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Final

from pipeline.reports.schedule import MailServer

TIMEOUT_S: Final = 30.0
_TYPES: Final = {
    "html": ("text", "html"),
    "csv": ("text", "csv"),
    "json": ("application", "json"),
    "parquet": ("application", "vnd.apache.parquet"),
}


class MailError(Exception):
    """The mail was not taken, as far as is known; the text has no password."""


def with_file(
    *, sender: str, to: Sequence[str], subject: str, text: str, file: str, content: bytes, message_id: str
) -> EmailMessage:
    """A mail with one file. The same ``message_id`` again is the same mail again: mailboxes may show it once."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, ", ".join(to), subject
    message["Date"], message["Message-ID"] = formatdate(), message_id
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    kind, of_kind = _TYPES.get(file.rsplit(".", 1)[-1], ("text", "plain"))
    message.add_attachment(content, maintype=kind, subtype=of_kind, filename=file)
    return message


def send(server: MailServer, message: EmailMessage) -> None:
    """Give ``message`` to ``server``; whoever is refused is an error too. Raises :class:`MailError`."""
    try:
        context = ssl.create_default_context()
        if server.security == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=context)
        else:
            client = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
        with client:
            if server.security == "starttls":
                client.starttls(context=context)
            if server.user:
                client.login(server.user, Path(server.password_file).read_text().strip())
            refused = client.send_message(message)
    except smtplib.SMTPResponseException as error:
        # What the server says may hold what it was given.
        raise MailError(f"the mail server {server.host}:{server.port} refuses with {error.smtp_code}") from None
    except (OSError, smtplib.SMTPException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise MailError(f"the mail server {server.host}:{server.port} does not take it: {why}") from None
    if refused:
        raise MailError(
            f"the mail server {server.host}:{server.port} takes it for some only, {len(refused)} are refused"
        )
