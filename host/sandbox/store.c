/* The SQLite side of the engine's memory: opening, checking, migrating, and
 * statements with parameters. No policy. */
#include "store.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
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
    /* What its owner can read of a sandbox; fields as JSON. */
    "CREATE TABLE box_logs("
    "  sandbox_id TEXT NOT NULL REFERENCES sandboxes(id) ON DELETE CASCADE,"
    "  at INTEGER NOT NULL, level TEXT NOT NULL, message TEXT NOT NULL,"
    "  fields TEXT NOT NULL) STRICT;"
    "CREATE INDEX box_logs_sandbox ON box_logs(sandbox_id);",
};
/* Nobody else holds it longer; while the engine runs, nobody else has it. */
enum { BUSY_MS = 5000 };
enum { SCHEMA = sizeof(MIGRATIONS) / sizeof(*MIGRATIONS) };

static int damaged(const struct store *s, struct err *e, const char *how)
{
    err_set(e, "internal", "the engine's state %s is damaged (%.200s)", s->path,
            how);
    if (e)
        e->errnum = EUCLEAN;
    return -1;
}

static int fail(const struct store *s, struct err *e, const char *what)
{
    int code = s->db ? sqlite3_errcode(s->db) : SQLITE_NOMEM;
    int sys = s->db ? sqlite3_system_errno(s->db) : 0;
    const char *msg = s->db ? sqlite3_errmsg(s->db) : "out of memory";
    if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT)
        return damaged(s, e, msg);
    if (code == SQLITE_FULL || sys == ENOSPC || sys == EDQUOT)
        return err_set(e, "not_enough_space", "%s: %s: %s", s->path, what, msg);
    if (code == SQLITE_BUSY)
        return err_set(e, "unsupported",
                       "the engine's state %s is held by another process for "
                       "%d s now: end that process (fuser %s names it)",
                       s->path, BUSY_MS / 1000, s->path);
    err_set(e, "internal", "%s: %s: %s%s%s", s->path, what, msg,
            sys ? ": " : "", sys ? strerror(sys) : "");
    if (e)
        e->errnum = sys;
    return -1;
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
            got = damaged(s, e, v.p);
    }
    store_done(r);
    return got > 0 ? 0 : -1;
}

static struct store *open_file(const char *path, int flags, struct err *e)
{
    struct store *s = mem_alloc(sizeof(*s));
    s->path = mem_strdup(path);
    if (sqlite3_open_v2(path, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL) ==
        SQLITE_OK) {
        sqlite3_busy_timeout(s->db, BUSY_MS);
        return s;
    }
    fail(s, e, "cannot open");
    store_close(s);
    return NULL;
}

struct store *store_open(const char *path, struct err *e)
{
    struct store *s =
        open_file(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e);
    if (!s)
        return NULL;
    /* Exclusive: a backup or a curious shell must not make the engine wait. */
    if (exec(s, "PRAGMA locking_mode=EXCLUSIVE", e) ||
        exec(s, "PRAGMA journal_mode=WAL", e) ||
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

/* ---- rescue ---- */

/* state.db and its companions become NAME, NAME-wal, NAME-shm. */
static int move_aside(const char *path, const char *name, struct err *e)
{
    static const char *const tails[] = {"-wal", "-shm", ""};
    for (int i = 0; i < 3; i++) {
        struct buf from = {0}, to = {0};
        buf_printf(&from, "%s%s", path, tails[i]);
        buf_printf(&to, "%s%s", name, tails[i]);
        int failed = rename(from.data, to.data) && errno != ENOENT
                         ? err_errno(e, NULL, "cannot move %s", from.data)
                         : 0;
        buf_fini(&from);
        buf_fini(&to);
        if (failed)
            return -1;
    }
    return 0;
}

/* INSERT OR REPLACE INTO "table"(columns of r) VALUES(?1, ...) */
static void insert_of(struct buf *sql, const char *table,
                      const struct store_rows *r)
{
    int n = store_columns(r);
    buf_printf(sql, "INSERT OR REPLACE INTO \"%s\"(", table);
    for (int i = 0; i < n; i++)
        buf_printf(sql, "%s\"%s\"", i ? ", " : "", store_name(r, i));
    buf_puts(sql, ") VALUES(");
    for (int i = 0; i < n; i++)
        buf_printf(sql, "%s?%d", i ? ", " : "", i + 1);
    buf_puts(sql, ")");
}

static bool copy_row(struct store *to, const char *sql,
                     const struct store_rows *row)
{
    enum { COLUMNS_MAX = 64 };
    struct store_value v[COLUMNS_MAX];
    int n = store_columns(row);
    if (n > COLUMNS_MAX)
        return false;
    for (int i = 0; i < n; i++)
        store_get(row, i, &v[i]);
    struct store_rows *r = store_query(to, sql, v, n, NULL);
    bool done = r && store_next(r, NULL) == 0;
    store_done(r);
    return done;
}

/* As many rows as can be read. */
static uint64_t copy_table(struct store *from, struct store *to,
                           const char *table)
{
    struct buf sql = {0};
    uint64_t count = 0;
    buf_printf(&sql, "SELECT * FROM \"%s\"", table);
    struct store_rows *r = store_query(from, sql.data, NULL, 0, NULL);
    buf_clear(&sql);
    if (r)
        insert_of(&sql, table, r);
    while (r && store_next(r, NULL) > 0)
        count += copy_row(to, sql.data, r);
    store_done(r);
    buf_fini(&sql);
    return count;
}

/* Rows whose parents were not to be had. */
static void drop_orphans(struct store *s)
{
    for (int tries = 0; tries < 8; tries++) {
        struct buf sql = {0};
        struct store_value v;
        struct store_rows *r =
            store_query(s, "PRAGMA foreign_key_check", NULL, 0, NULL);
        while (r && store_next(r, NULL) > 0) {
            store_get(r, 0, &v);
            buf_printf(&sql, "DELETE FROM \"%.*s\" WHERE rowid = ", (int)v.n,
                       v.p);
            store_get(r, 1, &v);
            buf_printf(&sql, "%lld;", (long long)v.i);
        }
        store_done(r);
        bool more = sql.len > 0;
        if (more)
            exec(s, sql.data, NULL);
        buf_fini(&sql);
        if (!more)
            return;
    }
}

static uint64_t copy_all(struct store *from, struct store *to)
{
    struct store_rows *r =
        store_query(to, "SELECT name FROM sqlite_master WHERE type = 'table'",
                    NULL, 0, NULL);
    uint64_t count = 0;
    exec(to, "PRAGMA foreign_keys=OFF", NULL);
    while (r && store_next(r, NULL) > 0) {
        struct store_value name;
        store_get(r, 0, &name);
        count += copy_table(from, to, name.p);
    }
    store_done(r);
    drop_orphans(to);
    exec(to, "PRAGMA foreign_keys=ON", NULL);
    return count;
}

struct store *store_rescue(const char *path, const char *aside, uint64_t *rows,
                           struct err *e)
{
    *rows = 0;
    if (move_aside(path, aside, e))
        return NULL;
    struct store *to = store_open(path, e);
    struct store *from =
        to ? open_file(aside, SQLITE_OPEN_READWRITE, NULL) : NULL;
    if (from)
        *rows = copy_all(from, to);
    store_close(from);
    return to;
}
