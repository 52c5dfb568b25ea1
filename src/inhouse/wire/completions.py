"""`/v1/completions`: text in, text out, without a chat template.

Each prompt times each of `n` is a job of its own, so that usage is counted right (llama.cpp counts one choice of
several) and nothing queues inside the engine. Log probabilities are turned into the shape that this older API has.
"""

from __future__ import annotations

from inhouse.config.requests import REQUESTS, RequestsSpec
from inhouse.errors import BadRequest
from inhouse.wire.call import Call, Job
from inhouse.wire.completions_shapes import CompletionRequest, EngineCompletion
from inhouse.wire.completions_view import TextView
from inhouse.wire.decode import RequestDecoder
from inhouse.wire.guard import check_no_nul, check_sampling
from inhouse.wire.openai_chat import spread

PATH = b"/v1/completions"
PROMPTS_MAX = 128
TOKENS_DEFAULT = 16  # OpenAI's own default for this endpoint


_decode = RequestDecoder(CompletionRequest)


def parse(body: bytes | bytearray, limits: RequestsSpec = REQUESTS, *, id_hex: str, now_s: float) -> Call:
    """A completion request as a Call. Raises BadRequest."""
    request = _decode(body)
    check_sampling(request.n, request.stop, limits)
    prompts = _prompts(request)
    _refuse_impossible(request, prompts)
    jobs: list[Job] = []
    echoes: list[str] = []
    for prompt in prompts:
        engine = EngineCompletion(
            model=request.model,
            prompt=prompt,
            max_tokens=TOKENS_DEFAULT if request.max_tokens is None else request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            stop=request.stop,
            seed=request.seed,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logprobs=max(1, request.logprobs) if request.logprobs is not None else None,
            logit_bias=request.logit_bias,
            top_k=request.top_k,
            min_p=request.min_p,
            typical_p=request.typical_p,
            repeat_penalty=request.repetition_penalty if request.repeat_penalty is None else request.repeat_penalty,
            ignore_eos=request.ignore_eos,
        )
        jobs += spread(engine, PATH, request.n or 1, "prompt")
        echoes += [prompt if request.echo and isinstance(prompt, str) else ""] * (request.n or 1)
    options = request.stream_options
    view = TextView(
        id=f"cmpl-{id_hex}",
        created=int(now_s),
        model=request.model,
        echoes=echoes,
        streams=bool(request.stream),
        include_usage=options is not None and options.include_usage,
        top_logprobs=request.logprobs,
        choices=request.n or 1,
    )
    return Call(request.model, tuple(jobs), view, request.n or 1)


def _prompts(request: CompletionRequest) -> list[str | list[int]]:
    prompt = request.prompt
    if isinstance(prompt, str):
        return [prompt]
    if all(isinstance(item, int) for item in prompt):
        return [[item for item in prompt if isinstance(item, int)]]
    mixed = [item for item in prompt if not isinstance(item, int)]
    if len(mixed) != len(prompt):
        raise BadRequest("`prompt` mixes token ids with texts; send one kind", param="prompt")
    if len(prompt) > PROMPTS_MAX:
        raise BadRequest(f"`prompt` has {len(prompt)} prompts; at most {PROMPTS_MAX} in one request", param="prompt")
    return mixed


def _refuse_impossible(request: CompletionRequest, prompts: list[str | list[int]]) -> None:
    if request.suffix:
        raise BadRequest("`suffix` is not supported; put the text around the gap into `prompt`", param="suffix")
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise BadRequest("`best_of` is not supported beyond `n`", param="best_of")
    if request.echo and (request.logprobs is not None or not all(isinstance(prompt, str) for prompt in prompts)):
        raise BadRequest("`echo` works for text prompts without `logprobs` only", param="echo")
    for prompt in prompts:
        if isinstance(prompt, str):
            check_no_nul(prompt, "prompt")
    if request.stream_options is not None and not request.stream:
        raise BadRequest("`stream_options` is only allowed when `stream` is true", param="stream_options")
