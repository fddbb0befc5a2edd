"""Logs in as an ordinary Python program does, and sends one mail.

Usage: login.py HOST:PORT plain|login USER PASSWORD [starttls|forget]. With `starttls` it logs in under
TLS; with `forget` it logs in before that, and must find that this counts no longer behind it.
"""

import smtplib
import ssl
import sys

DEADLINE_SECONDS = 60


def log_in(client, mechanism, user, password):
    client.ehlo()
    client.user, client.password = user, password
    ask = client.auth_plain if mechanism == "plain" else client.auth_login
    client.auth(mechanism, ask)


def start_tls(client):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client.starttls(context=context)


def main(address, mechanism, user, password, mode=""):
    host, port = address.rsplit(":", 1)
    with smtplib.SMTP(host, int(port), timeout=DEADLINE_SECONDS) as client:
        if mode == "forget":
            log_in(client, mechanism, user, password)
            start_tls(client)
            client.ehlo()
            assert "PLAIN" in client.esmtp_features["auth"], client.esmtp_features
            client.mail("script@example.org")
            code, _ = client.rcpt("python@example.net")
            assert code == 530, code
            client.rset()
        elif mode == "starttls":
            client.ehlo()
            assert "auth" not in client.esmtp_features, client.esmtp_features
            start_tls(client)
        log_in(client, mechanism, user, password)
        text = "Subject: after a login\r\n\r\nHello.\r\n"
        client.sendmail("script@example.org", ["python@example.net"], text)
    print("sent 1 mail")


if __name__ == "__main__":
    main(*sys.argv[1:])
