// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Built without debug information, hence without types: it has no run config, and can't be a freplace component. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int xdp_nobtf(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data > 1500 ? XDP_DROP : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
