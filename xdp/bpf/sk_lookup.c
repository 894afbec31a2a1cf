/* The sk_lookup program of xdp/src/program/lookup.rs, in C: to be read, and to be compared with it by
 * xdp/tests/lookup.rs. The product loads the one that is written in Rust.
 *
 *   clang -target bpf -O2 -c sk_lookup.c -o sk_lookup.o
 */
#include "kernel.h"

/* An entry of the table, by local port: a cache line. Addresses of IPv4 are mapped to IPv6. */
struct entry {
	union {
		u64 head;
		struct {
			u16 flags, worker, remote_port;
		};
	};
	u32 local[4], remote[4];
	u64 strangers, unused[2];
};
_Static_assert(sizeof(struct entry) == 64, "a cache line");

enum { OPEN = 1, ANY = 2, LOCAL_IPV6 = 4, CONNECTED = 8, REMOTE_IPV6 = 16 };

struct map SECTION("maps") ports, sockets;

/* Volatile: the verifier takes only loads at constant offsets of the context. */
static inline int same(const volatile u32 *context, const u32 *table)
{
	return context[0] == table[0] && context[1] == table[1] && context[2] == table[2] && context[3] == table[3];
}

SECTION("sk_lookup") int sidetone_lookup(struct bpf_sk_lookup *context)
{
	if (context->protocol != IPPROTO_UDP)
		return SK_PASS;
	u32 port = context->local_port;
	struct entry *entry = bpf_map_lookup_elem(&ports, &port);
	if (!entry)
		return SK_PASS;
	struct entry head = { .head = entry->head };
	if (!(head.flags & OPEN))
		return SK_PASS;

	u32 is_ipv6 = context->family == AF_INET6;
	if (is_ipv6 ? !(head.flags & LOCAL_IPV6) : (head.flags & (LOCAL_IPV6 | ANY)) == LOCAL_IPV6)
		return SK_PASS;
	if (!(head.flags & ANY) &&
	    !(is_ipv6 ? same(context->local_ip6, entry->local) : context->local_ip4 == entry->local[3]))
		return SK_PASS;

	if (head.flags & CONNECTED) {
		u32 remote_is_ipv6 = head.flags & REMOTE_IPV6 ? 1 : 0;
		if (remote_is_ipv6 != is_ipv6 || context->remote_port != head.remote_port ||
		    !(is_ipv6 ? same(context->remote_ip6, entry->remote) : context->remote_ip4 == entry->remote[3])) {
			__sync_fetch_and_add(&entry->strangers, 1);
			return SK_DROP;
		}
	}

	/* A socket per worker and family. */
	u32 number = head.worker * 2 + is_ipv6;
	void *socket = bpf_map_lookup_elem(&sockets, &number);
	if (socket) {
		/* If it cannot be assigned, the rest of the way is the usual one. */
		bpf_sk_assign(context, socket, 0);
		bpf_sk_release(socket);
	}
	return SK_PASS;
}

char SECTION("license") _license[] = "Dual MIT/GPL";
