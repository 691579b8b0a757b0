// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Drops everything, so nothing after it runs. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "run_config.h"

RUN_CONFIG(xdp_drop, RUN_PRIORITY(70), STOP_ON(XDP_PASS));

SEC("xdp")
int xdp_drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
