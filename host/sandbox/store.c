/* The SQLite side of the engine's memory: opening, checking, migrating, and
 * statements with parameters. No policy. */
#include "store.h"

#include "base/mem.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct store {
    sqlite3 *db;
    char *path;
};

struct store_rows {
    struct store *store;
    sqlite3_stmt *stmt;
};

/* MIGRATIONS[n] brings schema n to n + 1. Never change one that was released:
 * append. Times are microseconds since 1970. */
static const char *const MIGRATIONS[] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
    /* kind: sandbox | step. doc: what the API shows, as JSON. A row is there
     * before its process; pid and start_time follow at once. */
    "CREATE TABLE sandboxes("
    "  id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL,"
    "  template_id TEXT, build_id TEXT,"
    "  started_at INTEGER NOT NULL, end_at INTEGER NOT NULL,"
    "  boot_id TEXT, pid INTEGER, start_time INTEGER, cgroup TEXT,"
    "  doc TEXT NOT NULL) STRICT;"
    "CREATE TABLE templates("
    "  id TEXT PRIMARY KEY, public INTEGER NOT NULL DEFAULT 0,"
    "  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
    "  spawned_at INTEGER, spawn_count INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE aliases("
    "  alias TEXT PRIMARY KEY,"
    "  template_id TEXT NOT NULL REFERENCES templates(id) ON DELETE CASCADE"
    ") STRICT;"
    /* layer: top of the chain. context: {user,workdir,env} as JSON. start: the
     * start record {cmd,ready,user,workdir,env} or NULL. spec: the request. */
    "CREATE TABLE builds("
    "  id TEXT PRIMARY KEY,"
    "  template_id TEXT NOT NULL REFERENCES templates(id) ON DELETE CASCADE,"
    "  status TEXT NOT NULL, reason TEXT,"
    "  cpu_count INTEGER NOT NULL, memory_mb INTEGER NOT NULL,"
    "  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
    "  finished_at INTEGER,"
    "  layer TEXT, context TEXT, start TEXT, spec TEXT) STRICT;"
    "CREATE INDEX builds_template ON builds(template_id);"
    "CREATE TABLE tags("
    "  template_id TEXT NOT NULL REFERENCES templates(id) ON DELETE CASCADE,"
    "  tag TEXT NOT NULL,"
    "  build_id TEXT NOT NULL REFERENCES builds(id) ON DELETE CASCADE,"
    "  created_at INTEGER NOT NULL, PRIMARY KEY(template_id, tag)) STRICT;"
    "CREATE TABLE build_logs("
    "  build_id TEXT NOT NULL REFERENCES builds(id) ON DELETE CASCADE,"
    "  seq INTEGER NOT NULL, at INTEGER NOT NULL, level TEXT NOT NULL,"
    "  step TEXT, message TEXT NOT NULL, PRIMARY KEY(build_id, seq)) STRICT;",
    /* What the next engine needs of a sandbox. end_boot: its end by the clock
     * that counts since the boot. Names keep the synthetic addresses that its
     * programs have been given; rowid is their order. */
    "ALTER TABLE sandboxes ADD COLUMN end_boot INTEGER;"
    "CREATE TABLE names("
    "  sandbox_id TEXT NOT NULL REFERENCES sandboxes(id) ON DELETE CASCADE,"
    "  slot INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL,"
    "  PRIMARY KEY(sandbox_id, slot)) STRICT;",
};
enum { SCHEMA = sizeof(MIGRATIONS) / sizeof(*MIGRATIONS) };

static int fail(const struct store *s, struct err *e, const char *what)
{
    int code = s->db ? sqlite3_errcode(s->db) : SQLITE_NOMEM;
    const char *msg = s->db ? sqlite3_errmsg(s->db) : "out of memory";
    if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT)
        return err_set(e, "internal",
                       "the engine's state %s is damaged (%s): move it away "
                       "with its -wal and -shm files and start again",
                       s->path, msg);
    if (code == SQLITE_FULL)
        return err_set(e, "not_enough_space", "%s: %s: %s", s->path, what, msg);
    return err_set(e, "internal", "%s: %s: %s", s->path, what, msg);
}

static int exec(struct store *s, const char *sql, struct err *e)
{
    if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return fail(s, e, "cannot run a statement");
    return 0;
}

/* First column of the first row as a number; -1 failed. */
static int64_t number(struct store *s, const char *sql, struct err *e)
{
    struct store_value v = {0};
    struct store_rows *r = store_query(s, sql, NULL, 0, e);
    if (!r)
        return -1;
    int got = store_next(r, e);
    if (got > 0)
        store_get(r, 0, &v);
    store_done(r);
    return got > 0 ? v.i : -1;
}

