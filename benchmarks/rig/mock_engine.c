/*
 * An engine that thinks nothing: it speaks llama-server's wire at the speed of C, so that what stands in front of it
 * is what gets measured. One thread, epoll, HTTP/1.1 with keep-alive, on a unix socket or a loopback port.
 *
 * POST /v1/chat/completions answers with one JSON body, or with a stream of server-sent events if the body asks for
 * one: a chunk with the role, N chunks of content, one that finishes, one with the usage if it was asked for, [DONE].
 * N is the request's max_tokens, else --chunks. Streams take turns, one chunk and one write each, as an engine with
 * continuous batching does after every step; --interval-us is the pause between two chunks of a stream (0: none).
 * A prompt may say otherwise for its own request: `pace-us N` is that pause, `wait-us N` is the time before anything
 * of the answer comes. GET /metrics counts, as vLLM does where vLLM has a name for it, what
 * runs, and how many clients left before their answer was whole (mock:aborted_total).
 *
 * Flags of llama-server that mean nothing here are accepted and ignored. Not here: a request body in chunks,
 * pipelining while a stream runs, anything about prompts.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    HEAD_BYTES_MAX = 64 * 1024,
    BODY_BYTES_MAX = 64 * 1024 * 1024,
    NUMBER_MAX = 100000000, /* chunks, microseconds */
    EVENTS_PER_WAIT = 256,
    ANSWER_BYTES = 592, /* the body of an answer that is not a stream */
    ID_DIGITS = 8,
};

struct bytes {
    char *data;
    size_t len, cap;
};

struct conn {
    int fd;
    struct bytes in, out; /* out: what the socket did not take yet, from out_sent on */
    size_t out_sent;
    bool streaming, waiting, wants_stream, usage, close_after, closed, queued; /* waiting: before its answer */
    long next_chunk, chunks, pace_us;
    char id[ID_DIGITS + 1];
    uint64_t due_ns;
    struct conn *next; /* in the queue of streams */
};

static const char *alias = "mock";
static const char *model_path = "mock.gguf";
static long chunks_default = 8, interval_us, slots = 4, context = 4096;

static int epoll_fd, listen_fd, timer_fd;
static struct conn *queue_head, *queue_tail; /* streams by the time of their next chunk, the soonest first */
static struct bytes scratch, content_chunk, answer;
static size_t content_id_at, answer_id_at;
static uint32_t next_id = 1;
static long created;
static long running_now; /* streams and held back answers that are not whole yet */
static uint64_t requests_total, aborted_total;

