"""The stack: `inhouse.yaml`, environment and flags, read into frozen types.

Not here: what a setting does. Importing this brings in pydantic, so commands that need no stack do not import it.
"""

from inhouse.config.cache import CacheSpec
from inhouse.config.failover import FailoverSpec
from inhouse.config.issuers import IssuerSpec
from inhouse.config.keys import KeySpec
from inhouse.config.model import ModelSpec
from inhouse.config.moments import parse_moment, render_moment
from inhouse.config.problems import Problem, StackProblems
from inhouse.config.read import Reading, load, read
from inhouse.config.records import AuditSpec, ExplainSpec
from inhouse.config.requests import RequestsSpec
from inhouse.config.schema import schema
from inhouse.config.stack import AuthSpec, GatewaySpec, LogSpec, Stack, base_url, is_loopback, state_folder
from inhouse.config.store import PostgresSpec, RedisSpec, StoreSpec
from inhouse.config.tenants import LimitsSpec, PriceSpec, TenantSpec
from inhouse.config.weights import WeightsSpec

__all__ = [
    "AuditSpec",
    "AuthSpec",
    "CacheSpec",
    "ExplainSpec",
    "FailoverSpec",
    "GatewaySpec",
    "IssuerSpec",
    "KeySpec",
    "LimitsSpec",
    "LogSpec",
    "ModelSpec",
    "PostgresSpec",
    "PriceSpec",
    "Problem",
    "Reading",
    "RedisSpec",
    "RequestsSpec",
    "Stack",
    "StackProblems",
    "StoreSpec",
    "TenantSpec",
    "WeightsSpec",
    "base_url",
    "is_loopback",
    "load",
    "parse_moment",
    "read",
    "render_moment",
    "schema",
    "state_folder",
]
