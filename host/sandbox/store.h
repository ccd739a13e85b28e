/* What the engine remembers (SQLite's door): $E2BLUA_HOME/state.db in WAL mode
 * with synchronous=NORMAL: a kill -9 loses nothing, a power cut at most the
 * last writes. The tables are made and migrated here; the statements on them
 * stand in stdlib/engine. One thread. */
#ifndef E2B_STORE_H
#define E2B_STORE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct store;

/* Opens or makes the database and brings its tables up to date; nobody else
 * can read or write it until it is closed. Fails, naming file and remedy, when
 * another process holds it (after 5 s), when it was written by a newer version,
 * and, with errnum EUCLEAN, when it is damaged. */
struct store *store_open(const char *path, struct err *e);
/* For a damaged one: the file and its companions are renamed to aside, and a
 * new one is made with the rows that can still be read; *rows counts them. */
struct store *store_rescue(const char *path, const char *aside, uint64_t *rows,
                           struct err *e);
void store_close(struct store *s); /* NULL is fine */

enum store_type { STORE_NULL, STORE_INT, STORE_REAL, STORE_TEXT };

struct store_value {
    enum store_type type;
    int64_t i;
    double d;
    const char *p; /* text; need not end with NUL when bound */
    size_t n;
};

/* One statement with its parameters (?1, ?2, ...), which are copied. Nothing
 * has run before the first store_next. Rows keep the statement open: call
 * store_done. */
struct store_rows;
struct store_rows *store_query(struct store *s, const char *sql,
                               const struct store_value *args, int nargs,
                               struct err *e);
int store_next(struct store_rows *r, struct err *e); /* 1: row, 0: end, -1 */
int store_columns(const struct store_rows *r);
const char *store_name(const struct store_rows *r, int column);
/* Text is valid until the next store_next or store_done. */
void store_get(const struct store_rows *r, int column, struct store_value *v);
int store_changes(const struct store *s); /* of the last finished write */
void store_done(struct store_rows *r);    /* NULL is fine */

#endif
