// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* All three kinds of global data, each in its own array map that a loader must create, fill and keep. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "run_config.h"

const volatile __u32 step = 3; /* .rodata: fixed at load */
__u64 total = 1000;            /* .data: starts at what is written here */
__u64 seen;                    /* .bss: starts at zero */

RUN_CONFIG(xdp_globals, RUN_PRIORITY(30), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_globals(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&seen, 1);
	__sync_fetch_and_add(&total, step);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
