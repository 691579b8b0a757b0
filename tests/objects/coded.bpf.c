// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Like the sample `scripted`, but the packet is not changed: byte 14 + N says what coded_N returns. The dispatchers of
 * older libxdp accept no program that moves packet pointers on kernel 6.12 and newer.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define CODED(number)                                                    \
	SEC("xdp") int coded_##number(struct xdp_md *ctx)                 \
	{                                                                \
		unsigned char *data = (void *)(long)ctx->data;           \
		void *end = (void *)(long)ctx->data_end;                 \
									 \
		return data + 15 + number > (unsigned char *)end ? XDP_ABORTED : data[14 + number]; \
	}

CODED(0)
CODED(1)
CODED(2)

char _license[] SEC("license") = "Dual BSD/GPL";
