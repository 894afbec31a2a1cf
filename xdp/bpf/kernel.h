/* What the programs need of the kernel, so that no header of it is: linux/bpf.h, linux/if_ether.h, bpf-helpers(7).
 * Little-endian machines only. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;

#define SECTION(name) __attribute__((section(name), used))
#define inline inline __attribute__((always_inline))
#define wire16(x) ((u16)__builtin_bswap16(x))
#define wire32(x) ((u32)__builtin_bswap32(x))

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

struct bpf_sk_lookup {
	u64 sk;
	u32 family, protocol, remote_ip4, remote_ip6[4];
	u16 remote_port; /* as on the wire */
	u16 : 16;
	u32 local_ip4, local_ip6[4];
	u32 local_port; /* as a number */
	u32 ingress_ifindex;
};

enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };
enum { SK_DROP, SK_PASS };
enum { AF_INET = 2, AF_INET6 = 10, IPPROTO_UDP = 17 };

/* A map; which kind and how large is said in Rust. */
struct map {
	u32 number;
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*bpf_xdp_adjust_head)(struct xdp_md *context, int delta) = (void *)44;
static long (*bpf_redirect_map)(void *map, u64 key, u64 otherwise) = (void *)51;
static long (*bpf_sk_release)(void *socket) = (void *)86;
static long (*bpf_sk_assign)(struct bpf_sk_lookup *context, void *socket, u64 flags) = (void *)124;
