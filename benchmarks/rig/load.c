/*
 * A load client at the speed of C: each of its connections sends the same request again as soon as it has the whole
 * answer (closed loop), until a time or a number of requests is reached; then it waits for what is under way and
 * prints one line of JSON. One thread, epoll. It speaks to loopback addresses and unix sockets only.
 *
 *   load -r FILE [-c connections] [-d seconds] [-n requests] [-g seconds to wait at the end] [-s] HOST:PORT | unix:PATH
 *
 * FILE holds the request as it goes over the wire, head and body. With -s answers are streams of server-sent events:
 * their events are counted, and time to first token (request sent to first chunk with content) and gaps between events
 * are measured; a stream without [DONE] is an error. Events that come in one read have a gap of 0.
 *
 * Percentiles come from a histogram whose steps are below 1 %. Not here: pipelining, TLS, open loop.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 4096,
    SECONDS_MAX = 600,
    ERRORS_MAX = 1000, /* then it gives up */
    HEAD_BYTES_MAX = 16 * 1024,
    EVENT_BYTES_MAX = 64 * 1024,
    READ_BYTES = 256 * 1024,
    EVENTS_PER_WAIT = 256,
    SUBSTEPS_LOG2 = 7,
    STATUSES_MAX = 8,
};

/* --- percentiles ------------------------------------------------------------------------------------------------ */

/* Counts of nanoseconds: 128 equal steps in each power of two. */
struct histogram {
    uint64_t counts[(64 - SUBSTEPS_LOG2 + 1) << SUBSTEPS_LOG2];
    uint64_t total, max;
};

static size_t step_of(uint64_t ns) {
    if (ns < (1u << SUBSTEPS_LOG2)) return (size_t)ns;
    int shift = 63 - __builtin_clzll(ns) - SUBSTEPS_LOG2;
    return ((size_t)(shift + 1) << SUBSTEPS_LOG2) + (size_t)((ns >> shift) - (1u << SUBSTEPS_LOG2));
}

/* The middle of a step. */
static double ns_of(size_t step) {
    if (step < (1u << SUBSTEPS_LOG2)) return (double)step;
    int shift = (int)(step >> SUBSTEPS_LOG2) - 1;
    uint64_t low = ((uint64_t)(step & ((1u << SUBSTEPS_LOG2) - 1)) + (1u << SUBSTEPS_LOG2)) << shift;
    return (double)low + (double)(1ull << shift) / 2;
}

static void record(struct histogram *h, uint64_t ns) {
    h->counts[step_of(ns)]++;
    h->total++;
    if (ns > h->max) h->max = ns;
}

static double percentile_us(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->total + 0.5), seen = 0;
    if (wanted < 1) wanted = 1;
    for (size_t step = 0; step < sizeof h->counts / sizeof *h->counts; step++) {
        seen += h->counts[step];
        if (seen >= wanted) {
            double ns = ns_of(step);
            return (ns < (double)h->max ? ns : (double)h->max) / 1e3;
        }
    }
    return 0;
}

static void print_histogram(const char *name, const struct histogram *h) {
    if (!h->total) {
        printf(",\"%s\":null", name);
        return;
    }
    printf(",\"%s\":{\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"max\":%.2f}", name, percentile_us(h, 0.5),
           percentile_us(h, 0.9), percentile_us(h, 0.99), (double)h->max / 1e3);
}

/* --- state ------------------------------------------------------------------------------------------------------ */

enum part { HEAD, COUNTED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE };

struct conn {
    int fd;
    bool connected, busy, fresh; /* fresh: no answer yet on this connection */
    size_t sent;
    uint64_t started_ns, last_event_ns;
    enum part part;
    char head[HEAD_BYTES_MAX + 1];
    size_t head_len;
    uint64_t left; /* of the body or of the chunk */
    bool size_seen, size_over, trailer_line;
    int status;
    bool close_after, has_token, has_done;
    char *event;
    size_t event_len;
    uint64_t events;
};

static struct conn *conns;
static int connections = 1, epoll_fd;
static bool streaming;
static char *request;
static size_t request_len;
static union { struct sockaddr any; struct sockaddr_in in; struct sockaddr_un un; } address;
static socklen_t address_len;

