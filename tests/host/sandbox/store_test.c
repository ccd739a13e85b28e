/* The engine's memory: values survive reopening, damage and newer schemas are
 * refused with the remedy. */
#include "sandbox/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char path[64];

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/e2b-store-%d.db", (int)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char name[80];
    const char *tails[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof(name), "%s%s", path, tails[i]);
        unlink(name);
    }
    return 0;
}

static struct store *open_store(void)
{
    struct err e = {0};
    struct store *s = store_open(path, &e);
    if (!s)
        fail_msg("%s", e.msg);
    return s;
}

static void put(struct store *s, const char *key, const char *value, size_t n)
{
    struct err e = {0};
    struct store_value args[] = {
        {.type = STORE_TEXT, .p = key, .n = strlen(key)},
        {.type = STORE_TEXT, .p = value, .n = n},
    };
    struct store_rows *r = store_query(
        s, "INSERT OR REPLACE INTO meta VALUES(?1, ?2)", args, 2, &e);
    assert_non_null(r);
    assert_int_equal(store_next(r, &e), 0);
    store_done(r);
    assert_int_equal(store_changes(s), 1);
}

static void test_survives(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s = open_store();
    put(s, "key", "a\0b", 3);
    store_close(s);
    s = open_store();
    struct store_rows *r =
        store_query(s, "SELECT value, 7, 1.5, NULL FROM meta", NULL, 0, &e);
    assert_non_null(r);
    assert_int_equal(store_next(r, &e), 1);
    assert_int_equal(store_columns(r), 4);
    assert_string_equal(store_name(r, 0), "value");
    struct store_value v;
    store_get(r, 0, &v);
    assert_int_equal(v.type, STORE_TEXT);
    assert_int_equal(v.n, 3);
    assert_memory_equal(v.p, "a\0b", 3);
    store_get(r, 1, &v);
    assert_int_equal(v.type, STORE_INT);
    assert_int_equal(v.i, 7);
    store_get(r, 2, &v);
    assert_true(v.type == STORE_REAL && v.d == 1.5);
    store_get(r, 3, &v);
    assert_int_equal(v.type, STORE_NULL);
    assert_int_equal(store_next(r, &e), 0);
    store_done(r);
    store_close(s);
}

static void run(struct store *s, const char *sql)
{
    struct err e = {0};
    struct store_rows *r = store_query(s, sql, NULL, 0, &e);
    if (!r || store_next(r, &e) < 0)
        fail_msg("%s: %s", sql, e.msg);
    store_done(r);
}

static int64_t number(struct store *s, const char *sql)
{
    struct err e = {0};
    struct store_value v = {0};
    struct store_rows *r = store_query(s, sql, NULL, 0, &e);
    assert_non_null(r);
    assert_int_equal(store_next(r, &e), 1);
    store_get(r, 0, &v);
    store_done(r);
    return v.i;
}

/* A state of before sandboxes were taken over gets what is new, and keeps its
 * rows. */
static void test_older(void **state)
{
    (void)state;
    struct store *s = open_store();
    run(s, "DROP TABLE names");
    run(s, "DROP TABLE box_logs");
    run(s, "ALTER TABLE sandboxes DROP COLUMN end_boot");
    run(s, "INSERT INTO sandboxes(id, kind, state, started_at, end_at, doc) "
           "VALUES('i1', 'sandbox', 'running', 1, 2, '{}')");
    run(s, "PRAGMA user_version=1");
    store_close(s);
    s = open_store();
    assert_int_equal(
        number(s, "SELECT count(*) FROM sandboxes WHERE end_boot IS NULL"), 1);
    run(s, "INSERT INTO names VALUES('i1', 3, 4099, 'example.com')");
    run(s, "INSERT OR REPLACE INTO names VALUES('i1', 3, 8195, 'b.test')");
    assert_int_equal(number(s, "SELECT number FROM names"), 8195);
    run(s, "DELETE FROM sandboxes");
    assert_int_equal(number(s, "SELECT count(*) FROM names"), 0);
    store_close(s);
}

static void test_bad_statement(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s = open_store();
    assert_null(store_query(s, "SELECT nonsense FROM nowhere", NULL, 0, &e));
    assert_non_null(strstr(e.msg, "nowhere"));
    assert_null(store_query(s, "SELECT ?1", NULL, 0, &e));
    assert_string_equal(e.kind, "invalid_argument");
    assert_null(store_query(s, "SELECT 1; SELECT 2", NULL, 0, &e));
    struct store_rows *r = store_query(
        s, "INSERT INTO aliases VALUES('a', 'no template')", NULL, 0, &e);
    assert_non_null(r);
    assert_int_equal(store_next(r, &e), -1);
    assert_non_null(strstr(e.msg, "FOREIGN KEY"));
    store_done(r);
    store_close(s);
}

static void test_newer(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s = open_store();
    struct store_rows *r =
        store_query(s, "PRAGMA user_version=99", NULL, 0, &e);
    assert_int_equal(store_next(r, &e), 0);
    store_done(r);
    store_close(s);
    assert_null(store_open(path, &e));
    assert_string_equal(e.kind, "unsupported");
    assert_non_null(strstr(e.msg, "newer e2blua"));
    assert_non_null(strstr(e.msg, path));
}

