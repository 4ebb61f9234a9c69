"""Where a secret is kept: the references that ``secret_env`` holds. Never a secret itself.

``ssm:NAME`` is a parameter of SSM's Parameter Store, ``secretsmanager:NAME`` a secret of Secrets
Manager, with ``#key`` one value of a secret that is a JSON object. NAME may be an ARN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SSM = "ssm"
SECRETS_MANAGER = "secretsmanager"

# Systems Manager User Guide, "Parameter names", "Working with parameter versions" and "labels";
# Secrets Manager API Reference, CreateSecret: an ARN ends with six characters more than the name.
_ARN = r"arn:aws[a-z-]*:{}:[a-z0-9-]+:[0-9]{{12}}:"
_PARAMETER = (
    rf"ssm:(?:{_ARN.format(SSM)}parameter/)?[A-Za-z0-9_./-]{{1,1011}}(?::[A-Za-z0-9_.-]{{1,100}})?"
)
_SECRET = (
    rf"secretsmanager:(?:{_ARN.format(SECRETS_MANAGER)}secret:)?[A-Za-z0-9/_+=.@-]{{1,519}}"
    r"(?:#[^\x00-\x1f\x7f]{1,256})?"
)
PATTERN = rf"(?:{_PARAMETER}|{_SECRET})"

_PATTERN = re.compile(PATTERN)

_RULES = {
    SSM: "must be ssm:NAME: a parameter's name, perhaps with :version or :label, or its ARN",
    SECRETS_MANAGER: "must be secretsmanager:NAME or secretsmanager:NAME#KEY: a secret's name or "
    "ARN, and perhaps the key of a JSON object",
}


@dataclass(frozen=True, slots=True)
class SecretReference:
    """``region`` None: the machine's own. ``key``: of a JSON object, None for the whole secret."""

    service: str
    name: str
    key: str | None = None
    region: str | None = None


def parse_reference(text: str) -> SecretReference:
    """Raises ValueError with the rule, and never with the text: it may be a secret by mistake."""
    service, _, rest = text.partition(":")
    if service not in _RULES:
        where = "ssm:NAME or secretsmanager:NAME"
        raise ValueError(f"must say where the secret is kept, {where}, and not what it is")
    if not _PATTERN.fullmatch(text):
        raise ValueError(_RULES[service])
    name, _, key = rest.partition("#")
    region = name.split(":")[3] if name.startswith("arn:aws") else None
    return SecretReference(service, name, key or None, region)
