/* libnftnl's and libmnl's door: the messages of netns.h. */
#include "netns.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/if_addr.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { LO_INDEX = 1, PRIORITY_DSTNAT = -100 };

static const char TABLE[] = "e2blua", NAT[] = "to_engine", FILTER[] = "closed";

/* ---- the rule set ---------------------------------------------------------
 */

struct batch {
    struct netns_plan *plan;
    uint32_t seq;
};

static char *batch_end(struct batch *b)
{
    return b->plan->rules + b->plan->rules_len;
}

/* The whole set is the same for all sandboxes: that it fits is seen once. */
static void batch_added(struct batch *b, const struct nlmsghdr *h)
{
    b->plan->rules_len += MNL_ALIGN(h->nlmsg_len);
    b->plan->rules_last = h->nlmsg_seq;
    if (b->plan->rules_len + 1024 > sizeof(b->plan->rules))
        abort();
}

static struct nlmsghdr *batch_header(struct batch *b, uint16_t type,
                                     uint16_t flags)
{
    return nftnl_nlmsg_build_hdr(batch_end(b), type, NFPROTO_INET,
                                 NLM_F_CREATE | flags, ++b->seq);
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static void put_table(struct batch *b)
{
    struct nftnl_table *t = must(nftnl_table_alloc());
    nftnl_table_set_str(t, NFTNL_TABLE_NAME, TABLE);
    struct nlmsghdr *h = batch_header(b, NFT_MSG_NEWTABLE, 0);
    nftnl_table_nlmsg_build_payload(h, t);
    batch_added(b, h);
    nftnl_table_free(t);
}

static void put_chain(struct batch *b, const char *name, const char *type,
                      int priority)
{
    struct nftnl_chain *c = must(nftnl_chain_alloc());
    nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, TABLE);
    nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
    nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, type);
    nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, NF_INET_LOCAL_OUT);
    nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, priority);
    struct nlmsghdr *h = batch_header(b, NFT_MSG_NEWCHAIN, 0);
    nftnl_chain_nlmsg_build_payload(h, c);
    batch_added(b, h);
    nftnl_chain_free(c);
}

static struct nftnl_expr *add(struct nftnl_rule *r, const char *name)
{
    struct nftnl_expr *x = must(nftnl_expr_alloc(name));
    nftnl_rule_add_expr(r, x);
    return x;
}