static void die(const char *what) {
    perror(what);
    exit(2);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- bytes ------------------------------------------------------------------------------------------------------ */

static void reserve(struct bytes *b, size_t more) {
    if (b->len + more <= b->cap) return;
    size_t cap = b->cap ? b->cap : 4096;
    while (cap < b->len + more) cap *= 2;
    char *data = realloc(b->data, cap);
    if (!data) die("memory");
    b->data = data;
    b->cap = cap;
}

static void add(struct bytes *b, const void *data, size_t len) {
    reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

__attribute__((format(printf, 2, 3))) static void addf(struct bytes *b, const char *form, ...) {
    va_list args;
    va_start(args, form);
    reserve(b, 4096);
    int n = vsnprintf(b->data + b->len, b->cap - b->len, form, args);
    va_end(args);
    if (n < 0 || (size_t)n >= b->cap - b->len) die("text too long");
    b->len += (size_t)n;
}

/* --- what the engine says --------------------------------------------------------------------------------------- */

/* One event as one HTTP chunk. */
static void add_event(struct bytes *b, const char *event, size_t len) {
    addf(b, "%zx\r\n", len);
    add(b, event, len);
    add(b, "\r\n", 2);
}

/* A chunk in llama-server's own shape and order of fields; choices is the inside of the array. */
static size_t render_chunk(char *to, size_t cap, const char *choices, const char *id, const char *more) {
    int n = snprintf(to, cap,
                     "data: {\"choices\":[%s],\"created\":%ld,\"id\":\"chatcmpl-%s\",\"model\":\"%s\","
                     "\"system_fingerprint\":\"b1\",\"object\":\"chat.completion.chunk\"%s}\n\n",
                     choices, created, id, alias, more);
    if (n < 0 || (size_t)n >= cap) die("chunk too long");
    return (size_t)n;
}

static size_t find_at(const struct bytes *b, const char *text) {
    const char *at = memmem(b->data, b->len, text, strlen(text));
    if (!at) die("template");
    return (size_t)(at - b->data);
}

/* What differs between two requests is the id alone: the rest is written once. */
static void prepare(void) {
    char event[2048];
    size_t n = render_chunk(event, sizeof event, "{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\" word\"}}",
                            "########", "");
    add_event(&content_chunk, event, n);
    content_id_at = find_at(&content_chunk, "########");

    struct bytes body = {0}, end = {0};
    addf(&body, "{\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
    addf(&end, "\"}}],\"created\":%ld,\"model\":\"%s\",\"system_fingerprint\":\"b1\",\"object\":\"chat.completion\","
               "\"usage\":{\"completion_tokens\":8,\"prompt_tokens\":200,\"total_tokens\":208,"
               "\"prompt_tokens_details\":{\"cached_tokens\":0}},\"id\":\"chatcmpl-########\"}",
         created, alias);
    for (size_t i = 0; body.len + end.len < ANSWER_BYTES; i++) add(&body, &" word"[i % 5], 1);
    add(&body, end.data, end.len);
    addf(&answer, "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json; charset=utf-8\r\n"
                  "Content-Length: %zu\r\n\r\n", body.len);
    add(&answer, body.data, body.len);
    answer_id_at = find_at(&answer, "########");
    free(body.data);
    free(end.data);
}

/* --- connections ------------------------------------------------------------------------------------------------ */

static void forget(struct conn *c) {
    free(c->in.data);
    free(c->out.data);
    free(c);
}

/* A queued stream is freed when its turn comes. */
static void hang_up(struct conn *c) {
    if (c->closed) return;
    c->closed = true;
    if (c->streaming || c->waiting) {
        aborted_total++;
        running_now--;
    }
    close(c->fd);
    if (!c->queued) forget(c);
}

static void watch(struct conn *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0) die("epoll_ctl");
}

/* False if the connection is gone. */
static bool say(struct conn *c, const char *data, size_t len) {
    if (c->out.len == 0) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n == (ssize_t)len) return true;
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                hang_up(c);
                return false;
            }
            n = 0;
        }
        data += n;
        len -= (size_t)n;
        watch(c, EPOLLIN | EPOLLOUT);
    }
    add(&c->out, data, len);
    return true;
}

/* Into the queue by its time; as long as all have the same pace, that is the end. */
static void enqueue(struct conn *c, uint64_t due_ns) {
    c->due_ns = due_ns;
    c->next = NULL;
    c->queued = true;
    if (!queue_tail) {
        queue_head = queue_tail = c;
    } else if (queue_tail->due_ns <= due_ns) {
        queue_tail->next = c;
        queue_tail = c;
    } else {
        struct conn **at = &queue_head;
        while ((*at)->due_ns <= due_ns) at = &(*at)->next;
        c->next = *at;
        *at = c;
    }
}

static bool serve(struct conn *c);

static bool begin_answer(struct conn *c);

/* The next chunk of a stream, or its end. False if the connection is gone. */
static bool step(struct conn *c, uint64_t now) {
    if (c->waiting) {
        c->waiting = false;
        running_now--;
        if (!begin_answer(c)) return false;
        if (c->streaming) return true;
        if (c->close_after && c->out.len == 0) {
            hang_up(c);
            return false;
        }
        return serve(c);
    }
    if (c->out.len) return true; /* the reader is slow: goes on when the socket has taken everything */
    if (c->next_chunk < c->chunks) {
        c->next_chunk++;
        memcpy(content_chunk.data + content_id_at, c->id, ID_DIGITS);
        if (!say(c, content_chunk.data, content_chunk.len)) return false;
        enqueue(c, now + (uint64_t)c->pace_us * 1000);
        return true;
    }
    char event[2048], more[512];
    scratch.len = 0;
    size_t n = render_chunk(event, sizeof event, "{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}", c->id, "");
    add_event(&scratch, event, n);
    if (c->usage) {
        snprintf(more, sizeof more,
                 ",\"usage\":{\"completion_tokens\":%ld,\"prompt_tokens\":200,\"total_tokens\":%ld,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":0}},\"timings\":{\"cache_n\":0,\"prompt_n\":200,"
                 "\"prompt_ms\":1.0,\"predicted_n\":%ld,\"predicted_ms\":1.0}",
                 c->chunks, c->chunks + 200, c->chunks);
        n = render_chunk(event, sizeof event, "", c->id, more);
        add_event(&scratch, event, n);
    }
    add_event(&scratch, "data: [DONE]\n\n", 14);
    add(&scratch, "0\r\n\r\n", 5);
    c->streaming = false;
    running_now--;
    if (!say(c, scratch.data, scratch.len)) return false;
    if (c->close_after && c->out.len == 0) {
        hang_up(c);
        return false;
    }
    return serve(c);
}

