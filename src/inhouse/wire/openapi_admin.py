"""The operations of the admin API, as a literal table."""

from __future__ import annotations

from inhouse.wire.admin import KeyCard, KeyList, KeyRequest, NewKey, RotateRequest, TenantList, UsageReport
from inhouse.wire.openapi_operation import Operation

READ = (400, 401, 403, 500, 503)
CHANGE = (400, 401, 403, 404, 409, 413, 415, 500, 503)

ADMIN = (
    Operation(
        path="/admin/keys",
        method="get",
        summary="List the keys",
        tag="Administer",
        query={"tenant": "Only those of this tenant.", "all": "`true`: also those that are revoked or expired."},
        answer=KeyList,
        answers="Declared keys, then those that were made, the oldest first. Never their texts.",
        errors=READ,
        needs="keys.read",
    ),
    Operation(
        path="/admin/keys",
        summary="Make a key",
        tag="Administer",
        request=KeyRequest,
        example={"note": "build server", "models": ["demo"], "limits": {"tokens_per_day": 50000}, "expires": "30 d"},
        answer=NewKey,
        answers="The key with its text, which is shown this once.",
        errors=CHANGE,
        needs="keys.manage",
    ),
    Operation(
        path="/admin/keys/{id}/rotate",
        summary="Give a key a new secret",
        tag="Administer",
        request=RotateRequest,
        example={"grace": "1 h"},
        answer=NewKey,
        answers="The key with its new text, which is shown this once.",
        errors=CHANGE,
        needs="keys.manage",
    ),
    Operation(
        path="/admin/keys/{id}",
        method="delete",
        summary="Revoke a key",
        tag="Administer",
        answer=KeyCard,
        answers="The key as it is now. An earlier revocation stands.",
        errors=CHANGE,
        needs="keys.manage",
    ),
    Operation(
        path="/admin/usage",
        method="get",
        summary="What was used, of one's own tenant or, with `usage.read`, of all",
        tag="Administer",
        query={
            "since": "How far back (`7 d`), or from which day on (`2027-01-31`); 7 days without it.",
            "until": "The last day; today without it.",
            "tenant": "Only this tenant.",
            "key": "Only this key, by its id.",
            "model": "Only this model.",
            "by": "What to add up by, with commas between: day, tenant, key, model; all of them without it.",
        },
        answer=UsageReport,
        answers="Sums, the oldest day first.",
        errors=READ,
        needs="usage.read_own",
    ),
    Operation(
        path="/admin/tenants",
        method="get",
        summary="Limits and where they stand, of one's own tenant or, with `keys.read`, of all",
        tag="Administer",
        answer=TenantList,
        answers="The tenants of inhouse.yaml, then those that used something this month.",
        errors=READ,
        needs="usage.read_own",
    ),
)
