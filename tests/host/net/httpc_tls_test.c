/* The HTTP client's TLS and proxies, against python3's ssl module with a CA
 * that openssl makes for the run, and a proxy of its own. */
#include "base/buf.h"
#include "base/fd.h"
#include "ctest.h"
#include "net/client/httpc.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct world {
    struct loop *loop;
    struct httpc *client;
    struct httpc_req *r;
    struct buf body;
    char dir[32], ca[48];
    pid_t peer;
    int tls_port, wrong_port, proxy_port, tunnel_port, slam_port;
} w;

/* One certificate for 127.0.0.1 and localhost, one for another name; both
 * signed by ca.pem. */
static const char make_certificates[] =
    "set -e; cd \"$1\"; exec 2>/dev/null\n"
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
    "-keyout ca.key -out ca.pem -subj /CN=test-ca -days 2\n"
    "sign() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
    "-keyout $1.key -out $1.csr -subj /CN=$1\n"
    "echo subjectAltName=$2 > $1.ext\n"
    "openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
    "-out $1.crt -days 2 -extfile $1.ext; cat $1.crt $1.key > $1.pem; }\n"
    "sign good IP:127.0.0.1,DNS:localhost; sign wrong DNS:else.example\n";

/* Prints five ports: TLS, TLS with the wrong name, a proxy that refuses all,
 * a proxy that tunnels and forwards (answers itself, naming what it saw), one
 * that hangs up. */
static const char peer_program[] =
    "import http.server, socket, ssl, sys, threading\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    protocol_version = 'HTTP/1.1'\n"
    "    def do_GET(self):\n"
    "        b = self.path.encode()\n"
    "        self.send_response(200)\n"
    "        self.send_header('Content-Length', str(len(b)))\n"
    "        self.end_headers()\n"
    "        self.wfile.write(b)\n"
    "    def log_message(self, *a): pass\n"
    "class Refuse(H):\n"
    "    def do_CONNECT(self):\n"
    "        self.send_response(403)\n"
    "        self.send_header('Content-Length', '0')\n"
    "        self.end_headers()\n"
    "class Tunnel(H):\n"
    "    def do_CONNECT(self):\n"
    "        host, port = self.path.split(':')\n"
    "        to = socket.create_connection((host, int(port)))\n"
    "        self.send_response(200)\n"
    "        self.end_headers()\n"
    "        self.close_connection = True\n"
    "        def copy(a, b):\n"
    "            try:\n"
    "                while d := a.recv(65536): b.sendall(d)\n"
    "            except OSError: pass\n"
    "        t = threading.Thread(target=copy, args=(to, self.connection),\n"
    "                             daemon=True)\n"
    "        t.start()\n"
    "        copy(self.connection, to)\n"
    "class S(http.server.ThreadingHTTPServer):\n"
    "    daemon_threads = True\n"
    "    def handle_error(self, *a): pass\n"
    "def serve(handler, pem=None):\n"
    "    s = S(('127.0.0.1', 0), handler)\n"
    "    if pem:\n"
    "        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
    "        c.load_cert_chain(pem)\n"
    "        s.socket = c.wrap_socket(s.socket, server_side=True,\n"
    "                                 do_handshake_on_connect=False)\n"
    "    threading.Thread(target=s.serve_forever, daemon=True).start()\n"
    "    return s.server_address[1]\n"
    "def slam():\n"
    "    s = socket.create_server(('127.0.0.1', 0))\n"
    "    def run():\n"
    "        while True:\n"
    "            c = s.accept()[0]\n"
    "            c.recv(10)\n"
    "            c.close()\n"
    "    threading.Thread(target=run, daemon=True).start()\n"
    "    return s.getsockname()[1]\n"
    "d = sys.argv[1]\n"
    "print(serve(H, d + '/good.pem'), serve(H, d + '/wrong.pem'),\n"
    "      serve(Refuse), serve(Tunnel), slam(), flush=True)\n"
    "sys.stdin.read()\n";

static int run(char *const argv[])
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    return status;
}

