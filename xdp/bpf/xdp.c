/* The XDP program of xdp/src/program/text, in C: to be read, and to be compared with it, frame by frame, by
 * xdp/tests/xdp_program/golden.rs. The product loads the one that is written in Rust.
 *
 *   clang -target bpf -O2 -c xdp.c -o xdp.o
 */
#include "kernel.h"

/* An entry of the port table, by destination port: xdp/src/program/entry.rs. */
struct entry {
	union {
		u64 head;
		struct {
			u8 state : 2, generation : 6;
			u8 flags;
			u8 address_in, address_out; /* numbers of addresses of this host; 0: any; as it arrived */
			u16 source_port;
			u16 tag;
		};
	};
	u32 source[4];
	u64 bytes, packets, strangers;
	u32 ssrc, highest, seen, transit;
	struct flow {
		u32 remote[4];
		u32 ports; /* source and destination */
		u32 interface;
		u32 macs[3];
		u16 first, sequence_offset;
		u32 ssrc, timestamp_offset;
	} flow;
	u64 types;
	u32 types_high, jitter;
};
_Static_assert(sizeof(struct entry) == 128, "two cache lines");

enum { CLOSED, OPEN, FORWARD, GUARDED };
enum { CONNECTED = 1, SOURCE_IPV6 = 2, NEW_SSRC = 4, VLAN = 8, NEW_NUMBERS = 16, ANY_IPV6 = 32 };

/* An address of this host; family 0 if it was taken away. */
struct address {
	u32 ip[4];
	u16 family;
	u8 mac[6];
};

struct flood {
	u64 began, packets;
};

/* What is counted, in the order of xdp/src/program/counters.rs. */
enum event {
	REDIRECTED,
	RAISED_CONTROL,
	RAISED_PAYLOAD_TYPE,
	RAISED_OTHER,
	PASSED_SHORT,
	PASSED_ETHERTYPE,
	PASSED_PROTOCOL,
	PASSED_OPTIONS,
	PASSED_FRAGMENT,
	PASSED_PORT,
	PASSED_LENGTH,
	PASSED_ADDRESS,
	PASSED_GUARDED,
	PASSED_UNCLAIMED,
	DROPPED_STRANGERS,
	DROPPED_FLOODS,
	DROPPED_HEADROOM,
	EVENTS,
	/* Not counted: it goes on. */
	FORWARDED = 100,
};

struct map SECTION("maps") ports, addresses, numbers, sockets, events, floods;

/* The packets per second and sender that the golden check runs with; 0 is no limit. */
#ifndef FLOOD_LIMIT
#define FLOOD_LIMIT 0
#endif

/* Behind the driver the kernel's packet says that its checksum is partial, and who sends it on completes it. */
#ifndef GENERIC
#define GENERIC 0
#endif

struct ipv4 {
	u8 version_length, service;
	u16 total, id, fragment;
	u8 hop_limit, protocol;
	u16 check;
	u32 addresses[2];
};

struct ipv6 {
	u32 version;
	u16 length;
	u8 next, hop_limit;
	u32 addresses[8];
};

struct udp {
	u32 ports;
	u16 length, check;
};

struct rtp {
	u8 version, payload_type;
	u16 sequence;
	u32 timestamp, ssrc;
};

/* Where the packet is: everything behind `data` is a constant offset once this is inlined. */
struct packet {
	struct xdp_md *context;
	u8 *data, *end;
	int vlan, is_ipv6;
};

static inline int ip_at(struct packet *p) { return p->vlan ? 18 : 14; }
static inline int udp_at(struct packet *p) { return ip_at(p) + (p->is_ipv6 ? 40 : 20); }
static inline int words(struct packet *p) { return p->is_ipv6 ? 4 : 1; }

/* Source address, then destination. */
static inline u32 *ip_addresses(struct packet *p)
{
	u8 *ip = p->data + ip_at(p);
	return p->is_ipv6 ? ((struct ipv6 *)ip)->addresses : ((struct ipv4 *)ip)->addresses;
}

/* Whether an address of the packet is one of a table, where IPv4 is mapped to IPv6. */
static inline int same(struct packet *p, const u32 *packet, const u32 *table)
{
	if (!p->is_ipv6)
		return packet[0] == table[3];
	return packet[0] == table[0] && packet[1] == table[1] && packet[2] == table[2] && packet[3] == table[3];
}

