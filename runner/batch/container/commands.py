"""What the containers of a Batch job run, as the commands of a definition; and the bundle's place.

Pure but for ``store_bundle``. Each container finds its paths in its environment: RUNNER_VOLUME,
the volume that all of a job's containers share; RUNNER_BUNDLE, runner's own bundle, where the image
has no runner.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

from runner.batch.container.bootstrap import LITTLE_MEMORY, RUN
from runner.bundle.bare_files import bare_files
from runner.errors import UsageError
from runner.results.s3.store import S3Store
from runner.results.stores import is_s3, parse_s3
from runner.results.upload.source_file import SourceFile

ROOM = "runner.batch.container"

_BUNDLES = "runner/bundles"
_TIME = (1980, 1, 1, 0, 0, 0)


def stage_command() -> list[str]:
    """The first container's: it fetches the bundle, and all that COMMAND needs."""
    return bootstrap_command(f"{ROOM}.stage")


def main_command() -> list[str]:
    """COMMAND's own container's: main.sh, by the image's shell."""
    return ["/bin/sh", "-c", 'exec /bin/sh "$RUNNER_VOLUME/main/main.sh"']


def agent_command() -> list[str]:
    """The one's beside COMMAND: runner is in the volume by now."""
    run = f'exec python3 -c "{RUN}" "$RUNNER_VOLUME/package" {ROOM}.agent'
    return ["/bin/sh", "-c", f"export {LITTLE_MEMORY}=1; {run}"]


def in_image_command() -> list[str]:
    """All in one container, of an image that has Python >= 3.11."""
    return bootstrap_command(f"{ROOM}.in_image")


def bootstrap_command(module: str, *arguments: str) -> list[str]:
    """Any module of runner's, where an image has only Python >= 3.11."""
    return ["python3", "-c", _program(), module, *arguments]


@cache
def _program() -> str:
    """The bootstrap as one argument; the same source gives the same text."""
    files = {"runner/__init__.py": b"", "runner/bundle/__init__.py": b""}
    files |= {f"runner/bundle/bare/{file.name}": file.read_bytes() for file in bare_files()}
    files["runner_bootstrap.py"] = Path(__file__).with_name("bootstrap.py").read_bytes()
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    packed = base64.b85encode(raw.getvalue()).decode()
    return (
        "import base64,os,sys,tempfile\n"
        "os.environ.setdefault('RUNNER_BOOT_LOG', os.devnull)\n"
        "path=tempfile.mkdtemp()+'/b.zip'\n"
        f"open(path,'wb').write(base64.b85decode('''{packed}'''))\n"
        "sys.path.insert(0,path)\n"
        "import runner_bootstrap\n"
        "runner_bootstrap.main(sys.argv[1:])\n"
    )


def store_bundle(where: str, bundle: Path) -> str:
    """Have a bundle in the bucket of a store ``s3://bucket/prefix``; the value of RUNNER_BUNDLE.

    One that is there isn't sent again. Blocks. Raises StoreError, UsageError, OSError.
    """
    if not is_s3(where):
        raise UsageError(f"{where}: jobs of AWS Batch fetch runner from a bucket of S3")
    bucket, _ = parse_s3(where)
    data = bundle.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    key = f"{_BUNDLES}/{digest[:16]}/{bundle.name}"
    store = S3Store(bucket)
    try:
        found = store.look_up(key)
        if found is None or found.size != len(data):
            store.put_file(key, SourceFile(str(bundle.resolve()), ours=True))
    finally:
        store.close()
    return f"s3://{bucket}/{key}#{digest}"
