// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Uses 448 bytes of stack, which leaves room for a small caller: all functions on the call path share 512 bytes. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "run_config.h"

RUN_CONFIG(xdp_bigstack, RUN_PRIORITY(37), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_bigstack(struct xdp_md *ctx)
{
	volatile __u64 words[448 / sizeof(__u64)];

#pragma unroll
	for (unsigned int i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = ctx->data_end - ctx->data;
	return words[0] ? XDP_PASS : XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
