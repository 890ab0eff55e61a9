"""Every option of the indexer, read once: a flag beats the environment, which beats the default.

Each option is also a make variable and the environment variable `SIMILARITY_<that name>`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from indexer.catalog.sources import Source
from indexer.ingest.download import Limits
from indexer.ingest.pipeline import Plan
from shared.embedding import registry
from shared.embedding.engines.runtime import Engine, Runtime
from shared.index import stores
from shared.partition import Partition

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_CATALOG = "s3://preprod.datamining/images/data/pixlIDs_domain_id_{domain}_dpt_num_department_{department}000.gz"
# Reproduced as they were: plain vectors, one view.
_FIRST_LIBRARY = ("vgg19", "inception_resnet_v2", "vgg19+inception_resnet_v2")
DEFAULT_IMAGE_URL = "https://contents.mediadecathlon.com/p{id}/sq/{id}.jpg?f={size}x{size}"


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """The options of one run."""

    partition: Partition
    data: Path
    source: Source
    plan: Plan
    model: str
    weights: tuple[Path | None, ...]
    store: str
    runtime: Runtime
    limit: int | None
    learned: bool
    alike: tuple[str, ...]
    user_photos: Path | None
    max_drop: float
    force: bool
    keep: int
    signing_key: str | None = field(default=None, repr=False)


def _option(variable: str, flag: str, help: str, **more: Any) -> Callable[[_F], _F]:
    shown = more.get("default") is not None
    return click.option(flag, envvar=f"SIMILARITY_{variable}", help=help, show_default=shown, **more)


_DATA = _option(
    "DATA", "--data", "Folder of snapshots, cache and pictures.", default="data", type=click.Path(path_type=Path)
)
_PARTITION = (
    _option("DPT", "--department", "Department, e.g. 371.", required=True),
    _option("DOMAIN", "--domain", "Domain, e.g. 0341.", required=True),
)
_AGAINST = _option("AGAINST", "--against", "Id of another snapshot of the partition, to compare with.")
_ALIKE = _option(
    "ALIKE", "--alike", "Columns that say which products are alike: category,style.  [default: those that repeat]"
)
_DEPOT = _option("DEPOT", "--depot", "Where snapshots are kept for every host: s3://bucket/prefix or file:///folder.")
_KEEP = _option("KEEP", "--keep", "Snapshots kept in the depot, and on a host.", default=5, type=click.IntRange(1))
# Better in the environment than on a command line, where other users of the machine can read it.
_SIGNING_KEY = _option(
    "SIGNING_KEY", "--signing-key", "Secret that signs snapshots, and that they must be signed with."
)
_OPTIONS = (
    *_PARTITION,
    _DATA,
    _option("CATALOG", "--catalog", "s3:// URI, file, or folder of pictures.", default=DEFAULT_CATALOG),
    _option(
        "IMAGE_URL", "--image-url", f"Where images lie: {{id}}, {{size}}, any column.  [default: {DEFAULT_IMAGE_URL}]"
    ),
    _option("LIMIT", "--limit", "Take only the first N rows, for a quick try.", type=click.IntRange(1)),
    _option("CONNECTIONS", "--connections", "Images fetched at once.", default=32, type=click.IntRange(1, 1024)),
    _option(
        "MAX_FAILURES",
        "--max-failures",
        "Share of images that a run may lose and still publish.",
        default=0.2,
        type=click.FloatRange(0, 1),
    ),
    _option("RETRY_FAILED", "--retry-failed", "Fetch only what failed before.", is_flag=True),
)
_METRIC_HELP = "Learn from the catalog what looks alike, or not; auto: not with the first library's networks."
_INDEX_OPTIONS = (
    _option(
        "MODEL", "--model", f"{', '.join(registry.NAMES)}, or a file or folder of your own.", default=registry.NAMES[0]
    ),
    _option("WEIGHTS", "--weights", "Weights file; for a pair of networks two, with a comma between."),
    _option("METRIC", "--metric", _METRIC_HELP, default="auto", type=click.Choice(["auto", "learned", "plain"])),
    _ALIKE,
    _option(
        "USER_PHOTOS",
        "--user-photos",
        "Folder of unlabelled photos that shoppers took, to learn from.",
        type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    ),
    _option(
        "MAX_DROP",
        "--max-drop",
        "How far estimated quality or coverage may fall and the snapshot still serve.",
        default=0.05,
        type=click.FloatRange(0, 1),
    ),
    _option(
        "FORCE",
        "--force",
        "Make a snapshot though nothing changed, and let it serve though its quality or coverage fell.",
        is_flag=True,
    ),
    _option(
        "ENGINE",
        "--engine",
        "What runs the network; auto: OpenVINO, but TensorFlow on a GPU.",
        default="auto",
        type=click.Choice([engine.value for engine in Engine]),
    ),
    _option("STORE", "--store", "Where vectors are kept.", default="faiss", type=click.Choice(stores.NAMES)),
    _KEEP,
    _SIGNING_KEY,
)


def index_options(command: _F) -> _F:
    """Decorate a command with all options of an index run."""
    return image_options(_decorated(command, _INDEX_OPTIONS))


def image_options(command: _F) -> _F:
    """Decorate a command with the options that find and fetch images."""
    return _decorated(command, _OPTIONS)


def weights_options(command: _F) -> _F:
    """Decorate a command with the option that names a network."""
    return _decorated(command, (_option("MODEL", "--model", "Network whose weights to install.", required=True),))


def changes_options(command: _F) -> _F:
    """Decorate a command with the options of a comparison of two snapshots."""
    return _decorated(command, (*_PARTITION, _DATA, _AGAINST))


def evaluate_options(command: _F) -> _F:
    """Decorate a command with the options of an evaluation."""
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    meaning = "CSV of photos, product_id_model;id;path; without it held-out images and simulated photos."
    photos = _option("PHOTOS", "--photos", meaning, type=file)
    return _decorated(command, (*_PARTITION, _DATA, photos, _ALIKE, _AGAINST))


def demo_options(command: _F) -> _F:
    """Decorate a command with the options of the demo."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True)
    dataset = _option("DATASET", "--dataset", "A folder of pictures to use instead of the drawn shop.", type=folder)
    return _decorated(command, (_DATA, dataset))


