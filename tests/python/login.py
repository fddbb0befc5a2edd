"""Logs in as an ordinary Python program does, and sends one mail.

Usage: login.py HOST:PORT plain|login USER PASSWORD.
"""

import smtplib
import sys

DEADLINE_SECONDS = 60


def main(address, mechanism, user, password):
    host, port = address.rsplit(":", 1)
    with smtplib.SMTP(host, int(port), timeout=DEADLINE_SECONDS) as client:
        client.ehlo()
        client.user, client.password = user, password
        ask = client.auth_plain if mechanism == "plain" else client.auth_login
        client.auth(mechanism, ask)
        text = "Subject: after a login\r\n\r\nHello.\r\n"
        client.sendmail("script@example.org", ["python@example.net"], text)
    print("sent 1 mail")


if __name__ == "__main__":
    main(*sys.argv[1:])
