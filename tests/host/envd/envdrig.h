/* envd as an ordinary process on a unix socket, and a small blocking HTTP
 * client for it. Every wait ends after 20 s. */
#ifndef E2B_ENVDRIG_H
#define E2B_ENVDRIG_H

#include "base/base64.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "ctest.h"
#include "net/core/connect.h"
#include "net/core/http1.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RIG_WAIT_MS = 20 * 1000 };

static struct {
    pid_t pid;
    char program[4096], dir[64];
    struct err e;
} rig;

static inline void rig_sleep(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static inline double rig_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline int rig_dial(void)
{
    int dir = open(rig.dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = -1;
    for (int i = 0; i < 500 && fd < 0; i++) {
        fd = fd_unix_connect(dir, "s", &rig.e);
        if (fd < 0)
            rig_sleep(10);
    }
    close(dir);
    if (fd < 0)
        fail_msg("no envd: %s", rig.e.msg);
    assert_int_equal(fd_nonblock(fd, false, &rig.e), 0);
    return fd;
}

static inline void rig_start(const char *grace_ms)
{
    char sock[80];
    ssize_t n =
        readlink("/proc/self/exe", rig.program, sizeof(rig.program) - 1);
    assert_true(n > 0);
    rig.program[n] = '\0';
    char *tests = strstr(rig.program, "/tests/host/");
    assert_non_null(tests);
    memcpy(tests, "/envd", 6);
    snprintf(rig.dir, sizeof(rig.dir), "/tmp/envd-test-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    snprintf(sock, sizeof(sock), "%s/s", rig.dir);
    rig.pid = fork();
    if (rig.pid == 0) {
        struct rlimit files;
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = 200;
        setrlimit(RLIMIT_NOFILE, &files);
        execl(rig.program, "envd", "--socket", sock, "--grace", grace_ms,
              (char *)NULL);
        _exit(99);
    }
}

static inline void rig_stop(void)
{
    if (rig.pid > 0) {
        kill(rig.pid, SIGTERM);
        waitpid(rig.pid, NULL, 0);
    }
    rig.pid = 0;
    path_remove_tree(AT_FDCWD, rig.dir, &rig.e);
}

/* ---- HTTP ---------------------------------------------------------------- */

struct talk {
    int fd;
    struct http1_parser *parser;
    char in[65536];
    size_t have, at;
    bool closed;
};

static inline void talk_open(struct talk *t)
{
    memset(t, 0, sizeof(*t));
    t->fd = rig_dial();
    t->parser = http1_new(false);
}

static inline void talk_close(struct talk *t)
{
    if (t->parser)
        close(t->fd);
    http1_free(t->parser);
    t->parser = NULL;
}

static inline void talk_send(struct talk *t, const void *p, size_t n)
{
    if (fd_write_all(t->fd, p, n, &rig.e) < 0 && rig.e.errnum != EPIPE)
        fail_msg("send: %s", rig.e.msg);
}

/* headers: lines with CRLF, may be "". */
static inline void talk_ask(struct talk *t, const char *method,
                            const char *target, const char *headers,
                            const void *body, size_t n)
{
    struct buf b = {0};
    buf_printf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n",
               method, target, headers, n);
    buf_append(&b, body, n);
    talk_send(t, b.data, b.len);
    buf_fini(&b);
}

/* The next event that is not MORE. END is given once. */
static inline enum http1_event talk_next(struct talk *t, const char **p,
                                         size_t *n)
{
    for (;;) {
        size_t used = 0;
        enum http1_event ev = http1_feed(t->parser, t->in + t->at,
                                         t->have - t->at, &used, p, n, &rig.e);
        t->at += used;
        if (ev != HTTP1_MORE)
            return ev;
        struct pollfd w = {t->fd, POLLIN, 0};
        if (poll(&w, 1, RIG_WAIT_MS) != 1)
            fail_msg("no answer within 20 s");
        ssize_t got = read(t->fd, t->in, sizeof(t->in));
        if (got <= 0) {
            t->closed = true;
            return HTTP1_ERROR;
        }
        t->have = (size_t)got;
        t->at = 0;
    }
}

/* Reads the head; returns the status. */
static inline int talk_head(struct talk *t)
{
    const char *p;
    size_t n;
    enum http1_event ev = talk_next(t, &p, &n);
    if (ev != HTTP1_HEAD)
        fail_msg("no head: %s", t->closed ? "closed" : rig.e.msg);
    return http1_head(t->parser)->status;
}

static inline void talk_body(struct talk *t, struct buf *out)
{
    const char *p;
    size_t n;
    enum http1_event ev;
    while ((ev = talk_next(t, &p, &n)) == HTTP1_BODY)
        buf_append(out, p, n);
    assert_int_equal(ev, HTTP1_END);
}

/* One request on a connection of its own: the status; the body into out. */
static inline int ask(const char *method, const char *target,
                      const char *headers, const char *body, struct buf *out)
{
    struct talk t;
    buf_clear(out);
    talk_open(&t);
    talk_ask(&t, method, target, headers, body, strlen(body));
    int status = talk_head(&t);
    talk_body(&t, out);
    talk_close(&t);
    return status;
}

#define JSON_TYPE   "Content-Type: application/json\r\n"
#define STREAM_TYPE "Content-Type: application/connect+json\r\n"

/* Expects a unary answer whose body contains text. */
static inline void expect_rpc(const char *method, const char *headers,
                              const char *body, int status, const char *text)
{
    struct buf out = {0};
    char target[128], all[1024];
    snprintf(target, sizeof(target), "/process.Process/%s", method);
    snprintf(all, sizeof(all), JSON_TYPE "%s", headers);
    int got = ask("POST", target, all, body, &out);
    if (got != status || !strstr(out.data ? out.data : "", text))
        fail_msg("%s: %d %s, wanted %d with %s", method, got,
                 out.data ? out.data : "", status, text);
    buf_fini(&out);
}

static inline void expect_http(const char *method, const char *target,
                               const char *headers, const char *body,
                               int status, const char *text)
{
    struct buf out = {0};
    int got = ask(method, target, headers, body, &out);
    if (got != status || !strstr(out.data ? out.data : "", text))
        fail_msg("%s %s: %d %s, wanted %d with %s", method, target, got,
                 out.data ? out.data : "", status, text);
    buf_fini(&out);
}

/* ---- streams of events --------------------------------------------------- */

struct events {
    struct talk talk;
    struct connect_reader reader;
    struct buf out, err, tty; /* decoded output */
    long pid;
    char status[64], error[512], code[64], end_error[64]; /* what came */
    int exit_code;
    bool ended, exited, finished;
    int pings;
};

static inline void events_open(struct events *s, const char *method,
                               const char *headers, const char *json)
{
    struct buf b = {0};
    char target[128], all[1024];
    memset(s, 0, sizeof(*s));
    talk_open(&s->talk);
    connect_reader_init(&s->reader, CONNECT_MAX);
    snprintf(target, sizeof(target), "/process.Process/%s", method);
    snprintf(all, sizeof(all), STREAM_TYPE "%s", headers);
    connect_put(&b, 0, json, strlen(json));
    talk_ask(&s->talk, "POST", target, all, b.data, b.len);
    buf_fini(&b);
}

static inline void events_close(struct events *s)
{
    talk_close(&s->talk);
    connect_reader_fini(&s->reader);
    buf_fini(&s->out);
    buf_fini(&s->err);
    buf_fini(&s->tty);
}

static inline void take_text(char *dst, size_t cap, const json_t *v)
{
    if (json_is_string(v))
        snprintf(dst, cap, "%s", json_string_value(v));
}

static inline void take_bytes(struct buf *b, const json_t *v)
{
    if (json_is_string(v))
        assert_int_equal(
            base64_decode(b, json_string_value(v), json_string_length(v)), 0);
}

static inline void take_event(struct events *s, const json_t *m)
{
    const json_t *ev = json_object_get(m, "event");
    const json_t *end = json_object_get(ev, "end");
    const json_t *data = json_object_get(ev, "data");
    const json_t *start = json_object_get(ev, "start");
    if (start)
        s->pid = (long)json_integer_value(json_object_get(start, "pid"));
    s->pings += json_object_get(ev, "keepalive") != NULL;
    take_bytes(&s->out, json_object_get(data, "stdout"));
    take_bytes(&s->err, json_object_get(data, "stderr"));
    take_bytes(&s->tty, json_object_get(data, "pty"));
    if (!end)
        return;
    s->ended = true;
    s->exited = json_is_true(json_object_get(end, "exited"));
    s->exit_code = (int)json_integer_value(json_object_get(end, "exitCode"));
    take_text(s->status, sizeof(s->status), json_object_get(end, "status"));
    take_text(s->end_error, sizeof(s->end_error),
              json_object_get(end, "error"));
}

/* Reads until a message has come; false: the stream has ended. */
static inline bool events_next(struct events *s)
{
    unsigned flags;
    const char *p;
    size_t n;
    int r;
    while ((r = connect_reader_next(&s->reader, &flags, &p, &n, &rig.e)) == 0) {
        enum http1_event ev = talk_next(&s->talk, &p, &n);
        if (ev == HTTP1_HEAD)
            assert_int_equal(http1_head(s->talk.parser)->status, 200);
        else if (ev == HTTP1_BODY)
            connect_reader_feed(&s->reader, p, n);
        else
            return false;
    }
    assert_int_equal(r, 1);
    json_t *m = json_parse(p, n, &rig.e);
    assert_non_null(m);
    if (flags & CONNECT_END) {
        const json_t *e = json_object_get(m, "error");
        s->finished = true;
        take_text(s->code, sizeof(s->code), json_object_get(e, "code"));
        take_text(s->error, sizeof(s->error), json_object_get(e, "message"));
    } else {
        take_event(s, m);
    }
    json_decref(m);
    return true;
}

static inline void events_all(struct events *s)
{
    while (events_next(s))
        ;
}

/* A Start request of sh -c script, "more" inserted behind the process. */
static inline void start_json(struct buf *b, const char *script,
                              const char *more)
{
    buf_clear(b);
    buf_puts(b, "{\"process\":{\"cmd\":\"/bin/sh\",\"args\":[\"-c\",");
    json_write_string(b, script, strlen(script));
    buf_printf(b, "]}%s}", more);
}

static inline void start(struct events *s, const char *headers,
                         const char *script, const char *more)
{
    struct buf b = {0};
    start_json(&b, script, more);
    events_open(s, "Start", headers, b.data);
    buf_fini(&b);
}

/* As start, and waits for the start event. */
static inline void started(struct events *s, const char *headers,
                           const char *script, const char *more)
{
    start(s, headers, script, more);
    while (!s->pid)
        if (!events_next(s) || s->finished)
            fail_msg("not started: %s", s->error);
}

#define NO_INPUT ",\"stdin\":false"

static inline int group_start(void **state)
{
    (void)state;
    rig_start("60000");
    return 0;
}

static inline int group_stop(void **state)
{
    (void)state;
    rig_stop();
    return 0;
}

#endif