static inline u16 fold(u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* A multiple of 65,535 keeps differences of sums positive and changes nothing. */
#define ZERO (16ULL * 0xffffffff)

static inline void count(u32 event)
{
	u32 number = 0;
	u64 *counts = bpf_map_lookup_elem(&events, &number);
	if (counts && event < EVENTS)
		counts[event] += 1;
}

/* Is the packet sent to where the port is open? */
static inline int is_local(struct packet *p, const struct entry *head)
{
	u32 *destination = ip_addresses(p) + words(p);
	u32 number = head->address_in;
	if (!number) {
		if (p->is_ipv6 && !(head->flags & ANY_IPV6))
			return 0;
		u32 key[4] = { 0, 0, 0xffff0000, destination[0] };
		if (p->is_ipv6)
			__builtin_memcpy(key, destination, 16);
		u32 *found = bpf_map_lookup_elem(&numbers, key);
		if (!found)
			return 0;
		number = *found;
	}
	struct address *local = bpf_map_lookup_elem(&addresses, &number);
	return local && same(p, destination, local->ip) && local->family == (p->is_ipv6 ? 6 : 4) &&
	       *(u16 *)p->data == *(u16 *)local->mac && *(u16 *)(p->data + 2) == *(u16 *)(local->mac + 2) &&
	       *(u16 *)(p->data + 4) == *(u16 *)(local->mac + 4);
}

/* One that is not believed, or not yet: has he sent too many in this second? */
static inline int floods_us(struct packet *p)
{
	if (!FLOOD_LIMIT)
		return 0;
	u32 *source = ip_addresses(p);
	/* Everybody has a whole /64 of IPv6. */
	u64 key = p->is_ipv6 ? source[0] | (u64)source[1] << 32 : source[0] | 0xffffULL << 32;
	struct flood *flood = bpf_map_lookup_elem(&floods, &key);
	u64 now = bpf_ktime_get_ns();
	if (!flood) {
		struct flood first = { now, 1 };
		bpf_map_update_elem(&floods, &key, &first, 0);
	} else if (now - flood->began > 1000000000) {
		flood->began = now;
		flood->packets = 1;
	} else if (flood->packets >= FLOOD_LIMIT) {
		return 1;
	} else {
		__sync_fetch_and_add(&flood->packets, 1);
	}
	return 0;
}

/* RFC 3550 appendices A.1 (sequence numbers) and A.8 (jitter, at 8 kHz). */
static inline void account(struct entry *entry, struct rtp *rtp, u32 length)
{
	/* Ticks of 125 us; a division would cost ten times as much. */
	u32 ticks = ((bpf_ktime_get_ns() >> 12) * 34360) >> 20;
	u32 transit = ticks - wire32(rtp->timestamp);
	s32 change = transit - entry->transit;
	u32 ssrc = wire32(rtp->ssrc);
	u16 sequence = wire16(rtp->sequence);
	entry->seen = ticks;
	entry->transit = transit;
	entry->bytes += length - 8;
	entry->packets += 1;
	if (entry->ssrc != ssrc || entry->packets == 1) {
		entry->ssrc = ssrc;
		entry->highest = sequence;
		entry->flow.first = sequence;
		return;
	}
	u16 ahead = sequence - (u16)entry->highest;
	if (ahead < 0x8000)
		entry->highest += ahead; /* carries into the cycles */
	if (change < 0)
		change = -change;
	entry->jitter += change - ((entry->jitter + 8) >> 4);
}

/* New headers. Answers why the packet is not forwarded, or FORWARDED and by which interface. */
static inline u32 forward(struct packet *p, struct entry *entry, struct entry head, u32 length, u32 *interface)
{
	int rtp_at = udp_at(p) + 8;
	if (length < 20 || length > 1480 || p->data + rtp_at + 12 > p->end)
		return RAISED_OTHER;
	struct udp *udp = (void *)(p->data + udp_at(p));
	struct rtp *rtp = (void *)(p->data + rtp_at);
	if ((rtp->version & 0xc0) != 0x80)
		return RAISED_OTHER;
	u32 type = rtp->payload_type & 0x7f;
	if (type >= 64 && type < 96)
		return RAISED_CONTROL; /* RFC 5761 section 4 */
	if (!((type < 64 ? entry->types >> type : entry->types_high >> (type - 96)) & 1))
		return RAISED_PAYLOAD_TYPE;
	if (p->is_ipv6 && !udp->check)
		return RAISED_OTHER;

	/* A copy; if the head has changed meanwhile, it may be of two flows. That takes a CPU that loads in the order of the
	   program, as x86 does; for others the text in Rust has a barrier before and behind the copy. */
	struct flow flow = entry->flow;
	__asm__ volatile("" ::: "memory");
	if (entry->head != head.head)
		return RAISED_OTHER;

	u32 *ip = ip_addresses(p);
	u32 source[4] = {};
	if (!head.address_out) {
		for (int word = 0; word < words(p); word++)
			source[word] = ip[words(p) + word];
	} else {
		u32 number = head.address_out;
		struct address *local = bpf_map_lookup_elem(&addresses, &number);
		if (!local || !local->family)
			return RAISED_OTHER;
		for (int word = 0; word < words(p); word++)
			source[word] = local->ip[p->is_ipv6 ? word : 3];
	}
	account(entry, rtp, length);

	/* Sums of what goes and of what comes: RFC 1624. */
	u64 old = 0, new = 0;
	for (int word = 0; word < words(p) * 2; word++)
		old += ip[word];
	for (int word = 0; word < words(p); word++) {
		ip[word] = source[word];
		ip[words(p) + word] = flow.remote[p->is_ipv6 ? word : 3];
		new += source[word];
		new += flow.remote[p->is_ipv6 ? word : 3];
	}
	if (p->is_ipv6) {
		((struct ipv6 *)(p->data + ip_at(p)))->hop_limit = 64;
	} else {
		struct ipv4 *v4 = (void *)(p->data + ip_at(p));
		v4->check = ~fold((u16)~v4->check + 64ULL - v4->hop_limit + new - old + ZERO);
		v4->hop_limit = 64;
	}
	/* Offloads leave the sum over the pseudo-header in place of the checksum. */
	u16 check = udp->check;
	int partial = check == fold(old + wire16(IPPROTO_UDP) + udp->length);
	u64 new_pseudo = new + wire16(IPPROTO_UDP) + udp->length;

	old += udp->ports;
	new += udp->ports = flow.ports;
	if (head.flags & NEW_SSRC) {
		old += rtp->ssrc;
		new += rtp->ssrc = flow.ssrc;
	}
	if (head.flags & NEW_NUMBERS) {
		old += rtp->sequence;
		old += rtp->timestamp;
		new += rtp->sequence = wire16((u16)(wire16(rtp->sequence) + flow.sequence_offset));
		new += rtp->timestamp = wire32(wire32(rtp->timestamp) + flow.timestamp_offset);
	}
	if (check && partial && GENERIC) {
		udp->check = fold(new_pseudo);
	} else if (check) {
		u64 sum;
		if (partial) {
			sum = new_pseudo;
			udp->check = 0;
			u8 *at = (u8 *)udp;
			u32 left = length;
			for (int half = 0; half < 740 && left >= 2; half++, at += 2, left -= 2) {
				if (at + 2 > p->end)
					break;
				sum += *(u16 *)at;
			}
			if (left == 1 && at + 1 <= p->end)
				sum += *at;
		} else {
			sum = (u16)~check + new - old + ZERO;
		}
		u16 now = ~fold(sum);
		udp->check = now ? now : 0xffff;
	}

	u16 type_of_ip = p->is_ipv6 ? wire16(0x86dd) : wire16(0x0800);
	if (head.flags & VLAN) {
		if (!p->vlan && bpf_xdp_adjust_head(p->context, -4))
			return DROPPED_HEADROOM;
	} else if (p->vlan && bpf_xdp_adjust_head(p->context, 4)) {
		return DROPPED_HEADROOM;
	}
	u8 *data = (void *)(u64)p->context->data;
	u8 *end = (void *)(u64)p->context->data_end;
	if (data + 18 > end)
		return DROPPED_HEADROOM;
	for (int word = 0; word < 3; word++)
		*(u32 *)(data + 4 * word) = flow.macs[word];
	if (head.flags & VLAN) {
		*(u16 *)(data + 12) = wire16(0x8100);
		*(u16 *)(data + 14) = head.tag;
		*(u16 *)(data + 16) = type_of_ip;
	} else {
		*(u16 *)(data + 12) = type_of_ip;
	}
	*interface = flow.interface;
	return FORWARDED;
}

/* What is to become of a packet of one shape. */
static inline u32 examine(struct packet *p, u32 *interface)
{
	if (p->data + udp_at(p) + 8 > p->end)
		return PASSED_SHORT;
	struct ipv4 *v4 = (void *)(p->data + ip_at(p));
	struct ipv6 *v6 = (void *)(p->data + ip_at(p));
	struct udp *udp = (void *)(p->data + udp_at(p));
	if (p->is_ipv6) {
		if (v6->next != IPPROTO_UDP)
			return PASSED_PROTOCOL; /* or an extension header */
		if ((v6->version & 0xf0) != 0x60)
			return PASSED_OPTIONS;
	} else {
		if (v4->protocol != IPPROTO_UDP)
			return PASSED_PROTOCOL;
		if (v4->version_length != 0x45)
			return PASSED_OPTIONS;
		if (v4->fragment & wire16(0x3fff))
			return PASSED_FRAGMENT;
	}

	u32 port = wire16(udp->ports >> 16);
	struct entry *entry = bpf_map_lookup_elem(&ports, &port);
	if (!entry)
		return PASSED_PORT;
	struct entry head = { .head = entry->head };
	if (head.state == CLOSED)
		return PASSED_PORT;
	if (head.state == GUARDED)
		return floods_us(p) ? DROPPED_FLOODS : PASSED_GUARDED;

	u32 length = wire16(udp->length);
	if (length < 8 || length + (p->is_ipv6 ? 0 : 20) != wire16(p->is_ipv6 ? v6->length : v4->total) ||
	    (u8 *)udp + length > p->end)
		return PASSED_LENGTH;
	if (!is_local(p, &head))
		return PASSED_ADDRESS;

	if (head.flags & CONNECTED) {
		int is_ipv6 = head.flags & SOURCE_IPV6 ? 1 : 0;
		if (is_ipv6 != p->is_ipv6 || !same(p, ip_addresses(p), entry->source) ||
		    (u16)udp->ports != head.source_port) {
			__sync_fetch_and_add(&entry->strangers, 1);
			return DROPPED_STRANGERS;
		}
	} else if (floods_us(p)) {
		return DROPPED_FLOODS;
	}
	if (head.state != FORWARD)
		return REDIRECTED;
	return forward(p, entry, head, length, interface);
}

SECTION("xdp") int sidetone_xdp(struct xdp_md *context)
{
	struct packet p = { context, (void *)(u64)context->data, (void *)(u64)context->data_end, 0, 0 };
	u32 event = PASSED_ETHERTYPE, interface = 0;
	if (p.data + 42 > p.end) {
		event = PASSED_SHORT;
	} else {
		u16 type = *(u16 *)(p.data + 12);
		if (type == wire16(0x8100)) {
			p.vlan = 1;
			type = *(u16 *)(p.data + 16);
		}
		/* Once per shape, so that every offset is a constant. */
		if (type == wire16(0x0800)) {
			struct packet tagged = { context, p.data, p.end, 1, 0 }, plain = { context, p.data, p.end, 0, 0 };
			event = p.vlan ? examine(&tagged, &interface) : examine(&plain, &interface);
		} else if (type == wire16(0x86dd)) {
			struct packet tagged = { context, p.data, p.end, 1, 1 }, plain = { context, p.data, p.end, 0, 1 };
			event = p.vlan ? examine(&tagged, &interface) : examine(&plain, &interface);
		}
	}
	if (event == FORWARDED)
		return interface == context->ingress_ifindex ? XDP_TX : bpf_redirect(interface, 0);
	count(event);
	if (event >= DROPPED_STRANGERS)
		return XDP_DROP;
	if (event >= PASSED_SHORT)
		return XDP_PASS;
	int verdict = bpf_redirect_map(&sockets, context->rx_queue_index, XDP_PASS);
	if (verdict == XDP_PASS)
		count(PASSED_UNCLAIMED);
	return verdict;
}

char SECTION("license") _license[] = "Dual MIT/GPL";
