/* Heads. See httpc_head.h. */
#include "httpc_head.h"
#include "base/str.h"

#include <string.h>
#include <strings.h>

enum { HEAD_MAX = 256 * 1024, NAME_SHOWN = 80 };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void trim(const char **p, size_t *n)
{
    while (*n > 0 && is_blank((*p)[*n - 1]))
        (*n)--;
    while (*n > 0 && is_blank(**p)) {
        (*p)++;
        (*n)--;
    }
}

static void put_field(struct buf *b, const char *p, size_t n)
{
    const char *colon = memchr(p, ':', n);
    if (!colon)
        return;
    size_t nname = (size_t)(colon - p), at = b->len;
    const char *value = colon + 1;
    size_t nvalue = n - nname - 1;
    trim(&p, &nname);
    trim(&value, &nvalue);
    buf_append(b, p, nname);
    buf_append(b, "", 1);
    for (char *s = b->data + at; *s; s++)
        *s = (char)(*s >= 'A' && *s <= 'Z' ? *s + 32 : *s);
    buf_append(b, value, nvalue);
    buf_append(b, "", 1);
}

/* obs-fold: the value of the line before goes on. */
static void continue_field(struct buf *b, const char *p, size_t n)
{
    trim(&p, &n);
    if (b->len == 0)
        return;
    b->data[b->len - 1] = ' ';
    buf_append(b, p, n);
    buf_append(b, "", 1);
}

int httpc_head_line(struct httpc_head *h, const char *p, size_t n,
                    struct err *e)
{
    if (h->fields.len + n > HEAD_MAX)
        return err_set(e, "protocol",
                       "the head of the response is larger than %d KiB",
                       HEAD_MAX / 1024);
    if (n > 5 && strncasecmp(p, "HTTP/", 5) == 0) {
        const char *space = memchr(p, ' ', n);
        uint64_t status = 0;
        buf_clear(&h->fields);
        if (space && space + 4 <= p + n)
            str_u64(space + 1, 3, 999, &status);
        h->status = (int)status;
        return 0;
    }
    bool folded = n > 0 && (*p == ' ' || *p == '\t');
    const char *text = p;
    size_t ntext = n;
    trim(&text, &ntext);
    if (ntext == 0)
        return folded ? 0 : 1;
    if (folded)
        continue_field(&h->fields, p, n);
    else
        put_field(&h->fields, text, ntext);
    return 0;
}

const char *httpc_head_next(const struct httpc_head *h, size_t *pos,
                            const char **value)
{
    if (*pos >= h->fields.len)
        return NULL;
    const char *name = h->fields.data + *pos;
    *value = name + strlen(name) + 1;
    *pos = (size_t)(*value - h->fields.data) + strlen(*value) + 1;
    return name;
}

const char *httpc_head_get(const struct httpc_head *h, const char *name)
{
    const char *value, *n;
    size_t pos = 0;
    while ((n = httpc_head_next(h, &pos, &value)))
        if (strcmp(n, name) == 0)
            return value;
    return NULL;
}

/* ---- requests ------------------------------------------------------------ */

static bool is_token(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c >= '0' && c <= '9');
        if (!alnum && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return n > 0;
}

int httpc_head_check(const char *name, size_t nname, const char *value,
                     size_t nvalue, struct err *e)
{
    int shown = (int)(nname < NAME_SHOWN ? nname : NAME_SHOWN);
    if (!is_token(name, nname))
        return err_set(e, "invalid_argument",
                       "header name '%.*s' has characters that HTTP does not "
                       "allow; use letters, digits and '-'",
                       shown, name);
    if (str_ieq(name, "content-length") || str_ieq(name, "transfer-encoding"))
        return err_set(e, "invalid_argument",
                       "header %s is set by the client itself; give the body, "
                       "or upload with a length",
                       name);
    if (memchr(value, '\r', nvalue) || memchr(value, '\n', nvalue) ||
        memchr(value, '\0', nvalue))
        return err_set(e, "invalid_argument",
                       "the value of header %.*s has a line end or a NUL; "
                       "take it out",
                       shown, name);
    return 0;
}

int httpc_head_check_method(const char *method, struct err *e)
{
    size_t n = strlen(method);
    if (!is_token(method, n) || n > 32)
        return err_set(e, "invalid_argument",
                       "'%.*s' is no HTTP method; use GET, POST, ...",
                       NAME_SHOWN, method);
    if (strcmp(method, "CONNECT") == 0)
        return err_set(e, "invalid_argument",
                       "method CONNECT opens tunnels, which this client does "
                       "not; use the option proxy");
    return 0;
}

bool httpc_head_harmless(const char *line)
{
    static const char *const names[] = {
        "accept:",     "accept-language:", "accept-encoding:", "content-type:",
        "user-agent:", "range:",           "expect:",          NULL};
    for (int i = 0; names[i]; i++)
        if (strncasecmp(line, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

void httpc_head_safe_url(char *dst, size_t cap, const char *url)
{
    size_t n = strcspn(url, "?#");
    const char *start = strstr(url, "://");
    size_t scheme = start && start < url + n ? (size_t)(start + 3 - url) : 0;
    const char *at = memrchr(url, '@', n);
    size_t from = at ? (size_t)(at + 1 - url) : scheme;
    if (from < scheme)
        from = scheme;
    str_fmt(dst, cap, "%.*s%.*s", (int)scheme, url, (int)(n - from),
            url + from);
    for (char *s = dst; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 127)
            *s = '?';
}
