"""The operations that the gateway answers, as a literal table: what `/openapi.json` and `/docs` are made of."""

from __future__ import annotations

from inhouse.wire.backlog import BacklogBody
from inhouse.wire.chat import ChatRequest
from inhouse.wire.completions_shapes import CompletionRequest
from inhouse.wire.embeddings import EmbeddingRequest
from inhouse.wire.endpoints import ENDPOINTS
from inhouse.wire.generate import GenerateBody, GenerateRequest
from inhouse.wire.messages import TokenCount
from inhouse.wire.messages_errors import ErrorObject
from inhouse.wire.messages_render import MessageBody
from inhouse.wire.messages_request import CountRequest, MessagesRequest
from inhouse.wire.openapi_admin import ADMIN
from inhouse.wire.openapi_batches import BATCHES
from inhouse.wire.openapi_operation import ASK, SHORT, Operation
from inhouse.wire.openapi_shapes import (
    DetokenizeBody,
    DetokenizeRequest,
    HealthBody,
    LiveBody,
    ModelCard,
    ModelList,
    SlotReport,
    TokenizeBody,
    TokenizeRequest,
)
from inhouse.wire.records import AUDIT_QUERY, AuditPage, StoryList
from inhouse.wire.rerank import RerankBody, RerankRequest
from inhouse.wire.responses_items import ResponseBody
from inhouse.wire.responses_request import ResponsesRequest
from inhouse.wire.routes import ROUTES

_TURN = [{"role": "user", "content": "What are you?"}]

