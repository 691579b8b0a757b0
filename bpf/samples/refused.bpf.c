// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Reads the packet without checking its length. No kernel loads it: a loader must show why, and change nothing. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int xdp_refused(struct xdp_md *ctx)
{
	unsigned char *first = (void *)(long)ctx->data;

	return *first ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
