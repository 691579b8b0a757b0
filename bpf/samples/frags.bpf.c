// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Declares with its section that it can handle packets in several fragments (kernel 5.18): such packets arrive on
 * interfaces with a large MTU, which refuse programs without that declaration.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "run_config.h"

__u64 bytes;        /* of all packets, fragments included */
__u64 linear_bytes; /* of their first fragments */

RUN_CONFIG(xdp_frags, RUN_PRIORITY(36), CONTINUE_ON(XDP_PASS));

SEC("xdp.frags")
int xdp_frags(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&bytes, bpf_xdp_get_buff_len(ctx));
	__sync_fetch_and_add(&linear_bytes, ctx->data_end - ctx->data);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
