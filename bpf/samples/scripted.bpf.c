// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The packet says what each program is to return. In a frame of ethertype 0x88b5 (set aside for local experiments) byte
 * 14 + N is the return code of program scripted_N, which also appends the character '0' + N to the frame. So a packet can
 * script any case of the chain's contract, and comes back with a record of what ran. Other frames pass untouched.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "append.h"
#include "run_config.h"

#define LOCAL_EXPERIMENT 0x88b5

static __always_inline int play(struct xdp_md *ctx, int number)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	unsigned char *script = (void *)(eth + 1);

	if ((void *)(script + number + 1) > end || eth->h_proto != bpf_htons(LOCAL_EXPERIMENT))
		return XDP_PASS;

	int code = script[number];

	if (append(ctx, '0' + number))
		return XDP_ABORTED;
	return code;
}

#define SCRIPTED(number)                                                          \
	RUN_CONFIG(scripted_##number, RUN_PRIORITY(50 + number), CONTINUE_ON(XDP_PASS)); \
	SEC("xdp") int scripted_##number(struct xdp_md *ctx)                         \
	{                                                                             \
		return play(ctx, number);                                             \
	}

SCRIPTED(0)
SCRIPTED(1)
SCRIPTED(2)
SCRIPTED(3)
SCRIPTED(4)
SCRIPTED(5)
SCRIPTED(6)
SCRIPTED(7)
SCRIPTED(8)
SCRIPTED(9)
SCRIPTED(10)
SCRIPTED(11)
SCRIPTED(12)
SCRIPTED(13)
SCRIPTED(14)
SCRIPTED(15)
SCRIPTED(16)
SCRIPTED(17)
SCRIPTED(18)
SCRIPTED(19)
SCRIPTED(20)
SCRIPTED(21)
SCRIPTED(22)
SCRIPTED(23)
SCRIPTED(24)
SCRIPTED(25)
SCRIPTED(26)
SCRIPTED(27)
SCRIPTED(28)
SCRIPTED(29)
SCRIPTED(30)
SCRIPTED(31)

char _license[] SEC("license") = "Dual BSD/GPL";
