// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Packets that leave again: back where they came from (XDP_TX), or through another interface that the operator puts in
 * "out". On veth both need a peer that accepts XDP frames: one with an XDP program, or with GRO on.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32); /* ifindex */
} out SEC(".maps");

RUN_CONFIG(redirect_back, RUN_PRIORITY(80), CONTINUE_ON(XDP_PASS));
RUN_CONFIG(redirect_out, RUN_PRIORITY(81), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int redirect_back(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	unsigned char mac[ETH_ALEN];

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	return XDP_TX;
}

/* If "out" is empty, the flags make it XDP_PASS, so that the chain continues. */
SEC("xdp")
int redirect_out(struct xdp_md *ctx)
{
	return bpf_redirect_map(&out, 0, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
