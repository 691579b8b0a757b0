// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs that move a packet's pointers: its head, its tail, its metadata. After such a helper the verifier forgets
 * what it knew about the packet, in the program's caller too; a dispatcher must be ready for that.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

struct vlan_tag {
	__be16 id;
	__be16 ethertype;
};

#define MARK 0xfeedfaceU

RUN_CONFIG(meta_head, RUN_PRIORITY(61), CONTINUE_ON(XDP_PASS));
RUN_CONFIG(meta_mark, RUN_PRIORITY(62), CONTINUE_ON(XDP_PASS));
RUN_CONFIG(meta_tail, RUN_PRIORITY(63), CONTINUE_ON(XDP_PASS));

/* Pushes the tag of VLAN 5: the packet grows by four bytes at its head. */
SEC("xdp")
int meta_head(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct vlan_tag)))
		return XDP_ABORTED;

	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct ethhdr *old = (void *)eth + sizeof(struct vlan_tag);
	struct vlan_tag *tag = (void *)(eth + 1);

	if ((void *)(old + 1) > end)
		return XDP_ABORTED;
	/* old and eth overlap, and old's ethertype is already where the tag's belongs */
	__builtin_memmove(eth, old, 2 * ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_8021Q);
	tag->id = bpf_htons(5);
	return XDP_PASS;
}

/* Leaves four bytes of metadata in front of the packet, for later programs. */
SEC("xdp")
int meta_mark(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(__u32)))
		return XDP_PASS; /* the driver keeps no metadata */

	__u32 *mark = (void *)(long)ctx->data_meta;

	if ((void *)(mark + 1) > (void *)(long)ctx->data)
		return XDP_ABORTED;
	*mark = MARK;
	return XDP_PASS;
}

/* Cuts off what follows an IPv4 packet in its frame: the padding of short frames. */
SEC("xdp")
int meta_tail(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;

	__u64 length = end - (void *)eth;

	/* Otherwise the compiler first adds tot_len to a packet pointer, which kernel 6.1 considers unbounded. */
	asm volatile("" : "+r"(length));

	int padding = (int)length - (int)sizeof(*eth) - bpf_ntohs(ip->tot_len);

	if (padding > 0 && bpf_xdp_adjust_tail(ctx, -padding))
		return XDP_ABORTED;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
