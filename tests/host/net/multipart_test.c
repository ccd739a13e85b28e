/* multipart/form-data: what comes out must not depend on where the input is
 * cut. */
#include "net/core/multipart.h"
#include "base/buf.h"
#include "ctest.h"

#include <stdio.h>
#include <string.h>

static int on_part(void *arg, const char *name, const char *filename,
                   struct err *e)
{
    if (strcmp(name, "stop") == 0)
        return err_set(e, "internal", "stopped");
    buf_printf(arg, "<%s|%s>", name, filename ? filename : "(none)");
    return 0;
}

static int on_data(void *arg, const char *p, size_t n, struct err *e)
{
    (void)e;
    buf_append(arg, p, n);
    return 0;
}

static int on_end(void *arg, struct err *e)
{
    (void)e;
    buf_puts(arg, "</>");
    return 0;
}

static const struct multipart_ops OPS = {on_part, on_data, on_end};

/* Feeds in pieces of n bytes; "!" and the message when it fails. */
static void read_all(const char *type, const char *p, size_t len, size_t n,
                     struct buf *out)
{
    struct err e;
    struct multipart *m = multipart_new(type, &OPS, out, &e);
    buf_clear(out);
    buf_puts(out, "");
    int r = m ? 0 : -1;
    for (size_t i = 0; r == 0 && i < len; i += n)
        r = multipart_feed(m, p + i, len - i < n ? len - i : n, &e);
    if (r == 0)
        r = multipart_finish(m, &e);
    if (r < 0) {
        buf_clear(out);
        buf_printf(out, "!%s", e.msg);
    }
    multipart_free(m);
}

static void check_bytes(const char *type, const char *p, size_t len,
                        const char *want)
{
    struct buf out;
    buf_init(&out);
    for (size_t n = 1; n <= len + 1; n = n < 40 ? n + 1 : n * 2) {
        read_all(type, p, len, n, &out);
        if (!strcmp(out.data ? out.data : "", want))
            continue;
        fprintf(stderr, "pieces of %zu\n", n);
        assert_string_equal(out.data ? out.data : "", want);
    }
    buf_fini(&out);
}

static void check(const char *text, const char *want)
{
    check_bytes("multipart/form-data; boundary=XX", text, strlen(text), want);
}

#define DISP "Content-Disposition: form-data; "

static void reads_parts(void **state)
{
    (void)state;
    check("--XX\r\n" DISP "name=\"file\"; filename=\"/a/b.txt\"\r\n"
          "Content-Type: text/plain\r\n\r\nhello\r\n--XX\r\n" DISP
          "name=other\r\n\r\nx\r\ny\r\n--XX--\r\n",
          "<file|/a/b.txt>hello</><other|(none)>x\r\ny</>");
    check("preamble\r\nmore --XX\r\n--XX  \t\r\n\r\nbody\r\n--XX--epilogue"
          "\r\n--XX\r\n",
          "<|(none)>body</>");
    check("--XX--", "");
    check("--XX\r\n" DISP "name=a\r\n\r\n\r\n--XX--", "<a|(none)></>");
    check("--XX\r\n" DISP "name=a\r\n\r\n--XX--", "<a|(none)></>");
    check("--XX\r\n" DISP "name=a\r\n\r\n-\r\n--XX--", "<a|(none)>-</>");
    check("--XX\r\n" DISP "name=a\r\n\r\n--X\r\n--XX--", "<a|(none)>--X</>");
}

static void keeps_what_only_looks_like_a_boundary(void **state)
{
    (void)state;
    check("--XX\r\n" DISP "name=a\r\n\r\n\r\n--XXX\r\n--XX-x\r\r\n\r\n-"
          "\r\n--X\r\n--XX--",
          "<a|(none)>\r\n--XXX\r\n--XX-x\r\r\n\r\n-\r\n--X</>");
    check("--XX\r\n" DISP "name=a\r\n\r\n--XXX--XX\r\n--XX--",
          "<a|(none)>--XXX--XX</>");
    check("--XX\r\n" DISP "name=a\r\n\r\n--XX-b\r\n--XX--",
          "<a|(none)>--XX-b</>");
}

static void reads_file_names(void **state)
{
    (void)state;
#define NAME(param, want)                                                      \
    check("--XX\r\n" DISP "name=f; " param "\r\n\r\n\r\n--XX--",               \
          "<f|" want "></>")
    NAME("filename=plain.txt", "plain.txt");
    NAME("filename=\"a \\\"b\\\" \\\\ c\"", "a \"b\" \\ c");
    NAME("filename=\"C:\\dir\\f\"", "C:\\dir\\f");
    NAME("filename=\"\xc3\xa9;=\"", "\xc3\xa9;=");
    NAME("filename=\xc3\xa9", "\xc3\xa9");
    NAME("filename=\"old\"; filename*=UTF-8''%e2%82%ac%20x", "\xe2\x82\xac x");
    NAME("filename*=utf-8'en'%2Fa%0Ab; filename=old", "/a\nb");
    NAME("filename=old; filename*=latin9''%a4", "old");
    NAME("FileName = \"x\" ;", "x");
    NAME("filename=\"\"", "");
    NAME("filename=\"100%25\"", "100%25");
    check("--XX\r\ncontent-disposition:\r\n form-data;\r\n\tname=\"f\"\r\n\r\n"
          "\r\n--XX--",
          "<f|(none)></>");
}