static int start_peer(void)
{
    int in[2], out[2];
    struct err e;
    char text[80] = "";
    if (fd_pipe(in, &e) < 0 || fd_pipe(out, &e) < 0)
        return -1;
    w.peer = fork();
    if (w.peer == 0) {
        dup2(in[0], 0); /* ends with us */
        dup2(out[1], 1);
        execlp("python3", "python3", "-c", peer_program, w.dir, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    for (size_t n = 0; n < sizeof(text) - 1 && !strchr(text, '\n');) {
        ssize_t got = read(out[0], text + n, sizeof(text) - 1 - n);
        if (got <= 0)
            return -1;
        n += (size_t)got;
    }
    close(out[0]);
    int n = sscanf(text, "%d %d %d %d %d", &w.tls_port, &w.wrong_port,
                   &w.proxy_port, &w.tunnel_port, &w.slam_port);
    return n == 5 ? 0 : -1;
}

static int setup_all(void **state)
{
    char *certs[] = {
        (char[]){"sh"}, (char[]){"-c"}, (char *)(uintptr_t)make_certificates,
        (char[]){"sh"}, w.dir,          NULL};
    (void)state;
    strcpy(w.dir, "/tmp/httpc-tls-XXXXXX");
    if (!mkdtemp(w.dir) || run(certs) != 0)
        return -1;
    snprintf(w.ca, sizeof(w.ca), "%s/ca.pem", w.dir);
    return start_peer();
}

static int teardown_all(void **state)
{
    char *remove[] = {(char[]){"rm"}, (char[]){"-rf"}, w.dir, NULL};
    (void)state;
    kill(w.peer, SIGKILL);
    waitpid(w.peer, NULL, 0);
    return run(remove);
}

static int setup(void **state)
{
    struct err e;
    (void)state;
    w.loop = loop_new(&e);
    w.client = httpc_new(w.loop, &e);
    return w.client ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    httpc_close(w.r);
    w.r = NULL;
    httpc_free(w.client);
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, 0);
    assert_int_equal(loop_handles(w.loop), 0);
    loop_free(w.loop);
    buf_fini(&w.body);
    return 0;
}

static bool is_over(void)
{
    const char *p;
    size_t n = httpc_peek(w.r, &p);
    if (n > 0) {
        buf_append(&w.body, p, n);
        httpc_take(w.r, n);
    }
    return httpc_state(w.r) >= HTTPC_ENDED && httpc_peek(w.r, &p) == 0;
}

/* The status, 0 when it failed. */
static int fetch(const char *url, const struct httpc_options *o)
{
    struct err e;
    httpc_close(w.r);
    buf_clear(&w.body);
    w.r = httpc_prepare(w.client, "GET", url, &e);
    assert_non_null(w.r);
    assert_int_equal(httpc_start(w.r, o, &e), 0);
    uint64_t end = loop_now(w.loop) + 20000;
    while (!is_over() && loop_now(w.loop) < end)
        loop_turn(w.loop, 5);
    assert_true(is_over());
    return httpc_state(w.r) == HTTPC_ENDED ? httpc_status(w.r) : 0;
}

static void failed_with(const char *kind, const char *text)
{
    const struct httpc_failure *f = httpc_failure(w.r);
    assert_int_equal(httpc_state(w.r), HTTPC_FAILED);
    assert_string_equal(f->err.kind, kind);
    if (!strstr(f->err.msg, text))
        fail_msg("'%s' lacks '%s'", f->err.msg, text);
    assert_null(strstr(f->err.msg, "secret"));
}

static const char *url_of(const char *scheme, int port)
{
    static char url[128];
    snprintf(url, sizeof(url), "%s://127.0.0.1:%d/x?secret", scheme, port);
    return url;
}

/* ---- tests --------------------------------------------------------------- */

static void trusts_the_given_authority(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000, .ca_file = w.ca};
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fetch(url_of("https", w.tls_port), &o), 200);
        assert_memory_equal(w.body.data, "/x?secret", 9);
    }
}

static void trusts_the_authority_of_the_environment(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000};
    const char *before = getenv("SSL_CERT_FILE");
    char *kept = before ? strdup(before) : NULL;
    (void)state;
    setenv("SSL_CERT_FILE", w.ca, 1);
    assert_int_equal(fetch(url_of("https", w.tls_port), &o), 200);
    unsetenv("SSL_CERT_FILE");
    if (kept)
        setenv("SSL_CERT_FILE", kept, 1);
    free(kept);
}

