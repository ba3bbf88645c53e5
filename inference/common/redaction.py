"""Keep secrets out of what is written: log lines, error records, settings that a run notes down.

    from inference.common.redaction import redact
    log.error("%s", redact(str(error)))

What is hidden: user name and password of any URL, also where HTTP's basic authentication encodes them,
and the value of every environment variable whose name says that it is a secret (OPENAI_API_KEY,
HF_TOKEN, WANDB_API_KEY, ...).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from urllib.parse import quote

HIDDEN = "***"
SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")  # what the name of such a variable ends with
MIN_SECRET_LENGTH = 8  # a shorter value, as in DEBUG_KEY=1, would blank out half of every text
# Everything up to the last @ before the path: a password may itself hold an @.
USER_INFO = re.compile(r"(?<=://)[^\s/?#\"'<>]*@")
BASIC = re.compile(r"(?<=Basic )[A-Za-z0-9+/]{4,}=*")  # how a client sends them


def secrets() -> list[str]:
    """The secrets of the environment, longest first, in each spelling that a message may have them in."""
    spellings = set()
    for name, value in os.environ.items():
        if name.upper().endswith(SECRET_NAMES) and len(value.strip()) >= MIN_SECRET_LENGTH:
            value = value.strip()  # as HTTP clients send it
            spellings |= {value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]}
    return sorted(spellings, key=len, reverse=True)


def redact(text: str) -> str:
    """``text`` with every secret that the environment or a URL in the text gives away replaced by ``***``."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    return BASIC.sub(_hidden_credentials, USER_INFO.sub(f"{HIDDEN}@", text))


def _hidden_credentials(match: re.Match) -> str:
    try:
        return HIDDEN if b":" in base64.b64decode(match[0]) else match[0]
    except binascii.Error:  # a word after "Basic"
        return match[0]
