/* DNS for a sandbox, by UDP and TCP: a name that the policy may let through is
 * looked up first, so that one that does not exist is not found; any other
 * gets its address at once, and its connections are refused. */
#include "egress_dns.h"
#include "egress_impl.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_QUESTIONS = 256, /* of one sandbox, by UDP */
    MAX_ASKERS = 64,     /* connections of one sandbox */
    BATCH = 32,
    QUIET_MS = 10000
};

struct egress_asker {
    struct egress_asker *next, **at;
    struct egress_box *box;
    struct stream *s;
    struct buf in;
    struct loop_timer *quiet;
    struct egress_question *open; /* one at a time */
    bool ended;
};

struct egress_question {
    struct egress_question *next, **at;
    struct egress_box *box;
    struct egress_dns dns;
    struct egress_wait wait;
    struct egress_asker *asker; /* NULL: by UDP, from `from` */
    int which;
    struct sockaddr_storage from;
    socklen_t from_len;
};

static void asker_end(struct egress_asker *a);
static void asker_next(struct egress_asker *a);

/* ---- one question ---------------------------------------------------------
 */

static void question_end(struct egress_question *q)
{
    *q->at = q->next;
    if (q->next)
        q->next->at = q->at;
    q->box->nquestions--;
    if (q->asker)
        q->asker->open = NULL;
    egress_wait_cancel(&q->wait);
    free(q);
}

/* Sends the answer and ends the question. */
static void answer(struct egress_question *q, enum egress_dns_code code,
                   const void *addr, size_t len)
{
    unsigned char text[2 + EGRESS_DNS_ANSWER];
    struct egress_asker *a = q->asker;
    size_t n = egress_dns_answer(&q->dns, code, addr, len, text + 2);
    if (!a) {
        (void)sendto(q->box->udp[q->which], text + 2, n,
                     MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&q->from,
                     q->from_len);
        question_end(q);
        return;
    }
    text[0] = (unsigned char)(n >> 8);
    text[1] = (unsigned char)n;
    question_end(q);
    stream_write(a->s, text, n + 2);
    asker_next(a);
}

static void answer_name(struct egress_question *q, const struct egress_name *n)
{
    unsigned char addr[16];
    bool v6 = q->dns.type == EGRESS_DNS_AAAA;
    if (v6)
        egress_names_v6(n, addr);
    else
        egress_names_v4(n, addr);
    bool has = v6 ? egress_v6(q->box->g) && q->box->tcp[1]
                  : q->dns.type == EGRESS_DNS_A;
    answer(q, EGRESS_DNS_OK, has ? addr : NULL, v6 ? 16 : 4);
}

static void on_looked(void *arg, const struct egress_name *n)
{
    struct egress_question *q = arg;
    if (n->known == EGRESS_FOUND)
        answer_name(q, n);
    else
        answer(q,
               n->known == EGRESS_NONE ? EGRESS_DNS_NO_NAME : EGRESS_DNS_FAILED,
               NULL, 0);
}

static void take_question(struct egress_question *q)
{
    char clean[EGRESS_NAME_MAX + 1];
    if (q->dns.type == EGRESS_DNS_PTR ||
        egress_name_clean(q->dns.name, clean) < 0) {
        answer(q, EGRESS_DNS_NO_NAME, NULL, 0);
        return;
    }
    struct egress_name *n = egress_names_get(q->box->names, clean);
    if (egress_policy_name(q->box->policy, clean, 0) == EGRESS_REFUSED) {
        answer_name(q, n);
        return;
    }
    q->wait.fn = on_looked;
    q->wait.arg = q;
    if (egress_names_look(n, &q->wait))
        on_looked(q, n);
}

static struct egress_question *question_new(struct egress_box *b)
{
    struct egress_question *q = mem_alloc(sizeof(*q));
    q->box = b;
    q->at = &b->questions;
    q->next = b->questions;
    if (q->next)
        q->next->at = &q->next;
    b->questions = q;
    b->nquestions++;
    return q;
}

