"""Sends mail as an ordinary Python program does: smtplib and the email package.

Usage: submit.py HOST:PORT. Sends four mails: plain text, one with an attachment to two recipients, one
from the null sender, and one with internationalized addresses. Recipients are `python-*@example.net`.
"""

import smtplib
import sys
from email.message import EmailMessage
from email.policy import SMTPUTF8

DEADLINE_SECONDS = 60


def message(recipients, text):
    mail = EmailMessage()
    mail["Subject"] = "Sent by a script"
    mail["From"] = "script@example.org"
    mail["To"] = ", ".join(recipients)
    mail.set_content(text)
    return mail


def main(address):
    host, port = address.rsplit(":", 1)
    with smtplib.SMTP(host, int(port), timeout=DEADLINE_SECONDS) as client:
        client.send_message(message(["python-plain@example.net"], "Hello.\n.\n"))
        two = message(["python-one@example.net", "python-two@example.net"], "With a file.\n")
        two.add_attachment(bytes(range(256)) * 64, maintype="application", subtype="octet-stream")
        client.send_message(two)
        bounce = message(["python-null@example.net"], "A report.\n")
        client.send_message(bounce, from_addr="")
        foreign = EmailMessage(policy=SMTPUTF8)
        foreign["Subject"] = "Grüße"
        foreign["From"] = "jürgen@bücher.example"
        foreign["To"] = "python-ü@example.net"
        foreign.set_content("Schöne Grüße\n")
        client.send_message(foreign)
    print("sent 4 mails to 5 recipients")


if __name__ == "__main__":
    main(sys.argv[1])
