"""Sends files of mail with a library that scripts use, octet by octet.

Usage: send_files.py LIBRARY HOST:PORT FOLDER [USER PASSWORD]. LIBRARY is smtplib or aiosmtplib. FOLDER holds
NUMBER.crlf and beside it NUMBER.to, the recipients, one a line. With a user, by STARTTLS and AUTH, the
certificate being that of FOLDER/ca.pem. Exits 1 at the first refusal.
"""

import asyncio
import glob
import smtplib
import ssl
import sys

import aiosmtplib

DEADLINE_SECONDS = 60
HELLO = "client.example"


def files(folder):
    for path in sorted(glob.glob(f"{folder}/*.crlf")):
        with open(path, "rb") as file, open(path[: -len("crlf")] + "to", encoding="utf-8") as to:
            octets = file.read()
            yield to.read().split(), octets, [] if octets.isascii() else ["BODY=8BITMIME"]


def trust(folder):
    return ssl.create_default_context(cafile=f"{folder}/ca.pem")


def by_smtplib(host, port, folder, login):
    with smtplib.SMTP(host, port, local_hostname=HELLO, timeout=DEADLINE_SECONDS) as client:
        if login:
            client.starttls(context=trust(folder))
            client.login(*login)
        for recipients, octets, options in files(folder):
            refused = client.sendmail("a@example.org", recipients, octets, mail_options=options)
            if refused:
                sys.exit(f"refused: {refused}")


async def by_aiosmtplib(host, port, folder, login):
    client = aiosmtplib.SMTP(
        hostname=host,
        port=port,
        local_hostname=HELLO,
        timeout=DEADLINE_SECONDS,
        start_tls=bool(login),
        tls_context=trust(folder) if login else None,
    )
    async with client:
        if login:
            await client.login(*login)
        for recipients, octets, options in files(folder):
            refused, _ = await client.sendmail(
                "a@example.org", recipients, octets, mail_options=options
            )
            if refused:
                sys.exit(f"refused: {refused}")


def main(library, address, folder, *login):
    host, port = address.rsplit(":", 1)
    if library == "smtplib":
        by_smtplib(host, int(port), folder, login)
    else:
        asyncio.run(by_aiosmtplib(host, int(port), folder, login))


if __name__ == "__main__":
    main(*sys.argv[1:])
