/* Metadata of an upload. See metadata.h. */
#include "metadata.h"
#include "base/str.h"
#include "entry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/xattr.h>

enum {
    PREFIX = sizeof("X-Metadata-") - 1,
    KEY_MAX = 246, /* an attribute's name has 255 bytes */
    TOTAL_MAX = 4096,
    EACH = 9, /* of "user.e2b." */
};

static int check_text(const char *what, const char *text, struct err *e)
{
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            return err_set(e, "invalid_argument",
                           "invalid metadata: %s '%.100s' holds bytes that are "
                           "not printable ASCII",
                           what, text);
    return 0;
}

static int add(json_t *o, const struct http1_header *h, size_t *total,
               struct err *e)
{
    char key[KEY_MAX + 1];
    const char *given = h->name + PREFIX;
    if (!given[0])
        return err_set(e, "invalid_argument", "invalid metadata: empty key");
    if (check_text("key", given, e) < 0 || check_text("value", h->value, e) < 0)
        return -1;
    if (str_fmt(key, sizeof(key), "%s", given) < 0)
        return err_set(e, "invalid_argument",
                       "invalid metadata: key '%.60s...' is longer than %d "
                       "bytes",
                       given, KEY_MAX);
    for (char *p = key; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    if (json_object_get(o, key))
        return 0;
    json_object_set_new_nocheck(o, key, json_string_nocheck(h->value));
    *total += EACH + strlen(key) + strlen(h->value);
    if (*total > TOTAL_MAX)
        return err_set(e, "invalid_argument",
                       "invalid metadata: keys and values together (each pair "
                       "with 9 bytes more) exceed %d bytes",
                       TOTAL_MAX);
    return 0;
}

json_t *metadata_read(const struct http1_head *h, struct err *e)
{
    json_t *o = json_object();
    size_t total = 0;
    for (int i = 0; i < h->nheaders; i++) {
        if (strncasecmp(h->headers[i].name, "X-Metadata-", PREFIX) != 0)
            continue;
        if (add(o, &h->headers[i], &total, e) < 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

static int forget_others(int fd, const json_t *metadata)
{
    char list[64 * 1024]; /* XATTR_LIST_MAX */
    ssize_t n = flistxattr(fd, list, sizeof(list));
    for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1)
        if (str_starts(p, ENTRY_XATTR) &&
            !json_object_get(metadata, p + sizeof(ENTRY_XATTR) - 1) &&
            fremovexattr(fd, p) < 0 && errno != ENODATA)
            return -1;
    return n < 0 && errno != ENOTSUP ? -1 : 0;
}

int metadata_store(int fd, const json_t *metadata)
{
    const char *key;
    json_t *value;
    char name[KEY_MAX + sizeof(ENTRY_XATTR)];
    if (forget_others(fd, metadata) < 0)
        return -1;
    json_object_foreach((json_t *)metadata, key, value)
    {
        snprintf(name, sizeof(name), ENTRY_XATTR "%s", key);
        if (fsetxattr(fd, name, json_string_value(value),
                      json_string_length(value), 0) == 0)
            continue;
        return errno == ENOTSUP ? 0 : -1;
    }
    return 0;
}
