/* The worker's half of POST /files: takes the body in pieces, decodes it and
 * writes the files. Not thread-safe; one caller at a time. */
#ifndef E2B_UPLOAD_H
#define E2B_UPLOAD_H

#include "envd.h"

#include <stdbool.h>

/* What is given in pieces of at least so much is written as it comes. */
enum { UPLOAD_PIECE = 256 * 1024 };

struct upload;

struct upload_want {
    const char *workdir;      /* envd's default, or NULL */
    const struct user *user;  /* owns what is made */
    const char *path;         /* NULL: each part's file name */
    const char *content_type; /* of multipart; NULL: the body is the file */
    bool gzip;
    int64_t length; /* Content-Length, -1 unknown; for a message only */
};

/* Copies what it needs; takes the metadata reference. NULL: e->msg for a 400.
 */
struct upload *upload_new(const struct upload_want *want, json_t *metadata,
                          struct err *e);
/* -1: upload_status and upload_message say what to answer; feed no more. */
int upload_feed(struct upload *u, const char *p, size_t n);
int upload_finish(struct upload *u);
/* After finish: the array for the answer (borrowed). */
const json_t *upload_answer(const struct upload *u);
int upload_status(const struct upload *u);
const char *upload_message(const struct upload *u);
/* A file left unfinished is removed if this upload made it. May wait for the
 * disk. NULL-safe. */
void upload_free(struct upload *u);

#endif
