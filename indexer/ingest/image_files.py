"""Save a catalog's images as files, and embed nothing."""

from pathlib import Path
from urllib.parse import quote

from indexer.catalog.parsing import Catalog
from indexer.ingest.cache import Cache, content_hash
from indexer.ingest.pipeline import Plan, fetch_images
from indexer.ingest.report import RunReport
from shared.storage.url_template import UrlTemplate


def save_images(catalog: Catalog, template: UrlTemplate, data: Path, plan: Plan, folder: Path) -> RunReport:
    """Fetch the images through the cache in `data` and write them into `folder`. Raises `RunStopped`."""
    with Cache(data) as cache:
        report, contents = fetch_images(catalog, template, cache, plan)
        folder.mkdir(parents=True, exist_ok=True)
        for row, content in contents.items():
            (folder / _file_name(row.product_id, row.image_id)).write_bytes(cache.bytes(content) or b"")
    return report


def _file_name(product_id: str, image_id: str) -> str:
    """`<product>_<id>.jpg`, as the first library named them; ids that no file can be named after are escaped."""
    product, image = (quote(part, safe=" ", errors="replace") for part in (product_id, image_id))
    name = f"{product.replace('_', '%5F')}_{image}"  # the first underscore ends the product's id
    return f"{name if len(name) <= 200 else name[:150] + content_hash(name.encode())}.jpg"
