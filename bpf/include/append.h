/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Appends one byte to the packet. Returns 0, or -1 if there is no room (or the kernel is older than 5.8). */
#ifndef XDPTUI_APPEND_H
#define XDPTUI_APPEND_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define APPEND_AT_MOST 4096 /* the verifier needs a limit; longer packets come in fragments anyway */

static __always_inline int append(struct xdp_md *ctx, char byte)
{
	if (bpf_xdp_adjust_tail(ctx, 1))
		return -1;

	void *end = (void *)(long)ctx->data_end;
	char *last = (void *)(long)ctx->data;
	__u64 offset = end - (void *)last;

	/*
	 * The compiler knows that the last byte is inside the packet and would fold the checks below into code that no
	 * verifier can follow. So hide what it knows.
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
