// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Two programs of one object that share a map: the first learns the sources, the second drops those that send too
 * much. In a chain both must still see one map, however they are loaded.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

const volatile __u64 allowed = 3; /* packets of one source that pass */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __be32);
	__type(value, __u64);
} senders SEC(".maps");

static __always_inline bool source_of(const struct xdp_md *ctx, __be32 *source)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return false;
	*source = ip->saddr;
	return true;
}

RUN_CONFIG(two_learn, RUN_PRIORITY(15), CONTINUE_ON(XDP_PASS));
RUN_CONFIG(two_enforce, RUN_PRIORITY(16), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int two_learn(struct xdp_md *ctx)
{
	__be32 source;

	if (!source_of(ctx, &source))
		return XDP_PASS;

	__u64 *packets = bpf_map_lookup_elem(&senders, &source);
	__u64 one = 1;

	if (packets)
		__sync_fetch_and_add(packets, 1);
	else
		bpf_map_update_elem(&senders, &source, &one, BPF_NOEXIST);
	return XDP_PASS;
}

SEC("xdp")
int two_enforce(struct xdp_md *ctx)
{
	__be32 source;

	if (!source_of(ctx, &source))
		return XDP_PASS;

	__u64 *packets = bpf_map_lookup_elem(&senders, &source);

	return packets && *packets > allowed ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
