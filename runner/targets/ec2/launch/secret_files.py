"""Files that hold secrets by their well-known names: they stay on the laptop unless asked for.

One table, each entry with what such a file holds. A name says nothing certain: what is left out is
told by name, and `--include` ships it.
"""

from __future__ import annotations

import re

_KEYS = "a private key, or what may hold one"
_CLOUD = "credentials of a cloud"
_VARIABLES = "variables, often with secrets"

TABLE = (
    # direnv's .envrc is among them.
    (".env*", _VARIABLES),
    ("*.env", _VARIABLES),
    (".envs/", _VARIABLES),
    (".netrc", "passwords of hosts"),
    ("_netrc", "passwords of hosts"),
    (".git-credentials", "passwords of git hosts"),
    (".aws/", _CLOUD),
    (".azure/", _CLOUD),
    (".oci/", _CLOUD),
    (".config/gcloud/", _CLOUD),
    ("credentials", _CLOUD),
    ("credentials.json", _CLOUD),
    ("application_default_credentials.json", _CLOUD),
    ("client_secret*.json", _CLOUD),
    (".boto", _CLOUD),
    (".s3cfg", _CLOUD),
    (".ssh/", _KEYS),
    ("id_rsa*", _KEYS),
    ("id_dsa*", _KEYS),
    ("id_ecdsa*", _KEYS),
    ("id_ed25519*", _KEYS),
    (".gnupg/", _KEYS),
    ("*.pem", _KEYS),
    ("*.key", _KEYS),
    ("*.ppk", _KEYS),
    ("*.p12", _KEYS),
    ("*.pfx", _KEYS),
    ("*.jks", _KEYS),
    ("*.keystore", _KEYS),
    ("*.kdbx", "passwords"),
    (".htpasswd", "passwords"),
    (".pgpass", "passwords of databases"),
    (".my.cnf", "passwords of databases"),
    (".pypirc", "tokens of a package registry"),
    (".npmrc", "tokens of a package registry"),
    (".docker/config.json", "passwords of image registries"),
    (".dockercfg", "passwords of image registries"),
    (".kube/", "access to a cluster"),
    ("kubeconfig", "access to a cluster"),
    ("*.kubeconfig", "access to a cluster"),
    (".vault-token", "a token"),
    ("kaggle.json", "a token"),
    (".huggingface/token", "a token"),
    (".streamlit/secrets.toml", "secrets of an application"),
    ("*.tfstate", "Terraform's state, with secrets in clear"),
    ("*.tfstate.backup", "Terraform's state, with secrets in clear"),
)
"""A pattern and what such a file holds. Of a pattern's parts the last is the file's name and those
before it are folders right above; one that ends with `/` is a folder anywhere on the way. Upper and
lower case are the same: they are on some laptops."""

HARMLESS = ("*.example", "*.sample", "*.template", "*.dist", "*.pub")
"""Names that are made to be shown: a pattern to fill in, a public key."""


def secret_in(path: str) -> str | None:
    """What the file at a relative path holds by its name; None for any other."""
    path = path.casefold()
    if not _ANY.search(path) or _HARMLESS.search(path):
        return None
    return next(what for pattern, what in TABLE if re.search(_expression(pattern), path))


def _expression(pattern: str) -> str:
    text = re.escape(pattern).replace(r"\*", "[^/]*")
    return f"(?:^|/){text}" + ("" if pattern.endswith("/") else r"\Z")


# Work folders have tens of thousands of files: one search for each, not one a pattern.
_ANY = re.compile("|".join(_expression(pattern) for pattern, _ in TABLE))
_HARMLESS = re.compile("|".join(_expression(pattern) for pattern in HARMLESS))
