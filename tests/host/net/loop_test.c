/* host/net/core/loop.c: timers, descriptors, wake-ups from other threads. */
#include "base/fd.h"
#include "ctest.h"
#include "net/core/loop.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static char order[32];

/* A writable text for a callback's void pointer. */
#define TEXT(s) ((char[]){s})

static void mark(void *arg)
{
    strcat(order, arg);
}

static void timers(void **state)
{
    (void)state;
    struct err e;
    struct loop *l = loop_new(&e);
    struct loop_timer *a, *b, *c;
    order[0] = '\0';
    loop_after(l, 20, mark, TEXT("b"), &b);
    loop_after(l, 5, mark, TEXT("a"), &a);
    loop_after(l, 1, mark, TEXT("never"), &c);
    loop_defer(l, mark, TEXT("0"));
    assert_string_equal(order, "");
    loop_timer_stop(c);
    assert_null(c);
    assert_int_equal(loop_handles(l), 3);
    loop_run(l);
    assert_string_equal(order, "0ab");
    assert_true(a == NULL && b == NULL);
    assert_int_equal(loop_handles(l), 0);
    loop_timer_stop(NULL);
    loop_free(l);
}

static void again(void *arg)
{
    loop_defer(arg, again, arg);
}

static void stop(void *arg)
{
    loop_stop(arg);
}

static void deferring_forever_starves_nobody(void **state)
{
    (void)state;
    struct err e;
    struct loop *l = loop_new(&e);
    loop_defer(l, again, l);
    loop_after(l, 5, stop, l, NULL);
    loop_run(l);
    loop_free(l);
}

static void turn_has_a_deadline(void **state)
{
    (void)state;
    struct err e;
    struct loop *l = loop_new(&e);
    struct loop_timer *t;
    loop_after(l, 60000, mark, TEXT("x"), &t);
    uint64_t before = loop_now(l);
    assert_true(loop_turn(l, 10));
    loop_turn(l, 0);
    assert_true(loop_now(l) - before < 5000);
    loop_timer_stop(t);
    loop_free(l);
}

static void got_bytes(void *arg, unsigned events)
{
    char c;
    assert_true(events & LOOP_READ);
    assert_int_equal(read(*(int *)arg, &c, 1), 1);
    strncat(order, &c, 1);
}

static void watches(void **state)
{
    (void)state;
    struct err e;
    int p[2];
    struct loop *l = loop_new(&e);
    order[0] = '\0';
    assert_int_equal(fd_pipe(p, &e), 0);
    struct loop_watch *w = loop_watch(l, p[0], LOOP_READ, got_bytes, &p[0], &e);
    assert_non_null(w);
    assert_int_equal(write(p[1], "xy", 2), 2);
    while (strlen(order) < 2)
        loop_turn(l, 1000);
    loop_watch_set(w, 0);
    assert_int_equal(write(p[1], "z", 1), 1);
    loop_turn(l, 5);
    assert_string_equal(order, "xy");
    loop_watch_set(w, LOOP_READ);
    loop_turn(l, 1000);
    assert_string_equal(order, "xyz");
    loop_watch_stop(w);
    fd_close(&p[0]);
    fd_close(&p[1]);
    assert_null(loop_watch(l, 9999, LOOP_READ, got_bytes, NULL, &e));
    loop_free(l);
}

static void *send(void *arg)
{
    loop_wake_send(arg);
    return NULL;
}

static void wakes(void **state)
{
    (void)state;
    struct err e;
    pthread_t t;
    struct loop *l = loop_new(&e);
    order[0] = '\0';
    struct loop_wake *w = loop_wake_new(l, mark, TEXT("w"), &e);
    pthread_create(&t, NULL, send, w);
    for (int i = 0; i < 50 && !*order; i++)
        loop_turn(l, 100);
    pthread_join(t, NULL);
    assert_string_equal(order, "w");
    loop_wake_free(w);
    loop_free(l);
}

static void signals(void **state)
{
    (void)state;
    struct err e = {0};
    struct loop *l = loop_new(&e);
    order[0] = '\0';
    struct loop_signal *s = loop_signal(l, SIGWINCH, mark, TEXT("s"), &e);
    assert_non_null(s);
    raise(SIGWINCH);
    for (int i = 0; i < 50 && !*order; i++)
        loop_turn(l, 100);
    assert_string_equal(order, "s");
    loop_signal_stop(s);
    loop_signal_stop(NULL);
    assert_null(loop_signal(l, SIGKILL, mark, TEXT("k"), &e));
    assert_non_null(strstr(e.msg, "signal 9"));
    loop_free(l);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(timers),
    cmocka_unit_test(deferring_forever_starves_nobody),
    cmocka_unit_test(turn_has_a_deadline),
    cmocka_unit_test(watches),
    cmocka_unit_test(wakes),
    cmocka_unit_test(signals),
};
RUN(tests)
