// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A second object for bpftool to link with everything.bpf.c: in its output, sections and variables have their final
 * sizes and offsets in BTF, and static ones come after those of the first object. */

typedef unsigned int __u32;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name

struct xdp_md {
	__u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;

__u32 second_set = 3;
static volatile __u32 second_hidden = 4;
const volatile __u32 second_limit = 1;
extern int count_global(struct xdp_md *ctx);

struct {
	__uint(type, 1);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u32);
} second_table SEC(".maps");

SEC("xdp")
int of_the_second(struct xdp_md *ctx)
{
	__u32 key = second_hidden++ + second_limit;

	return map_lookup_elem(&second_table, &key) ? 2 : count_global(ctx);
}

struct {
	__uint(priority, 3);
} _of_the_second SEC(".xdp_run_config");
