/* multipart/form-data. See multipart.h. The delimiter begins with CR and holds
 * no other, so a mismatch never has to be looked at twice. */
#include "multipart.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "http1.h"

#include <stdlib.h>
#include <string.h>

enum { BOUNDARY_MAX = 70, HEAD_MAX = 16 * 1024, PARAM_MAX = 16 };

enum place {
    PREAMBLE, /* before the first delimiter */
    BODY,
    TAIL,    /* behind a delimiter: "--", padding or the end of the line */
    CLOSING, /* one '-' behind a delimiter */
    PADDING, /* blanks behind a delimiter */
    NEWLINE, /* CR seen behind a delimiter */
    HEAD,
    EPILOGUE,
};

struct multipart {
    const struct multipart_ops *ops;
    void *arg;
    char delimiter[BOUNDARY_MAX + 5]; /* CR LF - - boundary */
    size_t length, matched;
    size_t phantom; /* of matched: CR LF taken for granted, never content */
    enum place place, before; /* before: PREAMBLE or BODY, when in TAIL */
    struct buf head;
    bool failed;
};

/* ---- parameters: type; a=b; c="d \" e"; f*=utf-8''g ---------------------- */

struct param {
    char *name;
    struct buf value;
};

struct params {
    struct param v[PARAM_MAX];
    int n;
};

static void params_free(struct params *ps)
{
    for (int i = 0; i < ps->n; i++) {
        free(ps->v[i].name);
        buf_fini(&ps->v[i].value);
    }
    ps->n = 0;
}

static const char *params_get(const struct params *ps, const char *name)
{
    for (int i = 0; i < ps->n; i++)
        if (strcmp(ps->v[i].name, name) == 0)
            return ps->v[i].value.data ? ps->v[i].value.data : "";
    return NULL;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

static bool is_token(char c)
{
    return c > 0x20 && c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c);
}

/* A backslash quotes only what needs it: programs that do not escape send
 * names like C:\dir as they are. */
static const char *quoted(const char *p, struct buf *out)
{
    for (p++; *p && *p != '"'; p++) {
        if (*p == '\\' && p[1] && strchr("()<>@,;:\\\"/[]?=", p[1]))
            p++;
        buf_append(out, p, 1);
    }
    return *p == '"' ? p + 1 : NULL;
}

/* Raw bytes of other alphabets are taken too: curl and browsers send them. */
static const char *plain(const char *p, struct buf *out)
{
    const char *start = p;
    while (is_token(*p) || (unsigned char)*p >= 0x80)
        p++;
    buf_append(out, start, (size_t)(p - start));
    return p > start ? p : NULL;
}