static uint64_t requests_max = UINT64_MAX, started, finished, answered_ns, begin_ns, stop_ns, reconnects;
static uint64_t errors, events_total, tokens_total, bytes_total;
static int open_now, busy_now;
static struct { int status; uint64_t count; } statuses[STATUSES_MAX];
static char first_error[400];
static struct histogram latency, ttft, gaps;

static void die(const char *what) {
    perror(what);
    exit(2);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void count_status(int status) {
    for (int i = 0; i < STATUSES_MAX; i++) {
        if (statuses[i].status == 0) statuses[i].status = status;
        if (statuses[i].status == status) {
            statuses[i].count++;
            return;
        }
    }
}

static void note_error(const char *what, const char *detail, size_t len) {
    errors++;
    if (!first_error[0])
        snprintf(first_error, sizeof first_error, "%s%s%.*s", what, *what && len ? ": " : "",
                 (int)(len < 300 ? len : 300), detail ? detail : "");
}

/* --- connections ------------------------------------------------------------------------------------------------ */

static void open_connection(struct conn *c) {
    c->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    int one = 1;
    if (address.any.sa_family == AF_INET) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->connected = c->busy = false;
    c->fresh = true;
    int rc = connect(c->fd, &address.any, address_len);
    if (rc < 0 && errno == EAGAIN) { /* a unix socket whose queue is full says this instead of waiting */
        for (int tries = 0; rc < 0 && errno == EAGAIN && tries < 2000; tries++) {
            usleep(1000);
            rc = connect(c->fd, &address.any, address_len);
        }
    }
    if (rc < 0 && errno != EINPROGRESS) die("connect");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0) die("epoll_ctl");
    open_now++;
}

static void drop_connection(struct conn *c) {
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    open_now--;
    if (c->busy) busy_now--;
    c->busy = false;
}

static void watch(struct conn *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0) die("epoll_ctl");
}

/* Goes on sending; true once everything is sent. Errors show when reading. */
static bool push(struct conn *c) {
    while (c->sent < request_len) {
        ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (n < 0) return errno != EAGAIN && errno != EWOULDBLOCK;
        c->sent += (size_t)n;
    }
    return true;
}

static void begin(struct conn *c) {
    c->busy = true;
    busy_now++;
    c->sent = 0;
    c->part = HEAD;
    c->head_len = 0;
    c->status = 0;
    c->event_len = 0;
    c->events = 0;
    c->close_after = c->has_token = c->has_done = false;
    c->started_ns = now_ns();
    if (!push(c)) watch(c, EPOLLIN | EPOLLOUT);
}

/* The next request on this connection, if there is to be one. */
static void next(struct conn *c) {
    if (started >= requests_max || errors >= ERRORS_MAX || now_ns() >= stop_ns) return;
    started++;
    if (c->fd < 0) open_connection(c); /* sends when it is connected */
    else begin(c);
}

static void fail(struct conn *c, const char *what) {
    note_error(what, c->event, c->status && c->event ? c->event_len : 0);
    drop_connection(c);
    next(c);
}

/* --- answers ---------------------------------------------------------------------------------------------------- */

static void complete(struct conn *c, uint64_t now) {
    c->busy = false;
    busy_now--;
    c->fresh = false;
    count_status(c->status);
    if (c->status != 200) note_error("", c->event, c->event_len);
    else if (streaming && !c->has_done) note_error("a stream ended without [DONE]", NULL, 0);
    else {
        finished++;
        answered_ns = now;
        record(&latency, now - c->started_ns);
    }
    if (c->close_after) drop_connection(c);
    next(c);
}

static bool find(const char *in, size_t len, const char *word) { return memmem(in, len, word, strlen(word)) != NULL; }

/* One whole event, without the empty line that ends it. */
static void on_event(struct conn *c, uint64_t now) {
    const char *e = c->event;
    size_t len = c->event_len;
    if (len < 6 || memcmp(e, "data: ", 6)) return; /* a comment: a ping */
    c->events++;
    events_total++;
    if (c->events > 1) record(&gaps, now - c->last_event_ns);
    c->last_event_ns = now;
    if (!c->has_token) {
        const char *content = memmem(e, len, "\"content\":\"", 11);
        if (content && content[11] != '"') {
            c->has_token = true;
            record(&ttft, now - c->started_ns);
        }
    }
    if (len == 12 && !memcmp(e, "data: [DONE]", 12)) c->has_done = true;
    else if (len > 14 && !memcmp(e, "data: {\"error\"", 14)) note_error("error in a stream", e, len);
    else {
        const char *usage = memmem(e, len, "\"completion_tokens\":", 20);
        if (usage) tokens_total += strtoull(usage + 20, NULL, 10);
    }
}

