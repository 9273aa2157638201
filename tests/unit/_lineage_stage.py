"""A small lineage: two hospitals, of which one is given no weight from the second round on."""

import hashlib

from collegium.lineage import Lineage


def d(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def write_run(lineage: Lineage, *, rounds: int = 2) -> None:
    """Two hospitals; `ulm` is given no weight from the second round on."""
    lineage.record("task", 0, d("task"), "heart", (), {"level": "unproved", "seats": 16})
    for site in ("bonn", "ulm"):
        lineage.record("dataset", 0, d(site), site, [(d("task"), "task", 1)], {"licence": f"{site}-1"})
    lineage.record("model", 0, d("model 0"), "heart", [(d("task"), "task", 1)])
    for number in range(1, rounds + 1):
        with lineage.atomic():
            edges = []
            for site in ("bonn", "ulm"):
                report = d(f"report {number} {site}")
                lineage.record("report", number, report, f"trainer {site}", [(d(site), "dataset", 1)])
                edges.append((report, "report", 3 if site == "bonn" else 2 if number == 1 else 0))
            lineage.record("sum", number, d(f"sum {number}"), "", edges)
            parents = [(d(f"model {number - 1}"), "previous", 1), (d(f"sum {number}"), "sum", 1)]
            lineage.record("model", number, d(f"model {number}"), "heart", parents)
