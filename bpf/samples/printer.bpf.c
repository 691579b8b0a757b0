// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Prints a line for each TCP or UDP packet to a well-known port and lets everything pass: what `xdptui logs` shows. */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

RUN_CONFIG(xdp_printer, RUN_PRIORITY(80), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_printer(struct xdp_md *ctx)
{
	struct transport found;

	if (!find_transport(ctx, &found) || !found.dest_port || found.dest_port >= 1024)
		return XDP_PASS;
	bpf_printk("protocol %d to port %d, %d bytes", found.protocol, found.dest_port, ctx->data_end - ctx->data);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
