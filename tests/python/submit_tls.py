"""Sends mail over TLS as an ordinary Python program does: smtplib and ssl, with verification.

Usage: submit_tls.py starttls|implicit HOST:PORT AUTHORITY. The recipient is `python-WAY@example.net`.
"""

import smtplib
import ssl
import sys
from email.message import EmailMessage

DEADLINE_SECONDS = 60


def main(way, address, authority):
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=authority)
    if way == "implicit":
        client = smtplib.SMTP_SSL(host, int(port), timeout=DEADLINE_SECONDS, context=context)
    else:
        client = smtplib.SMTP(host, int(port), timeout=DEADLINE_SECONDS)
        client.starttls(context=context)
    mail = EmailMessage()
    mail["Subject"] = "Sent by a script over TLS"
    mail["From"] = "script@example.org"
    mail["To"] = f"python-{way}@example.net"
    mail.set_content("Hello.\n.\n" * 5000)
    with client:
        client.send_message(mail)


main(*sys.argv[1:])
