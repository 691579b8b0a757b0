// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the kernel did with a followed packet after XDP_PASS: whether the socket buffer that it became was dropped, and
 * why, or freed without a drop. A packet is identified by its start address in memory (xdptui_passed of follow.h):
 * drivers build the socket buffer around it. If a driver copies it, or a header before it was removed, no packet is
 * found and nothing is reported.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "follow_passed.h"

#define RING (1 << 16)

/* The parts of kernel types used here; libbpf relocates them for the running kernel (CO-RE). */
struct sk_buff {
	unsigned char *head;
	__u16 mac_header;
	int skb_iif;
} __attribute__((preserve_access_index));

struct fate {
	struct passed packet;
	__u64 place; /* address of the code that dropped it; 0: freed without a drop */
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

	/* The memory may hold another packet by now; one that is being sent did not come in on any interface. */
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
