#!/usr/bin/env python3
"""A service for auth.c: judges logins by a file with a line `NAME PASSWORD` for each user.

Usage: auth-service.py FILE [PORT]. Listens on 127.0.0.1; port 10032 if none is given, and one that the
system picks if that is 0. To be replaced by whatever knows your users; the protocol is in auth.c.
"""

import asyncio
import base64
import hmac
import sys


def read_users(path):
    with open(path, encoding="utf-8") as lines:
        pairs = (line.split(maxsplit=1) for line in lines if line.strip())
        return {name.encode(): password.strip().encode() for name, password in pairs}


def judge(users, login, password):
    known = users.get(login)
    # Compared in either case, so that time does not tell who is known.
    same = hmac.compare_digest(known if known is not None else password + b"x", password)
    return "yes" if known is not None and same else "no"


async def serve(users, reader, writer):
    while line := await reader.readline():
        number, login, password = line.split()
        verdict = judge(users, base64.b64decode(login), base64.b64decode(password))
        writer.write(number + b" " + verdict.encode() + b"\n")
        await writer.drain()
    writer.close()


async def main(path, port=10032):
    users = read_users(path)
    server = await asyncio.start_server(lambda r, w: serve(users, r, w), "127.0.0.1", int(port))
    print("judging logins on", *server.sockets[0].getsockname(), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
