// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A packet filter, the first of a typical chain: drops packets to the TCP and UDP ports that the operator puts in
 * "blocked", and counts the drops. Both maps must survive every edit of the chain.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

struct blocked_port {
	__u16 port; /* host byte order */
	__u8 protocol;
	__u8 unused;
};

enum { DROPPED_TCP, DROPPED_UDP, DROPPED_KINDS };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct blocked_port);
	__type(value, __u8);
} blocked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROPPED_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} drops SEC(".maps");

RUN_CONFIG(xdp_firewall, RUN_PRIORITY(10), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_firewall(struct xdp_md *ctx)
{
	struct transport found;

	if (!find_transport(ctx, &found) || !found.dest_port)
		return XDP_PASS;

	struct blocked_port key = { .port = found.dest_port, .protocol = found.protocol };

	if (!bpf_map_lookup_elem(&blocked, &key))
		return XDP_PASS;

	__u32 kind = found.protocol == IPPROTO_TCP ? DROPPED_TCP : DROPPED_UDP;
	__u64 *dropped = bpf_map_lookup_elem(&drops, &kind);

	if (dropped)
		*dropped += 1;
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
