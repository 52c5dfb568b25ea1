"""`inhouse explain`: the story of one request, as the running gateway remembers it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from inhouse.cli.options import ApiKey, AsJson, BaseUrl, Config, StateDir, examples

EXAMPLES = examples(
    "inhouse explain 5f0e8a0c9b1d4e6f7a8b9c0d",
    "inhouse explain order-42 --json",
    "inhouse explain order-42 --base-url http://server:8080/v1 --api-key $KEY",
)
_ENDINGS = {
    "answered": "answered",
    "refused": "refused",
    "hung up": "the client hung up",
    "broke off": "its stream began and ended with an error event",
}


def explain(
    request_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The request's id: `x-request-id` of its answer, `request_id` in the log."),
    ],
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell how one request fared: limits, wait, engines, timings, tokens and ending.

    The gateway remembers its last requests, in memory (`explain` in inhouse.yaml); older ones stand in
    `inhouse audit list --request ID`.
    """
    from inhouse.cli.reach import Target, reach

    with reach(Target(config, base_url, api_key, state_dir), note="inhouse explain", role="operator") as gateway:
        found = gateway.story(request_id)
    if as_json:
        import json

        typer.echo(json.dumps({"requests": found}, indent=2, ensure_ascii=False))
        return
    for index, story in enumerate(found):
        if index:
            typer.echo()
        for line in told(story):
            typer.echo(line)


def told(story: dict[str, Any]) -> Iterator[str]:
    """The story in lines for people. Pure."""
    at = datetime.fromtimestamp(story["time"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    seconds, tokens = story["seconds"], story["tokens"]
    yield f"{story['id']}: {_ENDINGS.get(story['ending'], story['ending'])}"
    yield f"  {at}, {story['api']}, model {story['model']}, tenant {story['tenant']}, key {story['key']}"
    code = f" {story['code']}" if story["code"] else ""
    yield f"  status {story['status']}{code}, {_s(seconds['total'])} in all"
    if story["queue_place"]:
        yield f"  waited {_s(seconds['queue'])} for a slot, from place {story['queue_place']} in the queue"
    if seconds["first_token"] is not None:
        prefill = "" if seconds["prefill"] is None else f" (prefill {_s(seconds['prefill'])})"
        yield f"  first token after {_s(seconds['first_token'])}{prefill}, then {_s(seconds['decode'])} to the end"
    if tokens["prompt"] or tokens["completion"]:
        yield f"  tokens: {tokens['prompt']:,} in ({tokens['cached']:,} cached), {tokens['completion']:,} out"
    if story["money"] is not None:
        yield f"  cost: {story['money']:.6f}"
    for name, value in story["facts"].items():
        yield f"  {name}: {value}"
    for step in story["steps"]:
        yield from _step(dict(step))


def _step(step: dict[str, Any]) -> Iterator[str]:
    what, at = step.pop("what"), f"  {_s(step.pop('at_s')):>10}  "
    if what == "held":
        money = f" and {step['money'] / 1e6:.6f} of money" if step["money"] else ""
        yield f"{at}quotas: at most {step['tokens']:,} tokens{money} held for {', '.join(step['scopes'])}"
    elif what == "limited":
        yield f"{at}refused by {', '.join(step['limits'])}"
    elif what == "routed":
        yield f"{at}'{step['route']}' leads to {step['model']}: {step['why']}" + _others(step)
    elif what == "asked":
        yield f"{at}asked {step['endpoint']}{_job(step)}"
    elif what == "failed":
        yield f"{at}{step['endpoint']} failed: {step['code']}{_job(step)}"
    elif what == "went_on":
        yield f"{at}goes on at another endpoint after {step['tokens']:,} tokens{_job(step)}"
    elif what == "cut_off":
        yield f"{at}cannot go on: {step['why']}{_job(step)}"
    elif what == "picked":
        why = "" if step["why"] == step["policy"] else f": {step['why']}"
        yield f"{at}picked {step['endpoint']} by {step['policy']}{why}"
        for candidate in step["candidates"]:
            yield f"              {_candidate(candidate)}"
    else:
        yield f"{at}{what}: " + ", ".join(f"{name} {value}" for name, value in step.items())


def _others(step: dict[str, Any]) -> str:
    behind = f"; then {', '.join(step['behind'])}" if step.get("behind") else ""
    return behind + (f"; closed: {', '.join(step['closed'])}" if step.get("closed") else "")


def _candidate(candidate: dict[str, Any]) -> str:
    if candidate.get("out"):
        return f"{candidate['endpoint']}: out, {candidate['out']}"
    scores = ", ".join(f"{name} {value:.2f}" for name, value in candidate.get("scores", {}).items())
    score = candidate.get("score")
    return f"{candidate['endpoint']}: {'-' if score is None else f'{score:.3f}'}" + (f" ({scores})" if scores else "")


def _job(step: dict[str, Any]) -> str:
    return f", for part {step['job'] + 1}" if step.get("job") else ""


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
