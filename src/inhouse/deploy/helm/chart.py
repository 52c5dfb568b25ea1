"""The files of a chart: the objects of the tree as templates, their values, a schema, a test, the next steps.

The objects are made once more with marks for the names of release and namespace and for what the stack says of the way
in and the vault; then each place of the table leaves its marks. With its default values the chart gives the tree again.
"""

from __future__ import annotations

import re
from typing import Any

from inhouse import __version__
from inhouse.config.fields import Section
from inhouse.deploy.helm import knobs, pages, places, places_more, probe
from inhouse.deploy.helm.gitops import application
from inhouse.deploy.helm.knobs import Knob, Knobs
from inhouse.deploy.helm.marks import Marks, conditional, document
from inhouse.deploy.helm.places import Board, Place
from inhouse.deploy.site import Site
from inhouse.deploy.text import render
from inhouse.deploy.tree import HEAD, File, base

PLACES: tuple[Place, ...] = (
    places_more.labels,
    places_more.kept,
    places_more.config,
    places_more.secret,
    places.replicas,
    places.images,
    places.resources,
    places.placement,
    places.pull_secrets,
    places.claims,
    places.sources,
    places_more.scalers,
    places_more.traffic,
    places_more.monitors,
    places_more.refresh,
)
"""What becomes a value, in the order in which values.yaml tells it. A new one is a function and a line."""

_NAMED: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("traffic", "host", ("traffic", "host"), "The name that clients call."),
    ("traffic", "gateway_class", ("traffic", "gatewayClass"), "The GatewayClass."),
    ("traffic", "issuer", ("traffic", "issuer"), "The ClusterIssuer of cert-manager."),
    ("traffic", "tls_secret", ("traffic", "tlsSecret"), "The Secret with the certificate."),
    ("traffic", "canary_service", ("traffic", "canaryService"), "The Service of the other installation."),
    ("observe", "release", ("monitors", "release"), "The label `release` that the Prometheus chooses monitors by."),
    ("secrets", "vault", ("externalSecrets", "vault"), "The vault: its OCID, address or project."),
    ("secrets", "region", ("externalSecrets", "region"), "Its region."),
    ("secrets", "role", ("externalSecrets", "role"), "The role to take."),
    ("secrets", "service_account", ("externalSecrets", "serviceAccount"), "The ServiceAccount that may read."),
)
"""Settings that go into the objects as they are: section of `deploy`, setting, value, sentence."""


def chart(site: Site) -> tuple[File, ...]:
    """All files, in order; the same stack makes the same bytes. Raises StackError."""
    before = dict(base(site)).get("namespace")  # and a mistake is told in the stack's own words
    board, named = _board(site)
    made = [(name, [places.copied(one) for one in objects]) for name, objects in base(board.site)]
    made = [(name, objects) for name, objects in made if name != "namespace"]
    for mark, knob in named:
        if board.marks.stands_in(mark, made):
            board.knobs.add(knob)
    limit = pages.limit(_longest(board, made))
    heads = {"config": pages.TEMPLATE_HEAD + limit}
    files = [
        File(f"templates/{name}.yaml", heads.get(name, pages.TEMPLATE_HEAD) + _template(board, objects))
        for name, objects in made
    ]
    files.append(File("templates/tests/ready.yaml", pages.TEMPLATE_HEAD + _test(board)))
    files += [
        File("Chart.yaml", HEAD + render([pages.about(site, __version__)])),
        File("README.md", pages.readme(site)),
        File("templates/NOTES.txt", pages.notes(site)),
        File("templates/_helpers.tpl", pages.HELPERS),
        File("values.yaml", HEAD + board.knobs.values()),
        File("values-dev.yaml", HEAD + pages.TRIAL + board.knobs.trial()),
        File("values.schema.json", board.knobs.schema(pages.MADE)),
        File(".helmignore", HEAD + pages.IGNORED),
    ]
    if before:
        files.append(File("namespace.yaml", HEAD + render(before)))
    applied = list(application(site))
    if applied:
        files.append(File(f"gitops/{site.stack.deploy.gitops.kind}.yaml", HEAD + render(applied)))
    return tuple(files)


def _board(site: Site) -> tuple[Board, list[tuple[str, Knob]]]:
    """The site with marks in place of names, and the values that some of them stand for."""
    marks, known = Marks(), Knobs()
    deploy = site.stack.deploy
    named = []
    sections: dict[str, dict[str, str]] = {}
    for section, setting, path, sentence in _NAMED:
        value = getattr(getattr(deploy, section), setting)
        if value is not None:
            mark = marks.of(knobs.expression(path))
            sections.setdefault(section, {})[setting] = mark
            named.append((mark, Knob(path, value, sentence, knobs.text())))
    changed: dict[str, Any] = {
        section: getattr(deploy, section).model_copy(update=marked) for section, marked in sections.items()
    }
    changed |= {"name": marks.of(places_more.RELEASE), "namespace": marks.of(places_more.NAMESPACE)}
    own = re.compile(rf"(?<![a-z0-9-]){site.name}(-[a-z0-9-]+)?\.{site.namespace}\.svc")
    stack = _with_marks(site.stack, own, rf"{changed['name']}\1.{changed['namespace']}.svc")
    stack = stack.model_copy(update={"deploy": deploy.model_copy(update=changed)})
    return Board(Site(stack), marks, known), named


def _with_marks(value: Any, own: re.Pattern[str], marked: str) -> Any:
    """A part of the stack in which addresses of the installation's own Services are those of the release."""
    if isinstance(value, str):
        return own.sub(marked, value)
    if isinstance(value, list):
        return [_with_marks(inner, own, marked) for inner in value]
    if isinstance(value, dict):
        return {key: _with_marks(inner, own, marked) for key, inner in value.items()}
    if not isinstance(value, Section):
        return value
    said = {key: getattr(value, key) for key in value.model_fields_set}
    made = {key: _with_marks(inner, own, marked) for key, inner in said.items()}
    return value.model_copy(update={key: inner for key, inner in made.items() if inner != said[key]})


def _longest(board: Board, made: list[tuple[str, list[Any]]]) -> int:
    """The most characters that an object's name has beside the release's own, where a name may have 63."""
    kinds = ("Service", "StatefulSet", "InferenceService", "LLMInferenceService", "LeaderWorkerSet")
    plain = [places.inside(one) for _, objects in made for one in objects]
    names = [one["metadata"]["name"] for one in plain if one["kind"] in kinds]
    return max(len(name) - len(board.site.name) for name in names)


def _template(board: Board, objects: list[Any]) -> str:
    """One file of objects; one that a switch rules is there only while it is on."""
    return "".join(_one(board, one) for one in objects)


def _one(board: Board, one: Any, table: tuple[Place, ...] = PLACES) -> str:
    plain = places.inside(one)
    for place in table:
        place(board, plain)
    switch = places_more.switch(board, plain)
    text = board.marks.text([one])
    return document(text) if switch is None else conditional(text, switch)


_OF_THE_TEST: tuple[Place, ...] = (places_more.labels, places.images, places.placement, places.pull_secrets)


def _test(board: Board) -> str:
    """What `helm test` runs."""
    return "".join(_one(board, one, _OF_THE_TEST) for one in probe.objects(board.site))
