// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The functions copied into a static chain that records packets: follow_begin() and follow_step(), which its main
 * function calls, and the stub that user space replaces with the filter. The program itself is not copied.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static volatile const struct {
	__u32 needs; /* bytes of a packet that the filter examines */
	__u32 frags; /* a packet may have fragments */
	__u32 snap;  /* bytes of a packet that a record keeps */
	__u32 fates; /* report the fates of packets that passed */
} config = {};

#define FOLLOW_NEEDS config.needs
#define FOLLOW_FRAGS config.frags
#define FOLLOW_SNAP config.snap
#define FOLLOW_FATES config.fates
#include "follow_packet.h"

SEC("xdp")
int functions(struct xdp_md *ctx)
{
	if (follow_begin(ctx))
		follow_step(ctx, FOLLOW_VERDICT, XDP_PASS);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