static void on_body(struct conn *c, const char *data, size_t len, uint64_t now) {
    bytes_total += len;
    if (!streaming || c->status != 200) { /* kept for the first error's sake; a good answer is not looked into */
        if (c->status != 200) {
            size_t room = EVENT_BYTES_MAX - c->event_len, n = len < room ? len : room;
            memcpy(c->event + c->event_len, data, n);
            c->event_len += n;
        }
        return;
    }
    const char *end = data + len;
    while (data < end) {
        const char *line_end = memchr(data, '\n', (size_t)(end - data));
        size_t n = (size_t)((line_end ? line_end : end) - data);
        if (n && data[n - 1] == '\r') n--;
        if (n == 0 && line_end && c->event_len && c->event[c->event_len - 1] == '\n') {
            c->event_len--;
            c->event[c->event_len] = 0;
            on_event(c, now);
            c->event_len = 0;
        } else {
            /* what is longer is cut; the last two bytes are kept for the end of the line and of the text */
            size_t room = c->event_len < EVENT_BYTES_MAX - 2 ? EVENT_BYTES_MAX - 2 - c->event_len : 0;
            if (n > room) n = room;
            memcpy(c->event + c->event_len, data, n);
            c->event_len += n;
            if (line_end && c->event_len && c->event_len < EVENT_BYTES_MAX - 1) c->event[c->event_len++] = '\n';
        }
        data = line_end ? line_end + 1 : end;
    }
}

