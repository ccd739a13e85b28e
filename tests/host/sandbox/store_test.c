/* The engine's memory: values survive reopening, damage and newer schemas are
 * refused with the remedy. */
#include "sandbox/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
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

static int64_t count(struct store *s, const char *sql)
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
    run(s, "ALTER TABLE sandboxes DROP COLUMN end_boot");
    run(s, "INSERT INTO sandboxes(id, kind, state, started_at, end_at, doc) "
           "VALUES('i1', 'sandbox', 'running', 1, 2, '{}')");
    run(s, "PRAGMA user_version=1");
    store_close(s);
    s = open_store();
    assert_int_equal(
        count(s, "SELECT count(*) FROM sandboxes WHERE end_boot IS NULL"), 1);
    run(s, "INSERT INTO names VALUES('i1', 3, 4099, 'example.com')");
    run(s, "INSERT OR REPLACE INTO names VALUES('i1', 3, 8195, 'b.test')");
    assert_int_equal(count(s, "SELECT number FROM names"), 8195);
    run(s, "DELETE FROM sandboxes");
    assert_int_equal(count(s, "SELECT count(*) FROM names"), 0);
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
    assert_null(store_open("/nowhere/state.db", &e));
    assert_non_null(strstr(e.msg, "/nowhere/state.db"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_statement, setup, teardown),
        cmocka_unit_test_setup_teardown(test_older, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
