"""Index catalogs: in this process, and by the command."""

import os
import subprocess
import sys
from pathlib import Path

from indexer.catalog.parsing import parse_catalog
from indexer.ingest.cache import Cache
from indexer.ingest.download import Limits
from indexer.ingest.pipeline import Indexed, Plan, index_images
from shared.embedding.embedder import Embedder
from shared.embedding.registry import load
from shared.storage.url_template import UrlTemplate
from tests.support.project import ROOT


def plan(max_failures: float = 0.2, retry_failed: bool = False, **limits: float) -> Plan:
    """A run that tries twice, with the deadlines of a user: a busy machine keeps them too."""
    return Plan(max_failures, retry_failed, Limits(**{"tries": 2, **limits}))  # type: ignore[arg-type]


def run(data: Path, csv: str, template: str, how: Plan | None = None, model: str | Embedder = "colour_grid") -> Indexed:
    """Index a catalog text, by default with the embedder that needs no network."""
    embedder = load(model) if isinstance(model, str) else model
    catalog = parse_catalog(csv.encode(), "catalog.csv")
    with Cache(data) as cache:
        return index_images(catalog, UrlTemplate(template), embedder, cache, how or plan())


def indexer(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m indexer`, free of the settings of whoever runs the tests."""
    command = [sys.executable, "-m", "indexer", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIMILARITY_"))}
    return subprocess.run(
        command, cwd=ROOT, env={**clean, **(environment or {})}, capture_output=True, text=True, check=False
    )