static void load_meta(struct nftnl_rule *r, uint32_t key)
{
    struct nftnl_expr *x = add(r, "meta");
    nftnl_expr_set_u32(x, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(x, NFTNL_EXPR_META_DREG, NFT_REG_1);
}

static void load_payload(struct nftnl_rule *r, uint32_t base, uint32_t offset,
                         uint32_t len)
{
    struct nftnl_expr *x = add(r, "payload");
    nftnl_expr_set_u32(x, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(x, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(x, NFTNL_EXPR_PAYLOAD_LEN, len);
    nftnl_expr_set_u32(x, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
}

static void equals(struct nftnl_rule *r, const void *data, uint32_t len)
{
    struct nftnl_expr *x = add(r, "cmp");
    nftnl_expr_set_u32(x, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(x, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
    nftnl_expr_set(x, NFTNL_EXPR_CMP_DATA, data, len);
}

static void meta_is(struct nftnl_rule *r, uint32_t key, uint8_t value)
{
    load_meta(r, key);
    equals(r, &value, 1);
}

static struct nftnl_rule *rule(const char *chain)
{
    struct nftnl_rule *r = must(nftnl_rule_alloc());
    nftnl_rule_set_str(r, NFTNL_RULE_TABLE, TABLE);
    nftnl_rule_set_str(r, NFTNL_RULE_CHAIN, chain);
    nftnl_rule_set_u32(r, NFTNL_RULE_FAMILY, NFPROTO_INET);
    return r;
}

static void put_rule(struct batch *b, struct nftnl_rule *r, uint16_t flags)
{
    struct nlmsghdr *h =
        batch_header(b, NFT_MSG_NEWRULE, (uint16_t)(NLM_F_APPEND | flags));
    nftnl_rule_nlmsg_build_payload(h, r);
    batch_added(b, h);
    nftnl_rule_free(r);
}

/* What goes to these addresses stays in the sandbox. */
static void put_accept(struct batch *b, const char *chain, int family,
                       const char *ip, bool whole_net)
{
    struct nftnl_rule *r = rule(chain);
    unsigned char a[16];
    bool v4 = family == AF_INET;
    uint32_t len = !v4 ? 16 : whole_net ? 1 : 4;
    inet_pton(family, ip, a);
    meta_is(r, NFT_META_NFPROTO, v4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
    load_payload(r, NFT_PAYLOAD_NETWORK_HEADER, v4 ? 16 : 24, len);
    equals(r, a, len);
    struct nftnl_expr *x = add(r, "immediate");
    nftnl_expr_set_u32(x, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(x, NFTNL_EXPR_IMM_VERDICT, NF_ACCEPT);
    put_rule(b, r, 0);
}

static void put_own(struct batch *b, const char *chain)
{
    put_accept(b, chain, AF_INET, "127.0.0.1", true);
    put_accept(b, chain, AF_INET, NETNS_SELF4, false);
    put_accept(b, chain, AF_INET6, "::1", false);
    put_accept(b, chain, AF_INET6, NETNS_SELF6, false);
}

/* dport 0: any. */
static void put_redirect(struct batch *b, uint8_t protocol, uint16_t dport)
{
    struct nftnl_rule *r = rule(NAT);
    uint16_t port = htons(NETNS_PORT), wanted = htons(dport);
    meta_is(r, NFT_META_L4PROTO, protocol);
    if (dport) {
        load_payload(r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
        equals(r, &wanted, 2);
    }
    struct nftnl_expr *x = add(r, "immediate");
    nftnl_expr_set_u32(x, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
    nftnl_expr_set(x, NFTNL_EXPR_IMM_DATA, &port, 2);
    x = add(r, "redir");
    nftnl_expr_set_u32(x, NFTNL_EXPR_REDIR_REG_PROTO_MIN, NFT_REG_1);
    nftnl_expr_set_u32(x, NFTNL_EXPR_REDIR_REG_PROTO_MAX, NFT_REG_1);
    put_rule(b, r, 0);
}

/* The sender is told at once. */
static void put_reject(struct batch *b)
{
    struct nftnl_rule *r = rule(FILTER);
    struct nftnl_expr *x = add(r, "reject");
    nftnl_expr_set_u32(x, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
    nftnl_expr_set_u8(x, NFTNL_EXPR_REJECT_CODE,
                      NFT_REJECT_ICMPX_ADMIN_PROHIBITED);
    put_rule(b, r, NLM_F_ACK);
}

static void make_rules(struct netns_plan *p)
{
    struct batch b = {p, 0};
    struct nlmsghdr *h = nftnl_batch_begin(batch_end(&b), ++b.seq);
    batch_added(&b, h);
    put_table(&b);
    put_chain(&b, NAT, "nat", PRIORITY_DSTNAT);
    put_own(&b, NAT);
    put_redirect(&b, IPPROTO_TCP, 0);
    put_redirect(&b, IPPROTO_UDP, 53);
    put_chain(&b, FILTER, "filter", 0);
    put_own(&b, FILTER);
    put_reject(&b);
    uint32_t acked = p->rules_last;
    h = nftnl_batch_end(batch_end(&b), ++b.seq);
    batch_added(&b, h);
    p->rules_last = acked;
}

/* ---- address and route ----------------------------------------------------
 */

static struct nlmsghdr *link_header(struct netns_plan *p, int i, uint16_t type)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(p->links[i]);
    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
    h->nlmsg_seq = (uint32_t)i + 1;
    return h;
}

static void make_address(struct netns_plan *p, int i, int family,
                         const char *ip)
{
    unsigned char a[16];
    size_t len = family == AF_INET ? 4 : 16;
    inet_pton(family, ip, a);
    struct nlmsghdr *h = link_header(p, i, RTM_NEWADDR);
    struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->ifa_family = (uint8_t)family;
    m->ifa_prefixlen = (uint8_t)(len * 8);
    m->ifa_flags = IFA_F_PERMANENT | IFA_F_NODAD;
    m->ifa_scope = RT_SCOPE_UNIVERSE;
    m->ifa_index = LO_INDEX;
    mnl_attr_put(h, IFA_LOCAL, len, a);
    mnl_attr_put(h, IFA_ADDRESS, len, a);
    p->links_len[i] = h->nlmsg_len;
}

static void make_route(struct netns_plan *p, int i, int family, const char *ip)
{
    unsigned char a[16];
    inet_pton(family, ip, a);
    struct nlmsghdr *h = link_header(p, i, RTM_NEWROUTE);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->rtm_family = (uint8_t)family;
    m->rtm_table = RT_TABLE_MAIN;
    m->rtm_protocol = RTPROT_STATIC;
    m->rtm_scope = family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    m->rtm_type = RTN_UNICAST;
    mnl_attr_put_u32(h, RTA_OIF, LO_INDEX);
    mnl_attr_put(h, RTA_PREFSRC, family == AF_INET ? 4 : 16, a);
    p->links_len[i] = h->nlmsg_len;
}

/* The kernel makes the local route of an IPv6 address some time after it has
 * acknowledged the address: until then answers to it find no way. */
static void make_local6(struct netns_plan *p, int i, const char *ip)
{
    unsigned char a[16];
    inet_pton(AF_INET6, ip, a);
    struct nlmsghdr *h = link_header(p, i, RTM_NEWROUTE);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->rtm_family = AF_INET6;
    m->rtm_dst_len = 128;
    m->rtm_table = RT_TABLE_LOCAL;
    m->rtm_protocol = RTPROT_STATIC;
    m->rtm_type = RTN_LOCAL;
    mnl_attr_put(h, RTA_DST, sizeof(a), a);
    mnl_attr_put_u32(h, RTA_OIF, LO_INDEX);
    p->links_len[i] = h->nlmsg_len;
}

void netns_plan_make(struct netns_plan *p)
{
    memset(p, 0, sizeof(*p));
    make_rules(p);
    make_address(p, 0, AF_INET, NETNS_SELF4);
    make_route(p, 1, AF_INET, NETNS_SELF4);
    make_address(p, 2, AF_INET6, NETNS_SELF6);
    make_local6(p, 3, NETNS_SELF6);
    make_route(p, 4, AF_INET6, NETNS_SELF6);
}