static void test_damaged(void **state)
{
    (void)state;
    struct err e = {0};
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is not a database at all, ", f);
    fclose(f);
    assert_null(store_open(path, &e));
    assert_non_null(strstr(e.msg, "damaged"));
    assert_non_null(strstr(e.msg, path));
    assert_int_equal(e.errnum, EUCLEAN);
    assert_null(store_open("/nowhere/state.db", &e));
    assert_non_null(strstr(e.msg, "/nowhere/state.db"));
}

/* While one has it, nobody else does. */
static void test_held(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s = open_store();
    put(s, "a", "1", 1);
    time_t began = time(NULL);
    assert_null(store_open(path, &e));
    assert_in_range(time(NULL) - began, 4, 7);
    assert_string_equal(e.kind, "unsupported");
    assert_non_null(strstr(e.msg, "is held by another process for 5 s"));
    assert_non_null(strstr(e.msg, path));
    store_close(s);
    store_close(open_store());
}

static int64_t count(struct store *s, const char *table)
{
    char sql[64];
    struct err e = {0};
    struct store_value v = {0};
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
    struct store_rows *r = store_query(s, sql, NULL, 0, &e);
    assert_int_equal(store_next(r, &e), 1);
    store_get(r, 0, &v);
    store_done(r);
    return v.i;
}

/* Overwrites all pages that hold the text. */
static void spoil(const char *text)
{
    enum { PAGE = 4096 };
    static char page[PAGE];
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    for (long at = 0; fread(page, PAGE, 1, f) == 1; at += PAGE)
        if (memmem(page, PAGE, text, strlen(text))) {
            memset(page, 0x5a, PAGE);
            fseek(f, at, SEEK_SET);
            fwrite(page, PAGE, 1, f);
            fseek(f, at + PAGE, SEEK_SET);
        }
    fclose(f);
}

static void test_rescue(void **state)
{
    (void)state;
    struct err e = {0};
    char aside[80], text[64];
    uint64_t rows = 0;
    struct store *s = open_store();
    run(s, "INSERT INTO templates(id, created_at, updated_at) "
           "VALUES('good', 1, 1)");
    run(s, "INSERT INTO builds(id, template_id, status, cpu_count, memory_mb, "
           "created_at, updated_at) VALUES('b', 'good', 'ready', 1, 1, 1, 1)");
    put(s, "api_key", "secret", 6);
    for (int i = 0; i < 400; i++) {
        snprintf(text, sizeof(text), "%s line %d of the log",
                 i == 200 ? "SPOILT" : "a usual", i);
        char sql[160];
        snprintf(sql, sizeof(sql),
                 "INSERT INTO build_logs(build_id, seq, at, level, message) "
                 "VALUES('b', %d, 1, 'info', '%s')",
                 i, text);
        run(s, sql);
    }
    store_close(s);
    spoil("SPOILT");
    assert_null(store_open(path, &e));
    assert_int_equal(e.errnum, EUCLEAN);
    snprintf(aside, sizeof(aside), "%s.damaged", path);
    s = store_rescue(path, aside, &rows, &e);
    if (!s)
        fail_msg("%s", e.msg);
    assert_int_equal(count(s, "templates"), 1);
    assert_int_equal(count(s, "builds"), 1);
    assert_int_equal(count(s, "meta"), 1);
    assert_in_range(count(s, "build_logs"), 20, 380);
    assert_int_equal(rows, 3 + count(s, "build_logs"));
    store_close(s);
    assert_int_equal(access(aside, F_OK), 0);
    unlink(aside);
    store_close(open_store()); /* the new one is whole */
}

/* Templates that are lost take along what refers to them. */
static void test_rescue_orphans(void **state)
{
    (void)state;
    struct err e = {0};
    char aside[80];
    uint64_t rows = 0;
    struct store *s = open_store();
    run(s, "INSERT INTO templates(id, created_at, updated_at) "
           "VALUES('THE_TEMPLATE', 1, 1)");
    run(s, "PRAGMA foreign_keys=OFF");
    run(s, "INSERT INTO aliases VALUES('name', 'another')");
    put(s, "api_key", "secret", 6);
    store_close(s);
    spoil("THE_TEMPLATE");
    snprintf(aside, sizeof(aside), "%s.damaged", path);
    s = store_rescue(path, aside, &rows, &e);
    assert_non_null(s);
    assert_int_equal(count(s, "templates"), 0);
    assert_int_equal(count(s, "aliases"), 0);
    assert_int_equal(count(s, "meta"), 1);
    store_close(s);
    unlink(aside);
}

static void test_rescue_nothing(void **state)
{
    (void)state;
    struct err e = {0};
    char aside[80];
    uint64_t rows = 7;
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is not a database at all, ", f);
    fclose(f);
    snprintf(aside, sizeof(aside), "%s.damaged", path);
    struct store *s = store_rescue(path, aside, &rows, &e);
    assert_non_null(s);
    assert_int_equal(rows, 0);
    assert_int_equal(count(s, "templates"), 0);
    store_close(s);
    unlink(aside);
    assert_null(store_rescue("/nowhere/state.db", "/nowhere/else", &rows, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_statement, setup, teardown),
        cmocka_unit_test_setup_teardown(test_older, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rescue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rescue_orphans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rescue_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
