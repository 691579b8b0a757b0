// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Maps whose values are maps: an array filled at load, and a hash filled by the operator. The inner maps live only as
 * long as the outer ones hold them, so a loader that creates new outer maps loses them.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

struct counters {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ipv4_counter SEC(".maps"), other_counter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct counters);
} by_family SEC(".maps") = {
	.values = { &other_counter, &ipv4_counter },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 16);
	__type(key, __u32); /* destination port, host byte order */
	__array(values, struct counters);
} by_port SEC(".maps");

static __always_inline void count(void *counter)
{
	__u32 first = 0;
	__u64 *value = counter ? bpf_map_lookup_elem(counter, &first) : 0;

	if (value)
		__sync_fetch_and_add(value, 1);
}

RUN_CONFIG(xdp_mapinmap, RUN_PRIORITY(34), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_mapinmap(struct xdp_md *ctx)
{
	struct transport found;

	find_transport(ctx, &found);

	__u32 family = found.ethertype == ETH_P_IP;
	__u32 port = found.dest_port;

	count(bpf_map_lookup_elem(&by_family, &family));
	count(bpf_map_lookup_elem(&by_port, &port));
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
