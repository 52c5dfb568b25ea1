"""What a Prometheus without the operator looks for on a pod."""

from __future__ import annotations

from inhouse.deploy.site import ENGINE_PORT, HTTP_PORT, OPEN_PORT, Site


def of_gateway(site: Site) -> dict[str, str]:
    return _scraped(site, HTTP_PORT, "/metrics")


def of_engine(site: Site, paths: tuple[bytes, ...]) -> dict[str, str]:
    """`paths`: where the engine's metrics may be; nothing where it has none."""
    port = OPEN_PORT if site.certified else ENGINE_PORT
    return _scraped(site, port, paths[0].decode()) if paths else {}


def _scraped(site: Site, port: int, path: str) -> dict[str, str]:
    if site.stack.deploy.observe.metrics != "annotations":
        return {}
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": path}
