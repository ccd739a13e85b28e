/* The engine's verbs. See control.h.
 *
 * /init {envVars, accessToken, defaultUser, defaultWorkdir, timestamp} answers
 * 204. A token that is set must be shown, in X-Access-Token or as accessToken.
 * /_engine/deadline {"deadline_ms_from_now": N | null} answers 204; null: no
 * deadline. */
#include "control.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BODY_MAX = 4 * 1024 * 1024, LATE_MS = 5000 };

#define DEADLINE_MAX_MS (10ull * 366 * 86400 * 1000)

struct control {
    struct envd *envd;
    uint64_t grace, due, spoken; /* loop time; due with the grace */
    struct loop_timer *timer;
    long long applied[2]; /* timestamp of the last /init: s, ns */
};

/* ---- the dead-man deadline ----------------------------------------------- */

static void arm(struct control *c, uint64_t due);

/* A sandbox that was frozen meets its deadline late, before the engine that
 * thawed it can speak: it gets another grace. */
static void on_due(void *arg)
{
    struct control *c = arg;
    uint64_t now = loop_now(c->envd->loop);
    if (now > c->due + LATE_MS) {
        arm(c, now + c->grace);
    } else if (c->spoken && c->spoken + c->grace > now) {
        arm(c, c->spoken + c->grace);
    } else {
        log_line(LOG_WARN, "envd", "deadline passed and no engine: ending");
        loop_stop(c->envd->loop);
    }
}

static void arm(struct control *c, uint64_t due)
{
    uint64_t now = loop_now(c->envd->loop);
    c->due = due;
    loop_timer_stop(c->timer);
    loop_after(c->envd->loop, due > now ? due - now : 0, on_due, c, &c->timer);
}

struct control *control_new(struct envd *v, uint64_t first_ms,
                            uint64_t grace_ms)
{
    struct control *c = mem_alloc(sizeof(*c));
    c->envd = v;
    c->grace = grace_ms;
    if (first_ms > 0)
        arm(c, loop_now(v->loop) + first_ms + grace_ms);
    return c;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    loop_timer_stop(c->timer);
    free(c);
}

/* ---- small JSON bodies --------------------------------------------------- */

struct ask {
    struct envd *envd;
    struct httpd_req *req;
    struct buf body;
    void (*fn)(struct ask *a, const json_t *msg);
    bool over;
};

static void reply(struct ask *a, int status, const char *text)
{
    a->over = true;
    if (status != 204) {
        httpd_error(a->req, status, text);
        return;
    }
    httpd_begin(a->req, 204, 0);
    httpd_header(a->req, "Cache-Control", "no-store");
    httpd_header(a->req, "X-Envd-Version", ENVD_VERSION);
    httpd_end(a->req);
}

static void ask_body(void *arg, const char *p, size_t n)
{
    struct ask *a = arg;
    struct err e = {0};
    if (a->over)
        return;
    if (n > 0 && a->body.len + n > BODY_MAX) {
        reply(a, 413, "the body is over the limit of 4 MiB");
        return;
    }
    if (n > 0) {
        buf_append(&a->body, p, n);
        return;
    }
    json_t *msg =
        a->body.len ? json_parse(a->body.data, a->body.len, &e) : json_object();
    if (json_is_object(msg))
        a->fn(a, msg);
    else
        reply(a, 400, msg ? "the body is not a JSON object" : e.msg);
    json_decref(msg);
}

static void ask_drain(void *arg)
{
    (void)arg;
}

static void ask_free(void *arg)
{
    struct ask *a = arg;
    if (a->body.data)
        mem_wipe(a->body.data, a->body.len); /* has the token */
    buf_fini(&a->body);
    free(a);
}

static const struct httpd_req_ops ASK = {ask_body, ask_drain, ask_free,
                                         ask_free};

static void take(struct envd *v, struct httpd_req *r,
                 void (*fn)(struct ask *a, const json_t *msg))
{
    struct ask *a = mem_alloc(sizeof(*a));
    *a = (struct ask){.envd = v, .req = r, .fn = fn};
    httpd_set(r, &ASK, a);
    httpd_read(r, true);
}

/* ---- /_engine/deadline --------------------------------------------------- */

static void on_deadline(struct ask *a, const json_t *msg)
{
    struct control *c = a->envd->control;
    const json_t *ms = json_object_get(msg, "deadline_ms_from_now");
    uint64_t now = loop_now(c->envd->loop);
    bool good = json_is_integer(ms) && json_integer_value(ms) >= 0 &&
                (uint64_t)json_integer_value(ms) <= DEADLINE_MAX_MS;
    if (!good && !json_is_null(ms)) {
        reply(a, 400,
              "deadline_ms_from_now: must be null or milliseconds, 0 to ten "
              "years");
        return;
    }
    c->spoken = now;
    if (good)
        arm(c, now + (uint64_t)json_integer_value(ms) + c->grace);
    else
        loop_timer_stop(c->timer);
    reply(a, 204, NULL);
}