def shipping_options(command: _F) -> _F:
    """Decorate a command with the options that move snapshots."""
    return _decorated(command, (*_PARTITION, _DATA, _DEPOT, _KEEP, _SIGNING_KEY))


def rollback_options(command: _F) -> _F:
    """Decorate a command with the options of going back."""
    to = _option("TO", "--to", "Id of the snapshot to go back to.  [default: the one before]")
    return _decorated(shipping_options(command), (to,))


def export_options(command: _F) -> _F:
    """Decorate a command with the options of an export."""
    folder = click.Path(path_type=Path, file_okay=False)
    to = _option("TO", "--to", "Folder to write into.  [default: DATA/exports/department/domain]", type=folder)
    return _decorated(command, (*_PARTITION, _DATA, to))


def ship_options(command: _F) -> _F:
    """Decorate a command with the options of shipping to another host."""
    host = _option("HOST", "--host", "Where to: user@host:/folder, the folder being its DATA.", required=True)
    ssh = _option("SSH", "--ssh", "How to reach it, e.g. 'ssh -p 2222 -i key'.", default="ssh")
    return _decorated(command, (*_PARTITION, _DATA, host, ssh, _KEEP, _SIGNING_KEY))


def config(
    department: str,
    domain: str,
    data: Path,
    catalog: str,
    image_url: str | None,
    limit: int | None,
    connections: int,
    max_failures: float,
    retry_failed: bool,
    model: str = "",
    weights: str | None = None,
    engine: str = "auto",
    store: str = "",
    metric: str = "",
    alike: str | None = None,
    user_photos: Path | None = None,
    max_drop: float = 0,
    force: bool = False,
    keep: int = 1,
    signing_key: str | None = None,
) -> IndexConfig:
    """The options as one frozen object. Raises `ConfigError` if one is wrong."""
    partition = Partition(department, domain)
    return IndexConfig(
        partition=partition,
        data=data,
        source=Source.of(catalog, image_url, DEFAULT_IMAGE_URL, partition),
        plan=Plan(max_failures, retry_failed, Limits(connections=connections, per_host=connections)),
        model=model,
        weights=tuple(Path(part) if part else None for part in weights.split(",")) if weights else (),
        store=store,
        runtime=Runtime(data / "networks", Engine(engine)),
        limit=limit,
        learned=metric == "learned" or (metric == "auto" and model not in _FIRST_LIBRARY),
        alike=column_names(alike),
        user_photos=user_photos,
        max_drop=max_drop,
        force=force,
        keep=keep,
        signing_key=signing_key,
    )


def column_names(alike: str | None) -> tuple[str, ...]:
    """Read the names of columns, with commas between."""
    return tuple(name.strip() for name in (alike or "").split(",") if name.strip())


def _decorated(command: _F, options: tuple[Callable[[_F], _F], ...]) -> _F:
    for option in reversed(options):
        command = option(command)
    return command
