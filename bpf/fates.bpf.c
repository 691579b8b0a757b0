// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the kernel did with a followed packet after its XDP_PASS: whether the socket buffer that it became was dropped,
 * and why, or freed without that. A packet is known by where it begins in memory (xdptui_passed of follow.h): drivers
 * build the socket buffer around it. Where one copies it, or a header in front of it went, nothing is found, and nothing
 * is said.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "follow_passed.h"

#define RING (1 << 16)

/* What is used of the kernel's types; libbpf finds where the running kernel keeps it (CO-RE). */
struct sk_buff {
	unsigned char *head;
	__u16 mac_header;
	int skb_iif;
} __attribute__((preserve_access_index));

struct fate {
	struct passed packet;
	__u64 place; /* the address of the code that dropped it; 0: it was freed without a drop */
	__u32 reason; /* enum skb_drop_reason */
	__u32 padding;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING);
} xdptui_ring SEC(".maps");

static __always_inline int freed(struct sk_buff *skb, __u64 place, __u32 reason)
{
	__u64 start = (__u64)BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, mac_header);
	struct passed *packet = bpf_map_lookup_elem(&xdptui_passed, &start);
	struct fate fate = {};

	/* The buffer's memory may serve another packet by now: one that is on its way out came in nowhere. */
	if (!packet || !BPF_CORE_READ(skb, skb_iif))
		return 0;
	fate.packet = *packet;
	fate.place = place;
	fate.reason = reason;
	if (bpf_map_delete_elem(&xdptui_passed, &start))
		return 0;
	bpf_ringbuf_output(&xdptui_ring, &fate, sizeof(fate), BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("raw_tracepoint/kfree_skb") int xdptui_dropped(struct bpf_raw_tracepoint_args *ctx)
{
	return freed((void *)ctx->args[0], ctx->args[1], ctx->args[2]);
}

SEC("raw_tracepoint/consume_skb") int xdptui_freed(struct bpf_raw_tracepoint_args *ctx)
{
	return freed((void *)ctx->args[0], 0, 0);
}

char _license[] SEC("license") = "GPL";
