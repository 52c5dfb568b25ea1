"""Workers, gateways and Redis that die, freeze or cannot be reached: the client sees one answer, whole, and once."""

from __future__ import annotations

import json
import signal
import threading
import time

import redis as redis_client
from pool import LEASE_S, Pool, Worker, chat, soon, until
from queue_proxy import proxy_to
from rawhttp import Answer, Client, ask, head, post
from streams import Streams, body_of, words_of

from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy.keys import Rights, mint
from services import Service, redis_server


def said(data: bytes) -> str:
    """The text of a chat's stream, whatever its framing."""
    return b"".join(part.partition(b'"')[0] for part in data.split(b'"content":"')[1:]).decode()


def answering(worker: Worker) -> int:
    assert worker.engine is not None
    return int(worker.engine.stats()["running"])


def both(pool: Pool, first: Worker, second: Worker) -> tuple[Worker, Worker]:
    """The one that has the job, and the other."""
    until(lambda: answering(first) + answering(second) == 1, "one has it")
    return (first, second) if answering(first) else (second, first)


def test_a_worker_killed_in_the_middle_of_an_answer(pool: Pool) -> None:
    """Another one goes on from the token after the last that came; the client is told so in a comment."""
    pair = pool.workers(2, tokens_per_s=30)
    gateway = pool.gateway()
    asked = body_of("of the sea", 60)
    with Client(gateway) as client:
        client.send(post({**asked, "stream_options": {"include_usage": True}}))
        beginning = b""
        for _ in range(10):
            beginning += client.read_until(b'"content":"')
        dying, _ = both(pool, *pair)
        dying.kill()
        answer = beginning + client.read_until(b"\r\n0\r\n\r\n")
    assert said(answer) == words_of(asked)
    assert answer.count(b": failover 1") == 1
    assert b'"completion_tokens":60' in answer
    until(lambda: not pool.leftovers(), "nothing is left in Redis")


def test_word_to_a_worker_is_lost(pool: Pool) -> None:
    """A worker that waits until its client has read hears of it again: word can be lost with a connection."""
    pool.settings = "answer_bytes_max: 64 KiB"
    pool.worker(tokens_per_s=5000)
    gateway = pool.gateway()
    (name,) = pool.ask_redis("ZRANGE", pool.key("workers"), 0, -1)
    taken: list[str] = []

    def take_one() -> None:
        found = pool.ask_redis("BLPOP", pool.key(f"to:{name}"), 20)
        if found is not None:
            taken.append(found[1])

    asked = body_of("of the sea", 1500)
    with Client(gateway) as client:
        thieves = [threading.Thread(target=take_one) for _ in range(8)]  # who waits longest is served first
        for one in thieves:
            one.start()
        client.send(post(asked))
        answer = client.read_until(b"\r\n0\r\n\r\n")
    for one in thieves:
        one.join()
    assert said(answer) == words_of(asked)
    assert {word.split()[0] for word in taken} == {"read"}


def test_a_worker_killed_before_the_first_token(pool: Pool) -> None:
    """Its job begins anew at another one, and counts as one attempt more."""
    first = pool.worker(ttft_s=60)
    gateway = pool.gateway()
    with Client(gateway) as client:
        client.send(post(json.loads(chat())))
        until(lambda: answering(first) == 1, "it works on the prompt")
        first.kill()
        pool.worker()
        answer = client.answer()
    assert answer.status == 200
    assert answer.json["usage"]["completion_tokens"] == 8


def test_a_frozen_worker_that_wakes_up_publishes_nothing(pool: Pool) -> None:
    """Its lease is over: what it had in hand is refused by Redis, and it lets go of the job by itself."""
    pair = pool.workers(2, tokens_per_s=30)
    gateway = pool.gateway()
    asked = body_of("of the sea", 100)
    with Client(gateway) as client:
        client.send(post(asked))
        beginning = client.read_until(b'"content":"')
        zombie, other = both(pool, *pair)
        zombie.tell(signal.SIGSTOP)
        until(lambda: answering(other) == 1, "another one has taken over")
        zombie.tell(signal.SIGCONT)
        answer = beginning + client.read_until(b"\r\n0\r\n\r\n")
    assert said(answer) == words_of(asked)
    until(lambda: any('"job lost"' in line for line in zombie.log), "it knows")
    until(lambda: pool.workers_seen() == 2, "it works on")


