"""What only an installation by Docker Compose needs: where its ports are, how long it keeps what it saw."""

from __future__ import annotations

from inhouse.config.fields import Count, Duration, Section, setting


class ComposeSpec(Section):
    """The installation by Docker Compose on one machine."""

    address: str = setting(
        "127.0.0.1", "Address of the machine that the gateway's port is on, where no `traffic.host` leads in by TLS.",
        example="10.0.0.5", pattern=r"^[0-9a-fA-F.:]{2,45}$",
    )  # fmt: skip
    port: Count = setting(8080, "That port.", ge=1, le=65535)
    grafana_port: Count = setting(3000, "Port of Grafana, on 127.0.0.1.", ge=1, le=65535)
    keep: Duration = setting(
        14 * 86400.0, "How long metrics and logs are kept (profile `observe`).", unit="seconds", ge=86400
    )
