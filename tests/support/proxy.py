"""The real nginx with `deploy/nginx.conf` in front of a server."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import ROOT
from tests.support.server import free_port, wait_for


@contextlib.contextmanager
def proxied(base: str, folder: Path) -> Iterator[str]:
    """A proxy in front of the server at `base`, its files in a folder; yields its base URL. Of the configuration only
    addresses and paths are changed. What is in the folder's `tls/` is read, as beside the real one."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if not nginx:
        pytest.skip("nginx is not installed")
    port, text = free_port(), (ROOT / "deploy" / "nginx.conf").read_text()
    for old, new in {
        "similarity:8000": base.removeprefix("http://"),
        "listen 8080": f"listen 127.0.0.1:{port}",
        "/tmp/nginx": f"{folder}/nginx",
        "/var/log/nginx": str(folder),
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text("user root;\n" + text)
    command = [nginx, "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", f"daemon off; pid {folder}/pid;"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
