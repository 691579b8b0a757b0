// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One of everything that the readers of object files must understand. It declares what it needs itself, so that a
 * test that compiles it depends only on clang. It also loads, except for sections with made-up names. */

typedef unsigned char __u8;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define NOINLINE __attribute__((noinline))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define __array(name, value) typeof(value) *name[]
#define __kconfig __attribute__((section(".kconfig")))

struct xdp_md {
	__u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*tail_call)(void *ctx, void *map, __u32 index) = (void *)12;
static long (*loop)(__u32 count, void *callback, void *context, __u64 flags) = (void *)181;

/* -- types ------------------------------------------------------------------------------------------------------- */

enum colour { RED, GREEN = 7, BLUE = 0x7fffffff };

union word {
	__u64 whole;
	__u32 half[2];
};

struct node {
	struct node *next;
	const volatile __u8 *name;
	int (*visit)(struct node *self, enum colour colour);
};

typedef struct {
	__u32 low : 3;
	__u32 high : 29;
	union word word;
	enum colour colour;
	struct node node;
	struct unfinished *unfinished;
	_Bool flag;
	double ratio;
	__u8 tail[];
} value_t;

/* -- maps -------------------------------------------------------------------------------------------------------- */

struct {
	__uint(type, 1);
	__uint(max_entries, 100);
	__uint(map_flags, 1);
	__type(key, union word);
	__type(value, value_t);
	__uint(pinning, 1);
} table SEC(".maps");

struct one_counter {
	__uint(type, 2);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};

struct one_counter first SEC(".maps");
struct one_counter second SEC(".maps");
struct one_counter unused SEC(".maps");

struct {
	__uint(type, 12);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, struct one_counter);
} outer SEC(".maps") = { .values = { [0] = &first, [2] = &second } };

struct {
	__uint(type, 27);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, 9);
	__uint(max_entries, 8);
	__uint(numa_node, 0);
	__uint(map_flags, 4);
	__uint(key_size, 8);
	__uint(value_size, 16);
} recent SEC(".maps");

int callee_a(struct xdp_md *ctx);
int callee_b(struct xdp_md *ctx);

struct {
	__uint(type, 3);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { [1] = (void *)&callee_a } };

struct {
	__uint(type, 3);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps_on SEC(".maps") = { .values = { [3] = (void *)&callee_b } };

/* -- global variables -------------------------------------------------------------------------------------------- */

__u64 zero;
static volatile __u32 hidden_zero;
__u32 set = 5;
const volatile __u32 limits[3] = { 1, 2, 3 };
static const volatile __u8 hidden_limit = 9;
__u64 aside SEC(".data.aside") = 1;
static volatile __u32 aside_zero SEC(".bss.aside");
extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig __attribute__((weak));
extern char CONFIG_DEFAULT_HOSTNAME[12] __kconfig __attribute__((weak));

/* -- functions --------------------------------------------------------------------------------------------------- */

static NOINLINE __u64 *look_up(void *map)
{
	__u32 key = 0;

	return map_lookup_elem(map, &key);
}

static NOINLINE int count_static(struct xdp_md *ctx)
{
	__u64 *count = look_up(&first);

	if (count)
		*count += ctx->rx_queue_index;
	return set;
}

NOINLINE int count_global(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *count = map_lookup_elem(&second, &key);

	if (count)
		*count += 1;
	return count ? 2 : ctx->rx_queue_index;
}

static long step(__u32 index, void *context)
{
	zero += index;
	return 0;
}

/* -- programs ---------------------------------------------------------------------------------------------------- */

SEC("xdp")
int plain(struct xdp_md *ctx)
{
	union word key = {};

	if (map_lookup_elem(&table, &key))
		return 1;
	return limits[ctx->rx_queue_index & 1] + hidden_limit;
}

SEC("xdp")
int by_functions(struct xdp_md *ctx)
{
	return count_static(ctx) + count_global(ctx);
}

SEC("xdp.frags")
int by_callback(struct xdp_md *ctx)
{
	loop(4, step, (void *)0, 0);
	hidden_zero += 1;
	aside_zero += "a text in a section of its own"[ctx->rx_queue_index & 15];
	return aside + LINUX_KERNEL_VERSION + CONFIG_BPF_SYSCALL + CONFIG_DEFAULT_HOSTNAME[ctx->rx_queue_index & 7];
}

SEC("xdp")
int jumper(struct xdp_md *ctx)
{
	tail_call(ctx, &jumps, ctx->rx_queue_index);
	return 2;
}

SEC("xdp")
int callee_a(struct xdp_md *ctx)
{
	tail_call(ctx, &jumps_on, 3);
	return 1;
}

SEC("xdp")
int callee_b(struct xdp_md *ctx)
{
	__u32 key = 0;

	return map_lookup_elem(&outer, &key) ? 1 : 2;
}

SEC("xdp/devmap") int devmap(struct xdp_md *ctx) { return 2; }
SEC("xdp.frags/devmap") int devmap_frags(struct xdp_md *ctx) { return 2; }
SEC("xdp/cpumap") int cpumap(struct xdp_md *ctx) { return 2; }
SEC("?xdp") int spare(struct xdp_md *ctx) { return 2; }
SEC("freplace/some_function") int replacement(struct xdp_md *ctx) { return 2; }
SEC("tc") int classify(void *skb) { return 0; }
SEC("my_own_filters") int custom(struct xdp_md *ctx) { return 2; }
SEC("my_own_others") int stranger(void *ctx) { return 2; }
SEC("kprobe/some_function") int probe(void *ctx) { return 0; }

/* -- what they declare ------------------------------------------------------------------------------------------ */

#define RUN_CONFIG(function) _##function SEC(".xdp_run_config")

struct {
	__uint(priority, 7);
	__uint(XDP_PASS, 1);
	__uint(XDP_DROP, 1);
} RUN_CONFIG(plain);

struct {
	__uint(XDP_TX, 1);
} RUN_CONFIG(by_functions);

struct {
	__uint(priority, 0);
	__uint(XDP_PASS, 0);
} RUN_CONFIG(by_callback);

struct {
	__uint(XDP_REDIRECT, 1);
	__uint(XDP_ABORTED, 9);
	__uint(priority, 2000000);
} RUN_CONFIG(custom);

__uint(some_version, 3) SEC("xdp_metadata");
char licence[] SEC("license") = "Dual BSD/GPL";
