"""Reads notices as others do: Python's email package, and flufl.bounce, which mailing lists use.

usage: notices.py FILE...

Prints one JSON object a file: what the parsers found. Exit 1 with a reason for one that is no report
of RFC 6522 and RFC 3464.
"""

import email
import email.policy
import json
import sys

try:
    from flufl.bounce import all_failures
except ImportError:  # Debian has no package of it.
    all_failures = None


def fields_of(message, octets):
    """The two groups of fields: what holds for the message, what for the recipient."""
    status = list(message.iter_parts())[1]
    if status.get_content_type() == "message/delivery-status":
        return [dict(group.items()) for group in status.get_payload()]
    # RFC 6533: the same fields in UTF-8. The package knows the type as a mail, so the part is cut out.
    boundary = b"--" + message.get_boundary().encode()
    part = octets.split(boundary)[2].split(b"\r\n\r\n", 1)[1].decode("utf-8")
    policy = email.policy.SMTPUTF8
    groups = part.strip().split("\r\n\r\n")
    return [dict(email.message_from_string(group, policy=policy).items()) for group in groups]


def check(path):
    with open(path, "rb") as file:
        octets = file.read()
    message = email.message_from_bytes(octets, policy=email.policy.default)
    if message.get_content_type() != "multipart/report":
        sys.exit(f"{path}: {message.get_content_type()}")
    if message.get_param("report-type") != "delivery-status":
        sys.exit(f"{path}: report-type {message.get_param('report-type')}")
    for part in [message, *message.iter_parts()]:
        if part.defects:
            sys.exit(f"{path}: {part.defects}")
    parts = list(message.iter_parts())
    text = parts[0]
    groups = fields_of(message, octets)
    if len(groups) != 2:
        sys.exit(f"{path}: {len(groups)} groups of fields")
    # One that all parsers know as a mail: with the policy of old programs.
    failures = None
    if all_failures is not None:
        temporary, permanent = all_failures(email.message_from_bytes(octets))
        failures = {
            "temporary": sorted(address.decode() for address in temporary),
            "permanent": sorted(address.decode() for address in permanent),
        }
    return {
        "to": message["To"],
        "from": message["From"],
        "auto-submitted": message["Auto-Submitted"],
        "text": text.get_content(),
        "message": groups[0],
        "recipient": groups[1],
        "types": [part.get_content_type() for part in parts],
        "original": parts[2].as_string() if len(parts) > 2 else None,
        "failures": failures,
    }


for name in sys.argv[1:]:
    print(json.dumps(check(name)))
