// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The function copied into a static chain whose slots have policies: report_violation(), which its main function calls
 * when a slot returned a forbidden code. The program itself is not copied.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "violations.h"

__attribute__((noinline)) int report_violation(struct xdp_md *ctx, __u32 row, __u32 code)
{
	if (ctx)
		report(ctx, row, code, bpf_xdp_get_buff_len(ctx));
	return 0;
}

SEC("xdp")
int functions(struct xdp_md *ctx)
{
	report_violation(ctx, 0, XDP_PASS);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