/* -1: no question, nothing has happened; else it is taken over. */
static int ask(struct egress_question *q, const void *p, size_t n)
{
    enum egress_dns_code code;
    int kind = egress_dns_parse(p, n, &q->dns, &code);
    if (kind < 0)
        return -1;
    if (kind > 0)
        answer(q, code, NULL, 0);
    else
        take_question(q);
    return 0;
}

/* ---- by UDP ---------------------------------------------------------------
 */

void egress_ask_udp(struct egress_box *b, int which)
{
    char p[EGRESS_DNS_MAX + 1];
    for (int i = 0; i < BATCH; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(b->udp[which], p, sizeof(p), MSG_DONTWAIT,
                             (struct sockaddr *)&from, &len);
        if (n < 0 && errno != EINTR)
            return;
        if (n <= 0 || b->nquestions >= MAX_QUESTIONS)
            continue;
        struct egress_question *q = question_new(b);
        q->which = which;
        q->from = from;
        q->from_len = len;
        if (ask(q, p, (size_t)n) < 0)
            question_end(q);
    }
}

/* ---- by TCP ---------------------------------------------------------------
 */

static void asker_end(struct egress_asker *a)
{
    if (a->open)
        question_end(a->open);
    *a->at = a->next;
    if (a->next)
        a->next->at = a->at;
    a->box->naskers--;
    loop_timer_stop(a->quiet);
    stream_close(a->s, true);
    buf_fini(&a->in);
    free(a);
}

static void on_quiet(void *arg)
{
    asker_end(arg);
}

/* Takes the next whole message; waits for more when there is none. May end the
 * connection. */
static void asker_next(struct egress_asker *a)
{
    const unsigned char *p = (const unsigned char *)a->in.data;
    size_t have = a->in.len;
    size_t want = have >= 2 ? (size_t)p[0] << 8 | p[1] : 0;
    loop_timer_stop(a->quiet);
    loop_after(egress_loop(a->box->g), QUIET_MS, on_quiet, a, &a->quiet);
    if (have < 2 || have - 2 < want) {
        if (a->ended || want > EGRESS_DNS_MAX)
            asker_end(a);
        else
            stream_read(a->s, true);
        return;
    }
    unsigned char message[EGRESS_DNS_MAX];
    if (want > sizeof(message)) {
        asker_end(a);
        return;
    }
    memcpy(message, p + 2, want);
    buf_consume(&a->in, want + 2);
    stream_read(a->s, false);
    struct egress_question *q = question_new(a->box);
    q->asker = a;
    a->open = q;
    if (ask(q, message, want) < 0)
        asker_end(a);
}

static void on_read(void *arg, const char *p, long n, const struct err *e)
{
    struct egress_asker *a = arg;
    (void)e;
    if (n < 0) {
        asker_end(a);
        return;
    }
    if (n > 0)
        buf_append(&a->in, p, (size_t)n);
    else
        a->ended = true;
    if (!a->open)
        asker_next(a);
}

static void on_fail(void *arg, const struct err *e)
{
    (void)e;
    asker_end(arg);
}

static const struct stream_ops OPS = {on_read, NULL, on_fail};

void egress_ask_tcp(struct egress_box *b, int fd)
{
    struct egress_asker *a =
        b->naskers < MAX_ASKERS ? mem_alloc(sizeof(*a)) : NULL;
    if (a)
        a->s = stream_new(egress_loop(b->g), fd, &OPS, a, NULL);
    if (!a || !a->s) {
        free(a);
        fd_close(&fd);
        return;
    }
    a->box = b;
    a->at = &b->askers;
    a->next = b->askers;
    if (a->next)
        a->next->at = &a->next;
    b->askers = a;
    b->naskers++;
    buf_init(&a->in);
    loop_after(egress_loop(b->g), QUIET_MS, on_quiet, a, &a->quiet);
    stream_read(a->s, true);
}

void egress_ask_end_all(struct egress_box *b)
{
    struct egress_asker *a, *next_a;
    struct egress_question *q, *next_q;
    for (a = b->askers; a; a = next_a) {
        next_a = a->next;
        asker_end(a); /* and its question */
    }
    for (q = b->questions; q; q = next_q) {
        next_q = q->next;
        question_end(q);
    }
}