static bool begin_stream(struct conn *c) {
    static const char head[] = "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    char event[2048];
    size_t n = render_chunk(event, sizeof event,
                            "{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}",
                            c->id, "");
    scratch.len = 0;
    add(&scratch, head, sizeof head - 1);
    add_event(&scratch, event, n);
    memcpy(content_chunk.data + content_id_at, c->id, ID_DIGITS);
    add(&scratch, content_chunk.data, content_chunk.len); /* the role goes out with the first token */
    c->streaming = true;
    running_now++;
    c->next_chunk = 1;
    if (!say(c, scratch.data, scratch.len)) return false;
    if (!c->out.len) enqueue(c, now_ns() + (uint64_t)c->pace_us * 1000);
    return true;
}

static bool begin_answer(struct conn *c) {
    if (c->wants_stream) return begin_stream(c);
    memcpy(answer.data + answer_id_at, c->id, ID_DIGITS);
    return say(c, answer.data, answer.len);
}

static bool say_page(struct conn *c, const char *status, const char *type, const char *body, size_t len) {
    scratch.len = 0;
    addf(&scratch, "HTTP/1.1 %s\r\nServer: llama.cpp\r\nContent-Type: %s; charset=utf-8\r\n"
                   "Content-Length: %zu\r\n\r\n", status, type, len);
    add(&scratch, body, len);
    return say(c, scratch.data, scratch.len);
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static bool has(const char *text, size_t len, const char *word) { return memmem(text, len, word, strlen(word)) != NULL; }

static bool is_true(const char *body, size_t len, const char *field) {
    char tight[64], loose[64];
    snprintf(tight, sizeof tight, "\"%s\":true", field);
    snprintf(loose, sizeof loose, "\"%s\": true", field);
    return has(body, len, tight) || has(body, len, loose);
}

/* The number of a field, or fallback. The body ends in a zero byte for this. */
static long number_of(const char *body, size_t len, const char *field, long fallback) {
    const char *at = memmem(body, len, field, strlen(field));
    if (!at) return fallback;
    long found = strtol(at + strlen(field), NULL, 10);
    return found < 1 ? fallback : found > NUMBER_MAX ? NUMBER_MAX : found;
}

static bool chat(struct conn *c, const char *body, size_t len) {
    requests_total++;
    snprintf(c->id, sizeof c->id, "%08x", next_id++);
    c->wants_stream = is_true(body, len, "stream");
    if (c->wants_stream) {
        c->chunks = number_of(body, len, "\"max_tokens\":", 0);
        if (!c->chunks) c->chunks = number_of(body, len, "\"max_completion_tokens\":", 0);
        if (!c->chunks) c->chunks = number_of(body, len, "\"n_predict\":", chunks_default);
        c->pace_us = number_of(body, len, "pace-us ", interval_us);
        c->usage = is_true(body, len, "include_usage");
    }
    long wait_us = number_of(body, len, "wait-us ", 0);
    if (!wait_us) return begin_answer(c);
    c->waiting = true;
    running_now++;
    enqueue(c, now_ns() + (uint64_t)wait_us * 1000);
    return true;
}

static bool facts(struct conn *c, const char *path) {
    struct bytes b = {0};
    const char *status = "200 OK", *type = "application/json";
    if (!strcmp(path, "/health") || !strcmp(path, "/v1/health")) {
        addf(&b, "{\"status\":\"ok\"}");
    } else if (!strcmp(path, "/props")) {
        addf(&b, "{\"default_generation_settings\":{\"id\":0,\"n_ctx\":%ld},\"total_slots\":%ld,\"model_alias\":\"%s\","
                 "\"model_path\":\"%s\",\"n_ctx\":%ld,\"chat_template\":\"\",\"modalities\":{\"vision\":false,"
                 "\"audio\":false},\"build_info\":\"b1-mock\",\"is_sleeping\":false}",
             context / slots, slots, alias, model_path, context / slots);
    } else if (!strcmp(path, "/slots")) {
        addf(&b, "[");
        for (long i = 0; i < slots; i++)
            addf(&b, "%s{\"id\":%ld,\"n_ctx\":%ld,\"is_processing\":false}", i ? "," : "", i, context / slots);
        addf(&b, "]");
    } else if (!strcmp(path, "/v1/models") || !strcmp(path, "/models")) {
        addf(&b, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":%ld,"
                 "\"owned_by\":\"llamacpp\",\"max_model_len\":%ld,"
                 "\"meta\":{\"n_ctx_train\":%ld,\"n_params\":1}}]}",
             alias, created, context / slots, context / slots);
    } else if (!strcmp(path, "/metrics")) {
        type = "text/plain";
        addf(&b, "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"%s\"} %ld\n"
                 "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"%s\"} 0\n"
                 "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{model_name=\"%s\"} 0.1\n"
                 "# TYPE mock:requests_total counter\nmock:requests_total %llu\n"
                 "# TYPE mock:aborted_total counter\nmock:aborted_total %llu\n",
             alias, running_now, alias, alias, (unsigned long long)requests_total, (unsigned long long)aborted_total);
    } else if (!strcmp(path, "/tokenize")) {
        addf(&b, "{\"tokens\":[1,2,3,4]}");
    } else if (!strcmp(path, "/v1/chat/completions/input_tokens")) {
        addf(&b, "{\"object\":\"response.input_tokens\",\"input_tokens\":200}");
    } else {
        status = "404 Not Found";
        addf(&b, "{\"error\":{\"code\":404,\"message\":\"File Not Found\",\"type\":\"not_found_error\"}}");
    }
    bool there = say_page(c, status, type, b.data, b.len);
    free(b.data);
    return there;
}

/* The length of the body; -1 if the head makes none known that can be served. */
static long body_bytes(const char *head, size_t len, bool *close_after) {
    long found = 0;
    const char *at = head, *end = head + len;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) break;
        if (!strncasecmp(at, "content-length:", 15)) found = strtol(at + 15, NULL, 10);
        else if (!strncasecmp(at, "transfer-encoding:", 18)) return -1;
        else if (!strncasecmp(at, "connection:", 11) && has(at, (size_t)(line_end - at), "close")) *close_after = true;
        at = line_end + 1;
    }
    return found >= 0 && found <= BODY_BYTES_MAX ? found : -1;
}

