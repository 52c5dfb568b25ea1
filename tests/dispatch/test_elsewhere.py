"""What other gateways gave to a tenant counts here, once, and only from when it began to wait."""

from __future__ import annotations

from inhouse.admission.fair import FairQueue
from inhouse.admission.fair_tenants import Ticket
from inhouse.dispatch.elsewhere import Elsewhere


def test_what_was_before_is_no_debt() -> None:
    """The first look charges nothing, the next one what came since."""
    elsewhere = Elsewhere()
    assert elsewhere.charges(["standard a"], [500.0]) == {}
    assert elsewhere.charges(["standard a"], [560.0]) == {"standard a": 60.0}
    assert elsewhere.charges(["standard a"], [560.0]) == {}


def test_what_this_gateway_gave_is_not_charged_again() -> None:
    """Whichever hears of it first, Redis or the gateway: it is never charged twice."""
    elsewhere = Elsewhere()
    elsewhere.charges(["standard a"], [0.0])
    elsewhere.gave("standard a", 100.0)  # Redis does not count it yet
    assert elsewhere.charges(["standard a"], [0.0]) == {}
    assert elsewhere.charges(["standard a"], [100.0]) == {}
    assert elsewhere.charges(["standard a"], [130.0]) == {"standard a": 30.0}
    elsewhere.gave("standard a", -40.0)
    assert elsewhere.charges(["standard a"], [90.0]) == {}


def test_a_tenant_that_waits_no_more_is_forgotten() -> None:
    """When it waits again it starts from there."""
    elsewhere = Elsewhere()
    elsewhere.charges(["standard a"], [0.0])
    elsewhere.charges([], [])
    assert elsewhere.charges(["standard a"], [900.0]) == {}


def test_a_charged_tenant_comes_later() -> None:
    """In the queue itself: who was served elsewhere lets the other one pass until they are even."""
    queue = FairQueue(
        "m", waiting_max=100, waiting_tokens_max=10**6, waiting_bytes_max=10**6, prefill_long_tokens=10**6
    )
    granted: list[str] = []

    def ticket(tenant: str) -> Ticket:
        return Ticket(lambda _: granted.append(tenant), 1e9, 0.0, tenant, 1.0, "standard", 10, 10, 1)

    queue.resize(1, 0.0)
    held = ticket("other")
    queue.offer(held, 0.0)
    waiting = [ticket(tenant) for tenant in "aaaabbbb"]
    for one in waiting:
        queue.offer(one, 0.0)
    assert sorted(queue.waiting_shares()) == [("standard", "a"), ("standard", "b")]
    queue.charge("standard", "a", 25.0)
    queue.charge("standard", "nobody", 25.0)
    for _ in range(4):
        queue.release(held, 0.0, 10)
        held = next(one for one in waiting if one.granted_s is not None)
        waiting.remove(held)
    assert "".join(granted)[:3] == "bbb"
