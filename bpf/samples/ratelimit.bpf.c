// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A rate limit per IPv4 source: a token bucket in an LRU hash, so that a flood of sources evicts old ones instead of
 * failing. Its state changes with every packet, and the kernel evicts entries by itself.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

#define NSEC_PER_SEC 1000000000ULL

const volatile __u64 packets_per_second = 100;
const volatile __u64 burst = 50;

struct bucket {
	__u64 refilled_at; /* ns of bpf_ktime_get_ns() */
	__u64 credit;      /* ns: one packet costs NSEC_PER_SEC / packets_per_second of them */
	__u64 passed;
	__u64 dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __be32);
	__type(value, struct bucket);
} buckets SEC(".maps");

RUN_CONFIG(xdp_ratelimit, RUN_PRIORITY(20), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_ratelimit(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;

	__u64 now = bpf_ktime_get_ns();
	__u64 cost = NSEC_PER_SEC / (packets_per_second ?: 1);
	__u64 full = burst * cost;
	__be32 source = ip->saddr;
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &source);

	if (!bucket) {
		struct bucket fresh = { .refilled_at = now, .credit = full - cost, .passed = 1 };

		bpf_map_update_elem(&buckets, &source, &fresh, BPF_ANY);
		return XDP_PASS;
	}

	/* Two CPUs that see one source at once may lose a refill: the limit may be off by a packet; a lock would cost each. */
	__u64 credit = bucket->credit + (now - bucket->refilled_at);

	if (credit > full)
		credit = full;
	bucket->refilled_at = now;
	if (credit < cost) {
		bucket->credit = credit;
		__sync_fetch_and_add(&bucket->dropped, 1);
		return XDP_DROP;
	}
	bucket->credit = credit - cost;
	__sync_fetch_and_add(&bucket->passed, 1);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