/* Serves what has come completely. False if the connection is gone. */
static bool serve(struct conn *c) {
    while (!c->streaming && !c->waiting && c->in.len) {
        char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
        if (!end) {
            if (c->in.len <= HEAD_BYTES_MAX) return true;
            hang_up(c);
            return false;
        }
        size_t head = (size_t)(end - c->in.data) + 4;
        long length = body_bytes(c->in.data, head, &c->close_after);
        if (length < 0) {
            hang_up(c);
            return false;
        }
        size_t whole = head + (size_t)length;
        if (c->in.len < whole) return true;

        const char *path = memchr(c->in.data, ' ', head);
        if (!path) {
            hang_up(c);
            return false;
        }
        path++;
        size_t path_len = strcspn(path, " ?\r\n");
        bool is_chat = path_len == 20 && !memcmp(path, "/v1/chat/completions", 20) && c->in.data[0] == 'P';
        bool there;
        if (is_chat) {
            reserve(&c->in, 1);
            char *body = c->in.data + head;
            char kept = body[length];
            body[length] = 0;
            there = chat(c, body, (size_t)length);
            if (there) body[length] = kept;
        } else {
            char name[256];
            snprintf(name, sizeof name, "%.*s", (int)(path_len < 255 ? path_len : 255), path);
            there = facts(c, name);
        }
        if (!there) return false;
        c->in.len -= whole;
        memmove(c->in.data, c->in.data + whole, c->in.len);
        if (c->close_after && !c->streaming && !c->waiting && c->out.len == 0) {
            hang_up(c);
            return false;
        }
    }
    return true;
}