OPERATIONS = (
    Operation(
        path="/v1/chat/completions",
        summary="Answer a conversation (OpenAI Chat Completions)",
        request=ChatRequest,
        example={"model": "demo", "messages": _TURN, "max_tokens": 64, "stream": True},
        answers="A `chat.completion` object.",
        streams="`chat.completion.chunk` objects, then `data: [DONE]`.",
    ),
    Operation(
        path="/v1/responses",
        summary="Answer a conversation (OpenAI Responses)",
        request=ResponsesRequest,
        example={"model": "demo", "input": "What are you?", "max_output_tokens": 64, "stream": True},
        answer=ResponseBody,
        answers="A `response` object. Responses are not kept.",
        streams="Numbered events from `response.created` to `response.completed`.",
    ),
    Operation(
        path="/v1/messages",
        summary="Answer a conversation (Anthropic Messages)",
        request=MessagesRequest,
        example={"model": "demo", "max_tokens": 64, "messages": _TURN, "stream": True},
        answer=MessageBody,
        answers="A `message` object.",
        streams="Events from `message_start` to `message_stop`.",
        refusal=ErrorObject,
    ),
    Operation(
        path="/v1/completions",
        summary="Continue a text, without a chat template (OpenAI Completions)",
        request=CompletionRequest,
        example={"model": "demo", "prompt": "Hello", "max_tokens": 16},
        answers="A `text_completion` object.",
        streams="`text_completion` objects, then `data: [DONE]`.",
    ),
    Operation(
        path="/generate",
        summary="The simplest possible call: a text in, a text out",
        request=GenerateRequest,
        example={"text": "What are you?", "max_tokens": 64},
        answer=GenerateBody,
        answers="The text, and what it cost.",
        streams='`{"text": "…"}` for each piece, then `data: [DONE]`.',
    ),
    Operation(
        path="/v1/embeddings",
        summary="Vectors of texts (OpenAI Embeddings)",
        tag="Models and tokens",
        request=EmbeddingRequest,
        example={"model": "demo", "input": "Hello"},
        answers="A `list` of `embedding` objects, in the order of the texts.",
    ),
    Operation(
        path="/v1/rerank",
        summary="Documents in the order of how well they answer a query (Jina, Cohere)",
        tag="Models and tokens",
        request=RerankRequest,
        example={"model": "demo", "query": "Who are you?", "documents": ["I am a model.", "It rains."], "top_n": 1},
        answer=RerankBody,
        answers="Results with `index` and `relevance_score`, best first.",
    ),
    Operation(
        path="/v1/messages/count_tokens",
        summary="Count the tokens of a conversation (Anthropic Messages)",
        tag="Models and tokens",
        request=CountRequest,
        example={"model": "demo", "messages": _TURN},
        answer=TokenCount,
        answers="How many tokens the model would read.",
        errors=SHORT,
        refusal=ErrorObject,
    ),
    Operation(
        path="/tokenize",
        summary="Cut a text into tokens",
        tag="Models and tokens",
        request=TokenizeRequest,
        example={"content": "Hello"},
        answer=TokenizeBody,
        answers="The ids of the tokens.",
        errors=SHORT,
    ),
    Operation(
        path="/detokenize",
        summary="Join tokens into a text",
        tag="Models and tokens",
        request=DetokenizeRequest,
        example={"tokens": [1, 2, 3]},
        answer=DetokenizeBody,
        answers="The text.",
        errors=SHORT,
    ),
    Operation(
        path="/v1/models",
        method="get",
        summary="List the models",
        tag="Models and tokens",
        answer=ModelList,
        answers="The models that can be asked for.",
        errors=ASK,
    ),
    Operation(
        path="/v1/models/{model}",
        method="get",
        summary="Look a model up",
        tag="Models and tokens",
        answer=ModelCard,
        answers="The model.",
        errors=(*ASK, 404),
    ),
    Operation(
        path="/slots",
        method="get",
        summary="What the slots are doing",
        tag="Operate",
        answer=list[SlotReport],
        answers="The slots of each model.",
        errors=(*ASK, 502),
    ),
    Operation(
        path="/admin/audit",
        method="get",
        summary="The audit: who did what, and how it ended",
        tag="Administer",
        needs="audit.read",
        query=AUDIT_QUERY,
        answer=AuditPage,
        answers="A page of records, the newest first.",
        errors=(400, *ASK, 503),
    ),
    Operation(
        path="/admin/requests/{id}",
        method="get",
        summary="How a request fared: its limits, wait, engines, timings and ending",
        tag="Operate",
        answer=StoryList,
        answers="The remembered requests with this id, the newest first; without `requests.read`, the own tenant's.",
        errors=(*ASK, 404),
    ),
    Operation(
        path="/health",
        method="get",
        summary="Whether the gateway can serve",
        tag="Operate",
        answer=HealthBody,
        answers="At least one model is ready.",
        refusal=HealthBody,
        errors=(503,),
        open=True,
    ),
    Operation(
        path="/health/live",
        method="get",
        summary="Whether the process lives",
        tag="Operate",
        answer=LiveBody,
        answers="It does.",
        errors=(),
        open=True,
    ),
    Operation(
        path="/health/ready",
        method="get",
        summary="Whether requests can be sent",
        tag="Operate",
        answer=HealthBody,
        answers="They can.",
        refusal=HealthBody,
        errors=(503,),
        open=True,
    ),
    Operation(
        path="/health/backlog",
        method="get",
        summary="What waits and runs for each model, for autoscalers",
        tag="Operate",
        answer=BacklogBody,
        answers="Counts, by model.",
        errors=(),
        open=True,
    ),
    Operation(
        path="/metrics",
        method="get",
        summary="Metrics for Prometheus",
        tag="Operate",
        answers="Metrics in the text format of Prometheus.",
        media="text/plain",
        errors=(),
        open=True,
    ),
    Operation(
        path="/v1/responses/{id}",
        method="get",
        summary="A response that is made in the background, as it is by now",
        query={"stream": "`true`: its events.", "starting_after": "The number of the last event that one has."},
        answer=ResponseBody,
        answers="The response; with `stream`, server-sent events from the first, or behind `starting_after`, on.",
        errors=(400, 401, 403, 404, 500),
    ),
    Operation(
        path="/v1/responses/{id}",
        method="delete",
        summary="Forget such a response, and stop it where it runs",
        answers="`{id, object, deleted}`.",
        errors=(401, 403, 404, 500),
    ),
    Operation(
        path="/v1/responses/{id}/cancel",
        summary="Cancel such a response",
        answer=ResponseBody,
        answers="The response, cancelled.",
        errors=(401, 403, 404, 409, 500),
    ),
    *BATCHES,
    *ENDPOINTS,
    *ROUTES,
    *ADMIN,
)