static int migrate(struct store *s, struct err *e)
{
    if (exec(s, "BEGIN IMMEDIATE", e))
        return -1;
    int64_t have = number(s, "PRAGMA user_version", e);
    if (have < 0)
        return -1;
    if (have > SCHEMA)
        return err_set(e, "unsupported",
                       "the engine's state %s was written by a newer e2blua "
                       "(schema %lld, this one knows %d): use that version, "
                       "or another E2BLUA_HOME",
                       s->path, (long long)have, (int)SCHEMA);
    for (int64_t i = have; i < SCHEMA; i++)
        if (exec(s, MIGRATIONS[i], e))
            return -1;
    char sql[64];
    sqlite3_snprintf(sizeof(sql), sql, "PRAGMA user_version=%d", (int)SCHEMA);
    return exec(s, sql, e) || exec(s, "COMMIT", e) ? -1 : 0;
}

static int check(struct store *s, struct err *e)
{
    struct store_value v = {0};
    struct store_rows *r = store_query(s, "PRAGMA quick_check(1)", NULL, 0, e);
    if (!r)
        return -1;
    int got = store_next(r, e);
    if (got > 0) {
        store_get(r, 0, &v);
        if (v.n != 2 || memcmp(v.p, "ok", 2) != 0)
            got = err_set(e, "internal",
                          "the engine's state %s is damaged (%.*s): move it "
                          "away with its -wal and -shm files and start again",
                          s->path, (int)(v.n < 200 ? v.n : 200), v.p);
    }
    store_done(r);
    return got > 0 ? 0 : -1;
}

struct store *store_open(const char *path, struct err *e)
{
    struct store *s = mem_alloc(sizeof(*s));
    s->path = mem_strdup(path);
    int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK) {
        fail(s, e, "cannot open");
        store_close(s);
        return NULL;
    }
    sqlite3_busy_timeout(s->db, 5000);
    if (exec(s, "PRAGMA journal_mode=WAL", e) ||
        exec(s, "PRAGMA synchronous=NORMAL", e) ||
        exec(s, "PRAGMA foreign_keys=ON", e) || check(s, e) || migrate(s, e)) {
        store_close(s);
        return NULL;
    }
    return s;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    sqlite3_close(s->db);
    free(s->path);
    free(s);
}

static int bind_one(sqlite3_stmt *stmt, int i, const struct store_value *v)
{
    switch (v->type) {
    case STORE_INT:
        return sqlite3_bind_int64(stmt, i, v->i);
    case STORE_REAL:
        return sqlite3_bind_double(stmt, i, v->d);
    case STORE_TEXT:
        return sqlite3_bind_text64(stmt, i, v->p, v->n, SQLITE_TRANSIENT,
                                   SQLITE_UTF8);
    case STORE_NULL:
        break;
    }
    return sqlite3_bind_null(stmt, i);
}

struct store_rows *store_query(struct store *s, const char *sql,
                               const struct store_value *args, int nargs,
                               struct err *e)
{
    sqlite3_stmt *stmt = NULL;
    const char *tail = "";
    if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, &tail) != SQLITE_OK) {
        fail(s, e, "cannot prepare a statement");
        return NULL;
    }
    if (!stmt || *tail || sqlite3_bind_parameter_count(stmt) != nargs) {
        err_set(e, "invalid_argument",
                "one statement with %d parameters is wanted: %.120s", nargs,
                sql);
        sqlite3_finalize(stmt);
        return NULL;
    }
    for (int i = 0; i < nargs; i++)
        if (bind_one(stmt, i + 1, &args[i]) != SQLITE_OK) {
            fail(s, e, "cannot bind a value");
            sqlite3_finalize(stmt);
            return NULL;
        }
    struct store_rows *r = mem_alloc(sizeof(*r));
    r->store = s;
    r->stmt = stmt;
    return r;
}

int store_next(struct store_rows *r, struct err *e)
{
    switch (sqlite3_step(r->stmt)) {
    case SQLITE_ROW:
        return 1;
    case SQLITE_DONE:
        return 0;
    default:
        return fail(r->store, e, "cannot run a statement");
    }
}

int store_columns(const struct store_rows *r)
{
    return sqlite3_column_count(r->stmt);
}

const char *store_name(const struct store_rows *r, int column)
{
    return sqlite3_column_name(r->stmt, column);
}

void store_get(const struct store_rows *r, int column, struct store_value *v)
{
    memset(v, 0, sizeof(*v));
    switch (sqlite3_column_type(r->stmt, column)) {
    case SQLITE_INTEGER:
        v->type = STORE_INT;
        v->i = sqlite3_column_int64(r->stmt, column);
        break;
    case SQLITE_FLOAT:
        v->type = STORE_REAL;
        v->d = sqlite3_column_double(r->stmt, column);
        break;
    case SQLITE_NULL:
        break;
    default:
        v->type = STORE_TEXT;
        v->p = (const char *)sqlite3_column_text(r->stmt, column);
        v->n = (size_t)sqlite3_column_bytes(r->stmt, column);
    }
}

int store_changes(const struct store *s)
{
    return sqlite3_changes(s->db);
}

void store_done(struct store_rows *r)
{
    if (!r)
        return;
    sqlite3_finalize(r->stmt);
    free(r);
}