static void readable(struct conn *c) {
    reserve(&c->in, 64 * 1024);
    ssize_t n = recv(c->fd, c->in.data + c->in.len, c->in.cap - c->in.len, 0);
    if (n > 0) {
        c->in.len += (size_t)n;
        serve(c);
    } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
        hang_up(c);
    }
}

/* False if the connection is gone. */
static bool writable(struct conn *c) {
    while (c->out_sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
            hang_up(c);
            return false;
        }
        c->out_sent += (size_t)n;
    }
    c->out.len = c->out_sent = 0;
    watch(c, EPOLLIN);
    if (c->close_after && !c->streaming && !c->waiting) {
        hang_up(c);
        return false;
    }
    return !c->streaming || c->queued || step(c, now_ns());
}

static void accept_all(void) {
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* means nothing on a unix socket */
        struct conn *c = calloc(1, sizeof *c);
        if (!c) die("memory");
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    }
}

/* --- the loop --------------------------------------------------------------------------------------------------- */

/* One chunk for each stream whose time has come, each stream at most once. Returns how long to wait then. */
static int turn(void) {
    uint64_t now = now_ns();
    struct conn *last = queue_tail;
    while (queue_head && queue_head->due_ns <= now) {
        struct conn *c = queue_head;
        bool was_last = c == last;
        queue_head = c->next;
        if (!queue_head) queue_tail = NULL;
        c->queued = false;
        if (c->closed) forget(c);
        else step(c, now);
        if (was_last) break;
    }
    if (!queue_head) return -1;
    if (queue_head->due_ns <= now_ns()) return 0;
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(queue_head->due_ns / 1000000000u),
                                         .tv_nsec = (long)(queue_head->due_ns % 1000000000u)}};
    if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0) die("timerfd_settime");
    return -1;
}

static int listen_on(const char *host, int port) {
    size_t len = strlen(host);
    int fd;
    if (len > 5 && !strcmp(host + len - 5, ".sock")) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (len >= sizeof address.sun_path) {
            fprintf(stderr, "the path of the socket is too long\n");
            exit(2);
        }
        memcpy(address.sun_path, host, len + 1);
        unlink(host);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die(host);
    } else {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || (ntohl(address.sin_addr.s_addr) >> 24) != 127) {
            fprintf(stderr, "only loopback addresses and unix sockets\n");
            exit(2);
        }
        int one = 1;
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die(host);
    }
    if (listen(fd, 1024) < 0) die("listen");
    return fd;
}

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0) die("--core");
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1";
    long port = 8080, core = -1;
    struct { const char *flag; const char **text; long *number; } known[] = {
        {"--host", &host, NULL},         {"--alias", &alias, NULL},          {"--model", &model_path, NULL},
        {"--port", NULL, &port},         {"--parallel", NULL, &slots},       {"--ctx-size", NULL, &context},
        {"--chunks", NULL, &chunks_default}, {"--interval-us", NULL, &interval_us}, {"--core", NULL, &core},
    };
    for (int i = 1; i + 1 < argc; i++)
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (!strcmp(argv[i], known[k].flag)) {
                i++;
                if (known[k].text) *known[k].text = argv[i];
                else *known[k].number = strtol(argv[i], NULL, 10);
                break;
            }
    if (slots < 1) slots = 1;
    if (strlen(alias) > 200) alias = "mock"; /* chunks are rendered into fixed room */
    if (core >= 0) pin((int)core);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlives the program that started it */
    signal(SIGPIPE, SIG_IGN);
    created = (long)time(NULL);
    prepare();

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    listen_fd = listen_on(host, (int)port);
    if (epoll_fd < 0 || timer_fd < 0) die("epoll");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listen_fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event);
    event.data.ptr = &timer_fd;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event);

    struct epoll_event events[EVENTS_PER_WAIT];
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, turn());
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            if (who == &listen_fd) {
                accept_all();
            } else if (who == &timer_fd) {
                uint64_t times;
                if (read(timer_fd, &times, sizeof times) < 0 && errno != EAGAIN) die("timerfd");
            } else {
                struct conn *c = who;
                if ((events[i].events & EPOLLOUT) && !writable(c)) continue;
                if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
            }
        }
    }
}