static void refuses_what_is_broken(void **state)
{
    (void)state;
#define BAD(text, want) check(text, "!multipart: " want)
#define EARLY           "the body ends before its closing boundary"
    BAD("", EARLY);
    BAD("no boundary", EARLY);
    BAD("--XX\r\n" DISP "name=a\r\n\r\nbody", EARLY);
    BAD("--XX\r\n" DISP "name=a\r\n\r\nbody\r\n--XX", EARLY);
    BAD("--XX\r\n" DISP "name=a\r\n\r\nbody\r\n--XX-", EARLY);
    BAD("--XX\r\nbroken\r\n\r\n\r\n--XX--",
        "a header line of a part has no name and colon");
    BAD("--XX x\r\n\r\n\r\n--XX--", "text behind a boundary on its line");
    BAD("--XX\rx", "CR without LF behind a boundary");
    BAD("--XX\r\n" DISP "name=a\n\r\n\r\n\r\n--XX--",
        "a header of a part holds a bare CR or LF");
    BAD("--XX\r\n" DISP "name=a\r\n" DISP "name=b\r\n\r\n\r\n--XX--",
        "a part has two Content-Disposition headers");
#define DISPOSITION                                                            \
    "Content-Disposition of a part is not 'form-data; name=\"...\"' with "     \
    "well-formed parameters"
    BAD("--XX\r\n" DISP "name=\"a\r\n\r\n\r\n--XX--", DISPOSITION);
    BAD("--XX\r\n" DISP "name\r\n\r\n\r\n--XX--", DISPOSITION);
    BAD("--XX\r\n" DISP "name=\r\n\r\n\r\n--XX--", DISPOSITION);
    BAD("--XX\r\n" DISP "name=a; name=b\r\n\r\n\r\n--XX--", DISPOSITION);
    BAD("--XX\r\nContent-Disposition: attachment; name=a\r\n\r\n\r\n--XX--",
        DISPOSITION);
    BAD("--XX\r\n" DISP "name=a; filename*=x\r\n\r\n\r\n--XX--",
        "filename* is not charset'language'%-encoded text");
    BAD("--XX\r\n" DISP "name=a; filename*=utf-8''%zz\r\n\r\n\r\n--XX--",
        "filename* is not charset'language'%-encoded text");
    BAD("--XX\r\n" DISP "name=a; filename*=utf-8''a%00b\r\n\r\n\r\n--XX--",
        "a file name holds a NUL byte");
    BAD("--XX\r\n" DISP "name=a\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        "\r\n--XX--",
        "Content-Transfer-Encoding of a part must be binary, 8bit or 7bit "
        "(RFC 7578, 4.7)");
    check("--XX\r\n" DISP "name=stop\r\n\r\n\r\n--XX--", "!stopped");
    static const char nul[] = "--XX\r\n" DISP "name=\"a\0b\"\r\n\r\n\r\n--XX--";
    check_bytes("multipart/form-data; boundary=XX", nul, sizeof(nul) - 1,
                "!multipart: a header of a part holds a NUL byte");
}

static void bounds_heads(void **state)
{
    (void)state;
    static char text[40000];
    struct buf out;
    buf_init(&out);
    memset(text, 'a', sizeof(text));
    memcpy(text, "--XX\r\nX: ", 9);
    read_all("multipart/form-data; boundary=XX", text, sizeof(text), 1000,
             &out);
    assert_string_equal(out.data,
                        "!multipart: the headers of a part exceed 16 KiB");
    buf_fini(&out);
}

static void reads_content_types(void **state)
{
    (void)state;
    static const char body[] = "--a b'()+_,-./:=?\r\n\r\nx\r\n"
                               "--a b'()+_,-./:=?--\r\n";
    check_bytes("Multipart/Form-Data ; charset=utf-8; "
                "BOUNDARY=\"a b'()+_,-./:=?\"",
                body, sizeof(body) - 1, "<|(none)>x</>");
    static const char *const bad[] = {
        "",
        "text/plain",
        "multipart/mixed; boundary=a",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a ",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"a\x01\"",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data boundary=a",
        "multipart/form-data; boundary="
        "1234567890123456789012345678901234567890123456789012345678901234567890"
        "1",
    };
    struct err e;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(multipart_new(bad[i], &OPS, NULL, &e));
    assert_null(multipart_new(NULL, &OPS, NULL, &e));
    assert_string_equal(e.kind, "protocol");
    multipart_free(NULL);
}

/* Every byte value, and each prefix of the delimiter, inside content. */
static void carries_all_bytes(void **state)
{
    (void)state;
    static const char delimiter[] = "\r\n--XX";
    struct buf body, want, out;
    buf_init(&body);
    buf_init(&want);
    buf_init(&out);
    for (int c = 0; c < 256; c++)
        for (size_t k = 0; k < sizeof(delimiter); k++) {
            char byte = (char)c;
            /* what would be a real delimiter */
            if ((k == 6 && strchr(" \t\r-", c)) || (k == 5 && c == 'X'))
                continue;
            buf_append(&want, delimiter, k);
            buf_append(&want, &byte, 1);
        }
    buf_puts(&body, "--XX\r\n" DISP "name=a\r\n\r\n");
    buf_append(&body, want.data, want.len);
    buf_puts(&body, "\r\n--XX--");
    for (size_t n = 1; n < 64; n++) {
        read_all("multipart/form-data; boundary=XX", body.data, body.len, n,
                 &out);
        assert_int_equal(out.len, want.len + 10 + 3);
        assert_memory_equal(out.data + 10, want.data, want.len);
    }
    buf_fini(&body);
    buf_fini(&want);
    buf_fini(&out);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reads_parts),
    cmocka_unit_test(keeps_what_only_looks_like_a_boundary),
    cmocka_unit_test(reads_file_names),
    cmocka_unit_test(refuses_what_is_broken),
    cmocka_unit_test(bounds_heads),
    cmocka_unit_test(reads_content_types),
    cmocka_unit_test(carries_all_bytes),
};
RUN(tests)