def test_a_gateway_that_dies_leaves_nothing_behind(pool: Pool) -> None:
    """Nobody reads its answers any more: its jobs end, those that run and those that wait."""
    pool.settings = "ahead: 2"
    worker = pool.worker(slots=1, tokens_per_s=10)
    gateway = pool.gateway()
    clients = [Client(gateway) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(post(body_of(str(number), 1000)))
    until(lambda: sum(":job:" in key for key in pool.leftovers()) == 3, "one runs, two wait in Redis")
    gateway.stop(signal.SIGKILL)
    until(lambda: not pool.leftovers(), "nothing is left", 5 * LEASE_S)
    until(lambda: answering(worker) == 0, "its engine was told")
    for client in clients:
        client.close()


def test_a_job_that_every_engine_fails_at_is_laid_with_the_dead(pool: Pool) -> None:
    """After as many attempts as the stack allows; the client is told, and where it lies now."""
    worker = pool.worker(error_rate=1.0, model="routing: {breaker: {failures: 1000}, outliers: {requests_min: 100000}}")
    gateway = pool.gateway()
    answer = ask(gateway, post(json.loads(chat())))
    assert (answer.status, answer.code) == (502, "engine_failed")
    assert "dead letters" in answer.json["error"]["message"]
    assert pool.ask_redis("XLEN", pool.key("dead")) == 1
    assert worker.engine is not None
    worker.engine.set(error_rate=0.0)
    assert ask(gateway, post(json.loads(chat()))).status == 200


def test_a_job_that_kills_its_workers_is_laid_with_the_dead(pool: Pool) -> None:
    """A poison job takes so many workers with it and no more."""
    pool.settings = "attempts_max: 2"
    workers = pool.workers(3, ttft_s=60)
    gateway = pool.gateway()
    with Client(gateway) as client:
        client.send(post(json.loads(chat())))
        for _ in range(2):
            until(lambda: sum(map(answering, workers)) == 1, "one has it")
            victim = next(worker for worker in workers if answering(worker))
            victim.kill()
            workers.remove(victim)
        answer = client.answer()
    assert (answer.status, answer.code) == (502, "engine_failed")
    assert pool.ask_redis("XLEN", pool.key("dead")) == 1


async def test_redis_killed_and_started_again_under_load(pool: Pool, redis: Service) -> None:
    """kill -9 of Redis, with its append-only file: every stream goes on and is whole."""
    pool.workers(2, slots=8, tokens_per_s=40)
    gateway = pool.gateway()
    async with Streams(gateway, at_once=8) as streams:
        for _ in range(2):
            await streams.heard(60)
            redis.kill()
            redis.start()
        await streams.heard(120)
    assert set(streams.outcomes) == {"whole"}, (streams.outcomes, streams.odd[:3])
    until(lambda: not pool.leftovers(), "nothing is left in Redis")


async def test_a_worker_cut_off_from_redis(pool: Pool, redis: Service) -> None:
    """A partition longer than a lease: its jobs go on elsewhere, what it has in hand counts no more; it comes back."""
    with proxy_to(redis.port) as proxy:
        direct, pool.url = pool.url, proxy.url
        far = pool.worker(slots=4, tokens_per_s=30)
        pool.url = direct
        gateway = pool.gateway()
        pool.worker(slots=4, tokens_per_s=30)
        async with Streams(gateway, at_once=6, tokens=(40, 80)) as streams:
            for harm in (proxy.freeze, proxy.cut):
                await soon(lambda: answering(far) > 0, "it has work")
                harm()
                await streams.heard(200)
                proxy.heal()
                await soon(lambda: pool.workers_seen() == 2, "it is back")
        assert set(streams.outcomes) == {"whole"}, (streams.outcomes, streams.odd[:3])
        assert streams.failovers > 0


async def test_a_gateway_cut_off_from_redis_for_a_moment(pool: Pool, redis: Service) -> None:
    """Shorter than a lease: its streams stand still and go on, and new ones are begun."""
    pool.settings = "lease: 3 s"
    with proxy_to(redis.port) as proxy:
        pool.worker(slots=8, tokens_per_s=40)
        pool.url = proxy.url
        gateway = pool.gateway()
        async with Streams(gateway, at_once=6) as streams:
            await streams.heard(30)
            proxy.cut()
            proxy.heal()
            await streams.heard(100)
        assert ask(gateway, post({**body_of("a", 8), "stream": False})).status == 200
        assert set(streams.outcomes) == {"whole"}, (streams.outcomes, streams.odd[:3])
        assert streams.failovers == 0


def test_a_gateway_at_rest_cut_off_from_redis_for_a_moment(pool: Pool, redis: Service) -> None:
    """Shorter than a lease: it doubts its workers meanwhile, and no longer than that."""
    pool.settings = "lease: 30 s"
    with proxy_to(redis.port) as proxy:
        pool.worker()
        pool.url = proxy.url
        gateway = pool.gateway()
        with SqliteStore(gateway.state_dir) as store:
            key = mint(store, note="", rights=Rights(roles=frozenset({"operator"})), now=time.time()).key

        def state() -> str:
            listed = ask(gateway, head("GET", "/admin/endpoints", key=key))
            return str(listed.json["endpoints"][0]["state"]) if listed.status == 200 else ""

        until(lambda: state() == "ready", "the key holds")
        proxy.cut()
        until(lambda: state() == "unreachable", "it has noticed")
        proxy.heal()
        until(lambda: state() == "ready", "it is there again")
        assert ask(gateway, post({**body_of("a", 8), "stream": False})).status == 200


async def test_a_slow_redis(pool: Pool, redis: Service) -> None:
    """40 ms each way: answers are later, and whole; pieces travel together."""
    with proxy_to(redis.port) as proxy:
        proxy.delay_s = 0.04
        pool.url = proxy.url
        pool.worker(slots=8, tokens_per_s=100)
        gateway = pool.gateway()
        async with Streams(gateway, at_once=8) as streams:
            await streams.heard(400)
        assert set(streams.outcomes) == {"whole"}, (streams.outcomes, streams.odd[:3])
        assert streams.failovers == 0


def test_without_redis_requests_are_refused_and_taken_again_later(pool: Pool, redis: Service) -> None:
    """After one lease new requests are told 503; when Redis is back they are answered."""
    pool.worker()
    gateway = pool.gateway()
    redis.kill()

    def refused() -> Answer | None:
        answer = ask(gateway, post(json.loads(chat())))
        return answer if answer.status == 503 else None

    gateway.wait_for(event="replica", state="unreachable")
    answer = until(refused, "it is refused")
    assert "queue" in answer.json["error"]["message"]
    redis.start()
    gateway.wait_for(event="replica", state="ready")
    assert ask(gateway, post(json.loads(chat()))).status == 200


def test_an_answer_that_cannot_go_on_is_told_so(pool: Pool) -> None:
    """By the rules of failover: log probabilities of a text that is cut anew are others. One error, and an end."""
    pair = pool.workers(2, tokens_per_s=30)
    gateway = pool.gateway()
    with Client(gateway) as client:
        client.send(post({**body_of("of the sea", 200), "logprobs": True}))
        client.read_until(b'"content":"')
        both(pool, pair[0], pair[1])[0].kill()
        rest = client.read_until(b"\r\n0\r\n\r\n")
    assert b"log probabilities were asked for" in rest
    assert rest.count(b'"error"') == 1
    until(lambda: not pool.leftovers(), "nothing is left in Redis")


def test_a_redis_that_comes_back_empty(pool: Pool) -> None:
    """Jobs that had not begun are handed over once more; an answer in the middle ends with an error, not in silence."""
    worker = pool.worker(slots=1, tokens_per_s=20)
    gateway = pool.gateway()
    with Client(gateway) as begun, Client(gateway) as waiting:
        begun.send(post(body_of("begun", 400)))
        begun.read_until(b'"content":"')
        waiting.send(post(body_of("waiting", 10)))
        until(lambda: sum(":job:" in key for key in pool.leftovers()) == 2, "it waits in Redis")
        pool.ask_redis("FLUSHALL")
        rest = begun.read_until(b"\r\n0\r\n\r\n")
        assert b"the queue has lost this request" in rest
        assert said(waiting.answer().body) == words_of(body_of("waiting", 10))
    until(lambda: answering(worker) == 0, "its engine was told")


def test_a_cluster(pool: Pool) -> None:
    """All keys of a model are in one slot: the same works on a Redis Cluster."""
    folder = pool.folder / "cluster"
    folder.mkdir()
    with redis_server(folder, "--cluster-enabled", "yes") as node:
        with redis_client.Redis(port=node.port) as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "it is whole")
        pool.url = f"redis+cluster://127.0.0.1:{node.port}"
        pair = pool.workers(2, tokens_per_s=40)
        gateway = pool.gateway()
        asked = body_of("of the sea", 50)
        with Client(gateway) as client_of_it:
            client_of_it.send(post(asked))
            beginning = client_of_it.read_until(b'"content":"')
            both(pool, pair[0], pair[1])[0].kill()
            answer = beginning + client_of_it.read_until(b"\r\n0\r\n\r\n")
        assert said(answer) == words_of(asked)