/* One parameter at p (behind its ';'); where it ends, or NULL. */
static const char *one_param(struct params *ps, const char *p)
{
    const char *start = p;
    while (is_token(*p))
        p++;
    const char *end = p;
    p = skip_blanks(p);
    if (end == start || *p != '=' || ps->n == PARAM_MAX)
        return NULL;
    struct param *x = &ps->v[ps->n++];
    x->name = mem_strndup(start, (size_t)(end - start));
    buf_init(&x->value);
    for (char *c = x->name; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    p = skip_blanks(p + 1);
    p = *p == '"' ? quoted(p, &x->value) : plain(p, &x->value);
    for (int i = 0; p && i < ps->n - 1; i++)
        if (strcmp(ps->v[i].name, x->name) == 0)
            return NULL; /* two of one name: which one would be meant? */
    return p;
}

/* 0 and the parameters, or -1; `type` must be what stands before them. */
static int parse_params(const char *p, const char *type, struct params *ps)
{
    ps->n = 0;
    p = skip_blanks(p);
    size_t n = strcspn(p, "; \t");
    char *given = mem_strndup(p, n);
    bool same = str_ieq(given, type);
    free(given);
    if (!same)
        return -1;
    p = skip_blanks(p + n);
    while (*p == ';') {
        p = skip_blanks(p + 1);
        if (!*p)
            return 0;
        p = one_param(ps, p);
        if (!p)
            return -1;
        p = skip_blanks(p);
    }
    return *p ? -1 : 0;
}

/* RFC 2231: charset'language'percent-encoded. 1 decoded, 0 a charset that is
 * not ours (the plain parameter then stands), -1 broken. */
static int extended(const char *value, struct buf *out)
{
    const char *one = strchr(value, '\'');
    const char *two = one ? strchr(one + 1, '\'') : NULL;
    if (!two)
        return -1;
    char *charset = mem_strndup(value, (size_t)(one - value));
    bool known = str_ieq(charset, "utf-8") || str_ieq(charset, "us-ascii");
    free(charset);
    if (!known)
        return 0;
    buf_clear(out);
    return http1_unescape(out, two + 1, strlen(two + 1), false) < 0 ? -1 : 1;
}

/* ---- the head of a part -------------------------------------------------- */

static int fail(struct multipart *m, struct err *e, const char *what)
{
    m->failed = true;
    return err_set(e, "protocol", "multipart: %s", what);
}

static int begin_part(struct multipart *m, const char *disposition,
                      struct err *e)
{
    struct params ps = {.n = 0};
    struct buf file;
    const char *name, *filename, *star;
    int r = 0;
    buf_init(&file);
    buf_puts(&file, "");
    if (disposition && parse_params(disposition, "form-data", &ps) < 0)
        r = fail(m, e,
                 "Content-Disposition of a part is not 'form-data; "
                 "name=\"...\"' with well-formed parameters");
    name = params_get(&ps, "name");
    filename = params_get(&ps, "filename");
    star = params_get(&ps, "filename*");
    int ext = r == 0 && star ? extended(star, &file) : 0;
    if (ext < 0)
        r = fail(m, e, "filename* is not charset'language'%-encoded text");
    if (ext > 0)
        filename = file.data ? file.data : "";
    if (ext > 0 && strlen(filename) != file.len)
        r = fail(m, e, "a file name holds a NUL byte");
    if (r == 0 && m->ops->part(m->arg, name ? name : "", filename, e) < 0) {
        m->failed = true;
        r = -1;
    }
    params_free(&ps);
    buf_fini(&file);
    return r;
}

/* A header line of the part; `value` behind the colon. */
static int one_header(struct multipart *m, char *line, char **disposition,
                      struct err *e)
{
    char *colon = strchr(line, ':');
    if (!colon || colon == line)
        return fail(m, e, "a header line of a part has no name and colon");
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    size_t n = strlen(value);
    while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
        value[--n] = '\0';
    if (str_ieq(line, "Content-Disposition")) {
        if (*disposition)
            return fail(m, e, "a part has two Content-Disposition headers");
        *disposition = value;
    } else if (str_ieq(line, "Content-Transfer-Encoding") &&
               !str_ieq(value, "binary") && !str_ieq(value, "8bit") &&
               !str_ieq(value, "7bit")) {
        return fail(m, e,
                    "Content-Transfer-Encoding of a part must be binary, 8bit "
                    "or 7bit (RFC 7578, 4.7)");
    }
    return 0;
}

/* Splits the head, which ends in an empty line, into unfolded header lines. */
static int parse_head(struct multipart *m, struct err *e)
{
    char *p = m->head.data + 2, *disposition = NULL;
    if (memchr(m->head.data, '\0', m->head.len))
        return fail(m, e, "a header of a part holds a NUL byte");
    while (strncmp(p, "\r\n", 2) != 0) {
        char *end = strstr(p, "\r\n");
        while (end[2] == ' ' || end[2] == '\t') { /* folded: one line */
            end[0] = end[1] = ' ';
            end = strstr(end, "\r\n");
        }
        *end = '\0';
        if (strpbrk(p, "\r\n"))
            return fail(m, e, "a header of a part holds a bare CR or LF");
        if (one_header(m, p, &disposition, e) < 0)
            return -1;
        p = end + 2;
    }
    return begin_part(m, disposition, e);
}

/* ---- the bytes ----------------------------------------------------------- */

static int emit(struct multipart *m, const char *p, size_t n, struct err *e)
{
    if (n == 0 || m->before != BODY)
        return 0;
    if (m->ops->data(m->arg, p, n, e) < 0) {
        m->failed = true;
        return -1;
    }
    return 0;
}

/* The delimiter turned out to be content, with `more` behind it. */
static int not_a_delimiter(struct multipart *m, const char *more, size_t n,
                           struct err *e)
{
    size_t skip = m->phantom;
    m->place = m->before;
    m->phantom = 0;
    if (emit(m, m->delimiter + skip, m->length - skip, e) < 0)
        return -1;
    return emit(m, more, n, e);
}

/* Content up to the next delimiter. Returns the bytes used, -1 on failure. */
static long take_content(struct multipart *m, const char *p, size_t n,
                         struct err *e)
{
    if (m->matched == 0) {
        const char *cr = memchr(p, '\r', n);
        size_t content = cr ? (size_t)(cr - p) : n;
        m->matched = cr != NULL;
        if (emit(m, p, content, e) < 0)
            return -1;
        return (long)(content + m->matched);
    }
    size_t used = 0;
    while (used < n && m->matched < m->length &&
           p[used] == m->delimiter[m->matched]) {
        used++;
        m->matched++;
    }
    if (m->matched == m->length) {
        m->matched = 0;
        m->place = TAIL;
    } else if (used < n) {
        size_t skip = m->phantom, held = m->matched - skip;
        m->matched = m->phantom = 0;
        if (emit(m, m->delimiter + skip, held, e) < 0)
            return -1;
    }
    return (long)used;
}

static int end_part(struct multipart *m, struct err *e)
{
    if (m->before == BODY && m->ops->end(m->arg, e) < 0) {
        m->failed = true;
        return -1;
    }
    m->before = PREAMBLE;
    return 0;
}

/* One byte behind a delimiter. Returns 1 used, 0 to be looked at again, -1. */
static int take_tail(struct multipart *m, char c, struct err *e)
{
    switch (m->place) {
    case TAIL:
        if (c == '-') {
            m->place = CLOSING;
            return 1;
        }
        if (c != ' ' && c != '\t' && c != '\r')
            return not_a_delimiter(m, NULL, 0, e);
        m->place = c == '\r' ? NEWLINE : PADDING;
        return end_part(m, e) < 0 ? -1 : 1;
    case CLOSING:
        if (c != '-')
            return not_a_delimiter(m, "-", 1, e);
        m->place = EPILOGUE;
        return end_part(m, e) < 0 ? -1 : 1;
    case PADDING:
        if (c == '\r')
            m->place = NEWLINE;
        else if (c != ' ' && c != '\t')
            return fail(m, e, "text behind a boundary on its line");
        return 1;
    default:
        if (c != '\n')
            return fail(m, e, "CR without LF behind a boundary");
        m->place = HEAD;
        buf_clear(&m->head);
        /* the line's end counts: a part may have no header at all */
        buf_puts(&m->head, "\r\n");
        return 1;
    }
}

static int take_head(struct multipart *m, char c, struct err *e)
{
    buf_append(&m->head, &c, 1);
    if (m->head.len > HEAD_MAX)
        return fail(m, e, "the headers of a part exceed 16 KiB");
    if (c != '\n' || m->head.len < 4 ||
        memcmp(m->head.data + m->head.len - 4, "\r\n\r\n", 4) != 0)
        return 1;
    if (parse_head(m, e) < 0)
        return -1;
    m->place = m->before = BODY;
    /* an empty part may have no line end of its own */
    m->matched = m->phantom = 2;
    return 1;
}

int multipart_feed(struct multipart *m, const char *p, size_t n, struct err *e)
{
    if (m->failed)
        return fail(m, e, "fed after a failure");
    while (n > 0) {
        long used;
        if (m->place == EPILOGUE)
            return 0;
        if (m->place == PREAMBLE || m->place == BODY)
            used = take_content(m, p, n, e);
        else if (m->place == HEAD)
            used = take_head(m, *p, e);
        else
            used = take_tail(m, *p, e);
        if (used < 0)
            return -1;
        p += used;
        n -= (size_t)used;
    }
    return 0;
}

int multipart_finish(struct multipart *m, struct err *e)
{
    if (m->failed)
        return fail(m, e, "ended after a failure");
    if (m->place != EPILOGUE)
        return fail(m, e, "the body ends before its closing boundary");
    return 0;
}

/* ---- making -------------------------------------------------------------- */

static bool boundary_ok(const char *b)
{
    size_t n = strlen(b);
    if (n == 0 || n > BOUNDARY_MAX || b[n - 1] == ' ')
        return false;
    for (; *b; b++)
        if (*b < ' ' || *b > '~')
            return false;
    return true;
}

struct multipart *multipart_new(const char *content_type,
                                const struct multipart_ops *ops, void *arg,
                                struct err *e)
{
    struct params ps = {.n = 0};
    struct multipart *m = NULL;
    const char *boundary = NULL;
    if (content_type &&
        parse_params(content_type, "multipart/form-data", &ps) == 0)
        boundary = params_get(&ps, "boundary");
    if (boundary && boundary_ok(boundary)) {
        m = mem_alloc(sizeof(*m));
        m->ops = ops;
        m->arg = arg;
        buf_init(&m->head);
        m->length = 4 + strlen(boundary);
        memcpy(m->delimiter, "\r\n--", 4);
        memcpy(m->delimiter + 4, boundary, strlen(boundary));
        /* the first delimiter needs no line before it */
        m->matched = m->phantom = 2;
        m->place = m->before = PREAMBLE;
    } else {
        err_set(e, "protocol",
                "content type '%.200s' is not multipart/form-data with a "
                "boundary of 1 to 70 printable characters",
                content_type ? content_type : "");
    }
    params_free(&ps);
    return m;
}

void multipart_free(struct multipart *m)
{
    if (!m)
        return;
    buf_fini(&m->head);
    free(m);
}