/* Reads the head. False if it is not HTTP. */
static bool on_head(struct conn *c) {
    c->head[c->head_len] = 0;
    int minor;
    if (sscanf(c->head, "HTTP/1.%d %d", &minor, &c->status) != 2) return false;
    c->part = UNTIL_CLOSE;
    c->left = 0;
    c->close_after = minor == 0;
    for (char *line = strchr(c->head, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if (!strncasecmp(line, "content-length:", 15)) {
            c->left = strtoull(line + 15, NULL, 10);
            if (c->part == UNTIL_CLOSE) c->part = COUNTED;
        } else if (!strncasecmp(line, "transfer-encoding:", 18) && find(line, strcspn(line, "\r\n"), "chunked")) {
            c->part = CHUNK_SIZE;
        } else if (!strncasecmp(line, "connection:", 11) && find(line, strcspn(line, "\r\n"), "close")) {
            c->close_after = true;
        }
    }
    if (c->part == CHUNK_SIZE) {
        c->left = 0;
        c->size_seen = c->size_over = false;
    }
    if (c->part == UNTIL_CLOSE) c->close_after = true;
    return true;
}

static int hex(char x) {
    if (x >= '0' && x <= '9') return x - '0';
    x |= 32;
    return x >= 'a' && x <= 'f' ? x - 'a' + 10 : -1;
}

/* Takes what was read. 1: the answer is whole; 0: more to come; -1: not HTTP. */
static int on_bytes(struct conn *c, const char *data, size_t len, uint64_t now) {
    const char *end = data + len;
    for (;;) {
        if (c->part == COUNTED && c->left == 0) return data == end ? 1 : -1; /* nobody asked for more */
        if (data == end) return 0;
        size_t have = (size_t)(end - data);
        switch (c->part) {
        case HEAD: {
            size_t room = HEAD_BYTES_MAX - c->head_len, n = have < room ? have : room, before = c->head_len;
            memcpy(c->head + before, data, n);
            size_t from = before > 3 ? before - 3 : 0;
            char *at = memmem(c->head + from, before + n - from, "\r\n\r\n", 4);
            if (!at) {
                if (n == room) return -1;
                c->head_len = before + n;
                return 0;
            }
            c->head_len = (size_t)(at - c->head) + 4;
            data += c->head_len - before;
            if (!on_head(c)) return -1;
            break;
        }
        case COUNTED:
        case CHUNK_DATA: {
            size_t n = have < c->left ? have : (size_t)c->left;
            on_body(c, data, n, now);
            data += n;
            c->left -= n;
            if (c->left == 0 && c->part == CHUNK_DATA) c->part = CHUNK_END;
            break;
        }
        case CHUNK_SIZE: { /* hex digits, perhaps an extension, end of line */
            char x = *data++;
            int digit = hex(x);
            if (x == '\n') {
                if (!c->size_seen) return -1;
                c->part = c->left ? CHUNK_DATA : TRAILER;
                c->trailer_line = false;
            } else if (x == '\r') {
                break;
            } else if (digit >= 0 && !c->size_over) {
                if (c->left >> 40) return -1;
                c->left = c->left * 16 + (uint64_t)digit;
                c->size_seen = true;
            } else if (x == ';' || c->size_over) {
                c->size_over = true;
            } else {
                return -1;
            }
            break;
        }
        case CHUNK_END: {
            char x = *data++;
            if (x == '\r') break;
            if (x != '\n') return -1;
            c->part = CHUNK_SIZE;
            c->left = 0;
            c->size_seen = c->size_over = false;
            break;
        }
        case TRAILER: { /* lines until an empty one */
            char x = *data++;
            if (x == '\n') {
                if (!c->trailer_line) return data == end ? 1 : -1;
                c->trailer_line = false;
            } else if (x != '\r') {
                c->trailer_line = true;
            }
            break;
        }
        case UNTIL_CLOSE:
            on_body(c, data, have, now);
            data = end;
            break;
        }
    }
}

static void closed_by_peer(struct conn *c) {
    if (!c->busy) {
        drop_connection(c);
    } else if (c->part == UNTIL_CLOSE) {
        complete(c, now_ns());
    } else if (!c->fresh && c->part == HEAD && c->head_len == 0) { /* kept alive, and closed just now: once more */
        reconnects++;
        drop_connection(c);
        open_connection(c);
    } else {
        fail(c, "the connection broke off");
    }
}

static void readable(struct conn *c) {
    static char room[READ_BYTES];
    ssize_t n = recv(c->fd, room, sizeof room, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n <= 0) {
        closed_by_peer(c);
        return;
    }
    if (!c->busy) {
        fail(c, "bytes that nobody asked for");
        return;
    }
    uint64_t now = now_ns();
    int whole = on_bytes(c, room, (size_t)n, now);
    if (whole > 0) complete(c, now);
    else if (whole < 0) fail(c, "the answer is not HTTP");
}

static void on_ready(struct conn *c, uint32_t ready) {
    if (!c->connected) {
        int error = 0;
        socklen_t len = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            errno = error;
            die("connect");
        }
        if (!(ready & EPOLLOUT)) return;
        c->connected = true;
        watch(c, EPOLLIN);
        if (begin_ns) begin(c); /* a connection in place of a lost one */
        return;
    }
    if ((ready & EPOLLOUT) && c->busy && push(c)) watch(c, EPOLLIN);
    if (ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

/* --- the run ---------------------------------------------------------------------------------------------------- */

static void parse_address(const char *text) {
    memset(&address, 0, sizeof address);
    if (!strncmp(text, "unix:", 5)) {
        if (strlen(text + 5) >= sizeof address.un.sun_path) {
            fprintf(stderr, "the path of the socket is too long\n");
            exit(2);
        }
        address.un.sun_family = AF_UNIX;
        strcpy(address.un.sun_path, text + 5);
        address_len = sizeof address.un;
        return;
    }
    char host[64];
    unsigned port;
    if (sscanf(text, "%63[^:]:%u", host, &port) != 2 || port < 1 || port > 65535 ||
        inet_pton(AF_INET, !strcmp(host, "localhost") ? "127.0.0.1" : host, &address.in.sin_addr) != 1 ||
        (ntohl(address.in.sin_addr.s_addr) >> 24) != 127) {
        fprintf(stderr, "give 127.x.y.z:PORT or unix:PATH\n");
        exit(2);
    }
    address.in.sin_family = AF_INET;
    address.in.sin_port = htons((uint16_t)port);
    address_len = sizeof address.in;
}

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    long len = ftell(file);
    if (len <= 0 || len > 16 * 1024 * 1024) {
        fprintf(stderr, "%s: not a request\n", path);
        exit(2);
    }
    rewind(file);
    request = malloc((size_t)len);
    if (!request || fread(request, 1, (size_t)len, file) != (size_t)len) die(path);
    request_len = (size_t)len;
    fclose(file);
}

/* Handles events until the time is over, or `enough` is true. */
static void loop(uint64_t until_ns, bool (*enough)(void)) {
    struct epoll_event ready[EVENTS_PER_WAIT];
    while (!enough()) {
        uint64_t now = now_ns();
        if (now >= until_ns) return;
        int wait_ms = (int)((until_ns - now) / 1000000) + 1;
        int n = epoll_wait(epoll_fd, ready, EVENTS_PER_WAIT, wait_ms);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (c->fd >= 0) on_ready(c, ready[i].events);
        }
    }
}

