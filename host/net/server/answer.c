/* Bodies of the data plane's answers: JSON, or a page for a browser that
 * navigates. */
#include "answer.h"

#include "base/json.h"
#include "base/str.h"
#include "route.h"

#include <string.h>

static const char JSON[] = "application/json; charset=utf-8";

static void put_field(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, "%s\"%s\":", b->len ? "," : "{", name);
    json_write_string(b, value, strlen(value));
}

static void page(struct httpd_req *r, int status, const char *title,
                 const char *id, const char *text)
{
    struct buf b;
    buf_init(&b);
    buf_printf(&b,
               "<html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
               "name=\"viewport\" content=\"width=device-width\">"
               "<title>%s</title><style>body{font:16px/1.5 system-ui,"
               "sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem;"
               "color:#222;background:#fafafa}h1{font-size:1.4rem}code{"
               "background:#eee;padding:.1em .3em;border-radius:4px}"
               "@media(prefers-color-scheme:dark){body{color:#ddd;"
               "background:#181818}code{background:#333}}</style></head>"
               "<body><h1>%s</h1><p>Sandbox <code>%s</code></p><p>%s</p>"
               "</body></html>",
               title, title, id, text);
    httpd_reply(r, status, "text/html; charset=utf-8", b.data, b.len);
    buf_fini(&b);
}

static void send_json(struct httpd_req *r, int status, struct buf *b)
{
    buf_printf(b, ",\"code\":%d}", status);
    httpd_reply(r, status, JSON, b->data, b->len);
    buf_fini(b);
}

void answer_not_found(struct httpd_req *r, const char *id)
{
    if (route_browser(httpd_head(r))) {
        page(r, 502, "Sandbox Not Found", id,
             "The sandbox was not found: it has ended, was killed, or never "
             "existed here.");
        return;
    }
    struct buf b;
    buf_init(&b);
    put_field(&b, "sandboxId", id);
    put_field(&b, "message", "The sandbox was not found");
    send_json(r, 502, &b);
}

void answer_starved(struct httpd_req *r, const char *id, int port,
                    const char *why)
{
    bool call =
        port == ROUTE_ENVD_PORT && !route_is(httpd_head(r)->target, "/health");
    struct buf b;
    char text[256];
    str_fmt(text, sizeof(text), "The sandbox was not found: it %s", why);
    if (route_browser(httpd_head(r))) {
        page(r, 502, "Sandbox Not Found", id, text);
        return;
    }
    buf_init(&b);
    put_field(&b, "sandboxId", id);
    put_field(&b, "message", text);
    put_field(&b, "error_code", "sandbox_out_of_memory");
    send_json(r, call ? 500 : 502, &b);
}

static void port_answer(struct httpd_req *r, const char *id, int port,
                        const char *message)
{
    struct buf b;
    buf_init(&b);
    put_field(&b, "sandboxId", id);
    put_field(&b, "message", message);
    buf_printf(&b, ",\"port\":%d", port);
    send_json(r, 502, &b);
}

void answer_closed_port(struct httpd_req *r, const char *id, int port)
{
    if (route_browser(httpd_head(r))) {
        struct buf text;
        buf_init(&text);
        buf_printf(&text,
                   "The sandbox is running, but there is no service running "
                   "on port %d.",
                   port);
        page(r, 502, "Closed Port Error", id, text.data);
        buf_fini(&text);
        return;
    }
    port_answer(r, id, port, "The sandbox is running but port is not open");
}

void answer_no_answer(struct httpd_req *r, const char *id, int port)
{
    static const char text[] =
        "The server on this port closed the connection without an HTTP answer";
    if (route_browser(httpd_head(r)))
        page(r, 502, "Bad Gateway", id, text);
    else
        port_answer(r, id, port, text);
}

void answer_traffic_token(struct httpd_req *r, const char *id, bool missing)
{
    const char *text =
        missing ? "Sandbox is secured with traffic access token. Token header "
                  "'e2b-traffic-access-token' is missing"
                : "Sandbox is secured with traffic access token. Provided "
                  "token in header 'e2b-traffic-access-token' is invalid";
    if (route_browser(httpd_head(r))) {
        page(r, 403,
             missing ? "Missing Traffic Access Token"
                     : "Invalid Traffic Access Token",
             id, text);
        return;
    }
    struct buf b;
    buf_init(&b);
    put_field(&b, "sandboxId", id);
    put_field(&b, "message", text);
    send_json(r, 403, &b);
}

void answer_too_many(struct httpd_req *r, const char *id, unsigned limit)
{
    struct buf b;
    buf_init(&b);
    put_field(&b, "sandboxId", id);
    put_field(&b, "message", "Too many connections to this sandbox");
    buf_printf(&b, ",\"connectionLimit\":%u", limit);
    send_json(r, 429, &b);
}

void answer_reserved(struct httpd_req *r, const char *path)
{
    struct buf b;
    buf_init(&b);
    put_field(&b, "message",
              "This endpoint is reserved for the E2B control plane and cannot "
              "be called from outside");
    put_field(&b, "path", path);
    send_json(r, 404, &b);
}

void answer_text(struct httpd_req *r, int status, const char *text)
{
    httpd_reply(r, status, "text/plain; charset=utf-8", text, strlen(text));
}

void answer_envd(struct httpd_req *r, int status, const char *text)
{
    struct buf b;
    buf_init(&b);
    buf_printf(&b, "{\"code\":%d,\"message\":", status);
    json_write_string(&b, text, strlen(text));
    buf_puts(&b, "}\n");
    httpd_begin(r, status, (int64_t)b.len);
    httpd_header(r, "Content-Type", JSON);
    httpd_header(r, "X-Content-Type-Options", "nosniff");
    httpd_write(r, b.data, b.len);
    httpd_end(r);
    buf_fini(&b);
}
