/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Grows the packet by one byte at its end. Returns 0, or -1 where there is no room (or no kernel 5.8). */
#ifndef XDPTUI_APPEND_H
#define XDPTUI_APPEND_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define APPEND_AT_MOST 4096 /* the verifier wants a bound; longer packets come in fragments anyway */

static __always_inline int append(struct xdp_md *ctx, char byte)
{
	if (bpf_xdp_adjust_tail(ctx, 1))
		return -1;

	void *end = (void *)(long)ctx->data_end;
	char *last = (void *)(long)ctx->data;
	__u64 offset = end - (void *)last;

	/*
	 * The compiler knows that the last byte is inside the packet and would fold the checks below into what no
	 * verifier can follow. So it is told less than it could know.
	 */
	asm volatile("" : "+r"(offset));
	offset -= 1;
	asm volatile("" : "+r"(offset));
	if (offset >= APPEND_AT_MOST)
		return -1;
	last += offset;
	if ((void *)(last + 1) > end)
		return -1;
	*last = byte;
	return 0;
}

#endif