static bool all_connected(void) {
    for (int i = 0; i < connections; i++)
        if (!conns[i].connected) return false;
    return true;
}

static bool nothing_left(void) {
    return busy_now == 0 && (started >= requests_max || errors >= ERRORS_MAX || now_ns() >= stop_ns);
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') printf("\\%c", *text);
        else if ((unsigned char)*text < 32) printf("\\u%04x", *text);
        else putchar(*text);
    }
    putchar('"');
}

static void report(void) {
    double elapsed_s = answered_ns > begin_ns ? (double)(answered_ns - begin_ns) / 1e9 : 0;
    double per = elapsed_s > 0 ? 1 / elapsed_s : 0;
    printf("{\"connections\":%d,\"requests\":%llu,\"errors\":%llu,\"unfinished\":%d,\"reconnects\":%llu,"
           "\"elapsed_s\":%.6f,\"requests_per_s\":%.2f,\"body_bytes\":%llu,\"events\":%llu,\"events_per_s\":%.2f,"
           "\"tokens\":%llu,\"tokens_per_s\":%.2f",
           connections, (unsigned long long)finished, (unsigned long long)errors, busy_now,
           (unsigned long long)reconnects, elapsed_s, (double)finished * per, (unsigned long long)bytes_total,
           (unsigned long long)events_total, (double)events_total * per, (unsigned long long)tokens_total,
           (double)tokens_total * per);
    print_histogram("latency_us", &latency);
    print_histogram("ttft_us", &ttft);
    print_histogram("gap_us", &gaps);
    printf(",\"statuses\":{");
    for (int i = 0; i < STATUSES_MAX && statuses[i].status; i++)
        printf("%s\"%d\":%llu", i ? "," : "", statuses[i].status, (unsigned long long)statuses[i].count);
    printf("},\"first_error\":");
    if (first_error[0]) print_text(first_error);
    else printf("null");
    printf("}\n");
}

static double number(const char *text, double low, double high, const char *what) {
    char *end;
    double found = strtod(text, &end);
    if (*end || !(found >= low && found <= high)) {
        fprintf(stderr, "%s: a number from %g to %g\n", what, low, high);
        exit(2);
    }
    return found;
}

int main(int argc, char **argv) {
    double seconds = 3, grace = 10;
    const char *file = NULL;
    int option;
    while ((option = getopt(argc, argv, "c:d:n:g:r:s")) != -1) {
        switch (option) {
        case 'c': connections = (int)number(optarg, 1, CONNECTIONS_MAX, "-c"); break;
        case 'd': seconds = number(optarg, 0.01, SECONDS_MAX, "-d"); break;
        case 'n': requests_max = (uint64_t)number(optarg, 1, 1e9, "-n"); break;
        case 'g': grace = number(optarg, 0, SECONDS_MAX, "-g"); break;
        case 'r': file = optarg; break;
        case 's': streaming = true; break;
        default: return 2;
        }
    }
    if (!file || optind != argc - 1) {
        fprintf(stderr, "usage: load -r FILE [-c N] [-d S] [-n N] [-g S] [-s] HOST:PORT | unix:PATH\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    parse_address(argv[optind]);
    read_request(file);
    if ((uint64_t)connections > requests_max) connections = (int)requests_max;
    conns = calloc((size_t)connections, sizeof *conns);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!conns || epoll_fd < 0) die("start");
    for (int i = 0; i < connections; i++) {
        conns[i].event = malloc(EVENT_BYTES_MAX);
        if (!conns[i].event) die("memory");
        open_connection(&conns[i]);
    }
    loop(now_ns() + 10000000000u, all_connected);
    if (!all_connected()) {
        fprintf(stderr, "not all connections came about within 10 s\n");
        return 1;
    }
    begin_ns = now_ns();
    stop_ns = begin_ns + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < connections; i++) next(&conns[i]);
    loop(stop_ns + (uint64_t)(grace * 1e9), nothing_left);
    report();
    return errors || !finished ? 1 : 0;
}
