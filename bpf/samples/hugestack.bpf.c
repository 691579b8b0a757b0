// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Uses all 512 bytes of stack: it loads on its own, but leaves no room for a dispatcher, so it can't be linked
 * statically with others, and a loader must say so.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "run_config.h"

RUN_CONFIG(xdp_hugestack, RUN_PRIORITY(37), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_hugestack(struct xdp_md *ctx)
{
	volatile __u64 words[504 / sizeof(__u64)];

#pragma unroll
	for (unsigned int i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = ctx->data_end - ctx->data;
	asm volatile("*(u64 *)(r10 - 512) = %0" : : "r"(words[0])); /* clang itself takes 8 bytes less */
	return words[0] ? XDP_PASS : XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
