// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Each program appends its letter to the packet and lets it pass: a packet's end shows which slots it went through,
 * and in which order. Without room, the packet is aborted: a missing packet is better than a wrong one.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "append.h"
#include "run_config.h"

RUN_CONFIG(mark_a, RUN_PRIORITY(41), CONTINUE_ON(XDP_PASS));
RUN_CONFIG(mark_b, RUN_PRIORITY(42), CONTINUE_ON(XDP_PASS));
RUN_CONFIG(mark_c, RUN_PRIORITY(43), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int mark_a(struct xdp_md *ctx)
{
	return append(ctx, 'A') ? XDP_ABORTED : XDP_PASS;
}

SEC("xdp")
int mark_b(struct xdp_md *ctx)
{
	return append(ctx, 'B') ? XDP_ABORTED : XDP_PASS;
}

SEC("xdp")
int mark_c(struct xdp_md *ctx)
{
	return append(ctx, 'C') ? XDP_ABORTED : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
