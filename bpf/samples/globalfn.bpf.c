// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Global functions (kernel 5.6), which the verifier checks separately, based on their types: such a program can't be
 * loaded without its BTF and func_info.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

__u64 odd_lengths;

__noinline int length_of(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}

__noinline int is_odd(int number)
{
	return number & 1;
}

RUN_CONFIG(xdp_globalfn, RUN_PRIORITY(33), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_globalfn(struct xdp_md *ctx)
{
	if (is_odd(length_of(ctx)))
		__sync_fetch_and_add(&odd_lengths, 1);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