static void refuses_a_stranger(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000};
    (void)state;
    assert_int_equal(fetch(url_of("https", w.tls_port), &o), 0);
    failed_with("tls", "TLS with 127.0.0.1");
    failed_with("tls", "name its CA by ca_file");
    assert_false(httpc_failure(w.r)->retryable);
}

static void refuses_another_name(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000, .ca_file = w.ca};
    (void)state;
    assert_int_equal(fetch(url_of("https", w.wrong_port), &o), 0);
    failed_with("tls", "no alternative certificate subject name matches");
}

static void says_when_the_authority_is_missing(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000, .ca_file = "/nonexistent"};
    (void)state;
    assert_int_equal(fetch(url_of("https", w.tls_port), &o), 0);
    failed_with("tls", "ca_file or SSL_CERT_FILE");
}

static void says_when_the_peer_speaks_no_tls(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000};
    (void)state;
    assert_int_equal(fetch(url_of("https", w.proxy_port), &o), 0);
    failed_with("tls", "TLS with 127.0.0.1");
}

static void tells_a_broken_handshake_from_bad_tls(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000};
    (void)state;
    assert_int_equal(fetch(url_of("https", w.slam_port), &o), 0);
    failed_with("network", "broke in the TLS handshake");
    assert_true(httpc_failure(w.r)->retryable);
}

static void goes_through_a_proxy(void **state)
{
    char proxy[64];
    struct httpc_options o = {
        .timeout_ms = 10000, .ca_file = w.ca, .proxy = proxy};
    (void)state;
    snprintf(proxy, sizeof(proxy), "http://u:secret@127.0.0.1:%d",
             w.tunnel_port);
    assert_int_equal(fetch(url_of("https", w.tls_port), &o), 200);
    assert_memory_equal(w.body.data, "/x?secret", 9);
    assert_int_equal(fetch("http://somewhere.invalid/y", &o), 200);
    assert_int_equal(w.body.len, strlen("http://somewhere.invalid/y"));
}

static void heeds_the_proxy_of_the_environment(void **state)
{
    char proxy[64];
    struct httpc_options o = {.timeout_ms = 10000};
    (void)state;
    snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d", w.tunnel_port);
    setenv("http_proxy", proxy, 1);
    assert_int_equal(fetch("http://somewhere.invalid/y", &o), 200);
    o.proxy = "";
    assert_int_equal(fetch("http://somewhere.invalid/y", &o), 0);
    failed_with("network", "cannot find somewhere.invalid");
    o.proxy = NULL;
    setenv("no_proxy", ".invalid", 1);
    assert_int_equal(fetch("http://somewhere.invalid/y", &o), 0);
    failed_with("network", "cannot find somewhere.invalid");
    unsetenv("http_proxy");
    unsetenv("no_proxy");
}

static void says_when_the_proxy_refuses(void **state)
{
    char proxy[64];
    struct httpc_options o = {.timeout_ms = 10000, .proxy = proxy};
    (void)state;
    snprintf(proxy, sizeof(proxy), "http://u:secret@127.0.0.1:%d",
             w.proxy_port);
    assert_int_equal(fetch("https://somewhere.invalid/y?secret", &o), 0);
    failed_with("network",
                "the proxy refuses a connection to somewhere.invalid: HTTP "
                "403");
    assert_false(httpc_failure(w.r)->retryable);
    snprintf(proxy, sizeof(proxy), "http://u:secret@127.0.0.1:1");
    assert_int_equal(fetch("http://somewhere.invalid/y?secret", &o), 0);
    failed_with("network",
                "cannot connect to the proxy 127.0.0.1:1: Connection refused");
    snprintf(proxy, sizeof(proxy), "http://u:secret@proxy.invalid:1");
    assert_int_equal(fetch("http://somewhere.invalid/y?secret", &o), 0);
    failed_with("network", "the proxy's name has no address");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static const struct CMUnitTest tests[] = {
    T(trusts_the_given_authority),
    T(trusts_the_authority_of_the_environment),
    T(refuses_a_stranger),
    T(refuses_another_name),
    T(says_when_the_authority_is_missing),
    T(says_when_the_peer_speaks_no_tls),
    T(tells_a_broken_handshake_from_bad_tls),
    T(goes_through_a_proxy),
    T(heeds_the_proxy_of_the_environment),
    T(says_when_the_proxy_refuses),
};

int main(void)
{
    static const char *const names[] = {
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
        "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
