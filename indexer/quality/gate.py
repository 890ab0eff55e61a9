"""The gate: a new snapshot may not replace the one that serves if its label-free quality or its coverage fell."""

import json
from collections.abc import Mapping
from typing import Any

from shared.snapshot.reader import Snapshot

_SHOWN = 10
_LEFT = 0.5  # the share of the products that serve, below which a catalog is taken for a broken one


def objections(new: Snapshot, current: Snapshot, most: float) -> list[str]:
    """The objections to a new snapshot, one sentence each; none if it may serve. `most` is how far either figure may
    fall."""
    found = []
    was, now = current.manifest.quality, new.manifest.quality
    if now.estimated_by == was.estimated_by and _fell(was.estimate, now.estimate, most):
        found.append(
            f"The estimated quality ({now.estimated_by}, R@1) fell from {was.estimate:.3f} to "
            f"{now.estimate:.3f}. {_worse(_found(new), _found(current))}"
        )
    if was.alike and now.alike and was.alike.columns == now.alike.columns:
        before, after = was.alike.estimate, now.alike.estimate
        if _fell(before, after, most):
            found.append(
                f"The likeness of what is found by a product (nDCG by {', '.join(now.alike.columns)}) fell from "
                f"{before:.3f} to {after:.3f}: see make evaluate AGAINST={current.id}."
            )
    if _fell(was.coverage, now.coverage, most):
        found.append(
            f"The share of the catalog's products that could be indexed fell from {was.coverage:.3f} to "
            f"{now.coverage:.3f}: see refused.csv in {new.folder}."
        )
    if new.products.count < _LEFT * current.products.count:
        found.append(
            f"Only {new.products.count:,} products are left of {current.products.count:,}: is the catalog whole?"
        )
    return found


def _fell(before: float | None, after: float | None, most: float) -> bool:
    """Tell whether a figure that both snapshots know fell by more than `most`."""
    return before is not None and after is not None and after < before - most


def _worse(now: Mapping[str, float], was: Mapping[str, float]) -> str:
    """Name the products that are found less often than before, worst first."""
    falls = {name: was[name] - share for name, share in now.items() if share < was.get(name, 0)}
    worst = sorted(falls, key=lambda name: -falls[name])
    more = f" and {len(worst) - _SHOWN:,} more" if len(worst) > _SHOWN else ""
    shown = ", ".join(f"{name} ({was[name]:.2f} to {now[name]:.2f})" for name in worst[:_SHOWN])
    return f"Products that got worse: {shown}{more}." if worst else "No single product that both asked for got worse."


def _found(snapshot: Snapshot) -> dict[str, float]:
    report: dict[str, Any] = json.loads((snapshot.folder / "report.json").read_bytes())
    return dict(report.get("found", {}))
