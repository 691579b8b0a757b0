// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts packets and bytes by protocol and lets everything pass: the monitor at the end of a typical chain. */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

enum kind { KIND_OTHER, KIND_ARP, KIND_ICMP, KIND_ICMPV6, KIND_TCP, KIND_UDP, KINDS };

struct seen {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KINDS);
	__type(key, enum kind);
	__type(value, struct seen);
} protocols SEC(".maps");

RUN_CONFIG(xdp_monitor, RUN_PRIORITY(90), CONTINUE_ON(XDP_PASS));

static __always_inline enum kind kind_of(const struct transport *found)
{
	if (found->ethertype == ETH_P_ARP)
		return KIND_ARP;
	switch (found->protocol) {
	case IPPROTO_ICMP:
		return KIND_ICMP;
	case IPPROTO_ICMPV6:
		return KIND_ICMPV6;
	case IPPROTO_TCP:
		return KIND_TCP;
	case IPPROTO_UDP:
		return KIND_UDP;
	default:
		return KIND_OTHER;
	}
}

SEC("xdp")
int xdp_monitor(struct xdp_md *ctx)
{
	struct transport found;

	find_transport(ctx, &found); /* a truncated packet counts by what could be read of it */

	enum kind kind = kind_of(&found);
	struct seen *seen = bpf_map_lookup_elem(&protocols, &kind);

	if (seen) {
		seen->packets += 1;
		seen->bytes += ctx->data_end - ctx->data;
	}
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