void control_deadline(struct envd *v, struct httpd_req *r)
{
    take(v, r, on_deadline);
}

/* ---- /init --------------------------------------------------------------- */

/* RFC 3339 into seconds and nanoseconds. */
static int parse_time(const char *s, long long out[2])
{
    struct tm tm = {0};
    int used = 0, hours, minutes;
    long nanos = 0;
    if (sscanf(s, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon,
               &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used) != 6 ||
        !used)
        return -1;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    s += used;
    if (*s == '.') {
        long unit = 100000000;
        for (s++; *s >= '0' && *s <= '9'; s++, unit /= 10)
            nanos += (*s - '0') * unit;
    }
    out[0] = (long long)timegm(&tm);
    out[1] = nanos;
    if ((*s == 'Z' || *s == 'z') && !s[1])
        return 0;
    if ((*s != '+' && *s != '-') ||
        sscanf(s + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || s[1 + used])
        return -1;
    long long shift = hours * 3600LL + minutes * 60LL;
    out[0] += *s == '+' ? -shift : shift;
    return 0;
}

/* An optional string without NUL. -1: something else. */
static int text(const json_t *msg, const char *key, const char **out)
{
    const json_t *v = json_object_get(msg, key);
    *out = json_string_value(v);
    if (!v || json_is_null(v))
        return 0;
    return *out && strlen(*out) == json_string_length(v) ? 0 : -1;
}

struct init {
    const char *token, *user, *workdir, *time;
    const json_t *env;
};

/* NULL, or what is wrong. */
static const char *read_init(const json_t *msg, struct init *in)
{
    const char *key;
    json_t *value;
    if (text(msg, "accessToken", &in->token) < 0)
        return "accessToken: must be a string";
    if (text(msg, "defaultUser", &in->user) < 0)
        return "defaultUser: must be a string";
    if (text(msg, "defaultWorkdir", &in->workdir) < 0)
        return "defaultWorkdir: must be a string";
    if (text(msg, "timestamp", &in->time) < 0)
        return "timestamp: must be a string";
    in->env = json_object_get(msg, "envVars");
    if (in->env && !json_is_null(in->env) && !json_is_object(in->env))
        return "envVars: must be an object";
    json_object_foreach((json_t *)(size_t)in->env, key, value)
    {
        if (!*key || strchr(key, '=') || !json_is_string(value) ||
            strlen(json_string_value(value)) != json_string_length(value))
            return "envVars: names are not empty and have no '=', values are "
                   "strings without NUL";
    }
    return NULL;
}

static void set_text(char **slot, const char *value)
{
    if (!value)
        return;
    free(*slot);
    *slot = mem_strdup(value);
}

static void set_token(struct envd *v, const char *token)
{
    if (v->token) {
        mem_wipe(v->token, strlen(v->token));
        free(v->token);
    }
    v->token = token && *token ? mem_strdup(token) : NULL;
}

static void apply(struct envd *v, const struct init *in)
{
    set_token(v, in->token);
    if (in->user && *in->user)
        set_text(&v->default_user, in->user);
    if (in->workdir)
        set_text(&v->default_workdir, in->workdir);
    if (json_is_object(in->env)) {
        json_t *env = json_copy((json_t *)(size_t)in->env);
        json_object_update(env, v->fixed_env);
        json_decref(v->env);
        v->env = env;
    }
}

static bool older(const long long a[2], const long long b[2])
{
    return a[0] < b[0] || (a[0] == b[0] && a[1] < b[1]);
}

static void on_init(struct ask *a, const json_t *msg)
{
    struct control *c = a->envd->control;
    const char *shown = http1_get(httpd_head(a->req), "X-Access-Token");
    const char *have = a->envd->token;
    struct init in = {0};
    long long when[2];
    const char *wrong = read_init(msg, &in);
    if (have && !(shown && str_same_secret(shown, have)) &&
        !(in.token && str_same_secret(in.token, have))) {
        reply(a, 401, "access token validation failed");
        return;
    }
    if (!wrong && in.time && parse_time(in.time, when) < 0)
        wrong = "timestamp: must be RFC 3339";
    if (wrong) {
        reply(a, 400, wrong);
        return;
    }
    c->spoken = loop_now(a->envd->loop);
    if (!in.time || !older(when, c->applied))
        apply(a->envd, &in);
    if (in.time && !older(when, c->applied))
        memcpy(c->applied, when, sizeof(when));
    reply(a, 204, NULL);
}

void control_init(struct envd *v, struct httpd_req *r)
{
    take(v, r, on_init);
}
