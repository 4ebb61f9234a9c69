"""Which names are those of files that hold secrets."""

from __future__ import annotations

import pytest

from runner.targets.ec2.launch.secret_files import TABLE, secret_in

SECRET = (
    ".env", ".env.production", ".envrc", "prod.env", ".ENV", "deploy/.env.local", ".envs/.django",
    ".netrc", "_netrc", "home/.netrc", ".git-credentials",
    ".aws/credentials", ".aws/config", "x/.aws/sso/cache/1.json", "credentials",
    ".config/gcloud/credentials.db", "application_default_credentials.json",
    "client_secret_123.apps.json",
    ".ssh/config", "id_rsa", "keys/id_ed25519", "id_ecdsa_sk", "id_rsa.old",
    "tls/server.pem", "Server.PEM", "tls/server.key", "app.p12", "app.jks",
    ".pypirc", ".npmrc", "web/.npmrc", ".docker/config.json", ".kube/config", "kubeconfig",
    "dev.kubeconfig", ".streamlit/secrets.toml", "terraform.tfstate", ".env\n",
)  # fmt: skip
PLAIN = (
    "env.py", "environment.yml", "src/env/x.py", "README.env.md", ".environ/x",
    ".env.example", "config/.env.sample", "prod.env.template", ".env.dist", "id_rsa.pub",
    ".ssh/id_ed25519.pub", "id_map.py", "my_id_rsa", "credentials.py", "credentials/reader.py",
    "aws/credentials.md", "config.json", "docker/config.json", "keys.txt", "pem", "x.pem.md",
    "monkey", "secrets.toml", "kube/config", "not.env\nreally",
)  # fmt: skip


@pytest.mark.parametrize("path", SECRET)
def test_it_stays_on_the_laptop(path: str) -> None:
    """A password would be in a bucket, and on a machine that runs other people's code."""
    assert secret_in(path)


@pytest.mark.parametrize("path", PLAIN)
def test_it_goes_along(path: str) -> None:
    """A job would miss a file whose name only resembles that of a secret."""
    assert secret_in(path) is None


def test_each_entry_says_what_such_a_file_holds() -> None:
    """The user could not tell whether it is meant."""
    patterns = [pattern for pattern, _ in TABLE]
    assert len(set(patterns)) == len(patterns) and all(what for _, what in TABLE)
    assert all(pattern == pattern.casefold() for pattern in patterns), "it would match nothing"
