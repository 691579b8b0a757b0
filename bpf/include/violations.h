/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The dispatcher's reports on slots that returned what their policy forbids: one record each in a ring buffer, while
 * there is room. Without a reader it fills up, and then costs no more than the attempt.
 */
#ifndef XDPTUI_VIOLATIONS_H
#define XDPTUI_VIOLATIONS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "load_head.h"

#define HEAD 96 /* bytes of the packet */

struct violation {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	__u32 ifindex;
	__u32 row; /* the slot's row of the counters */
	__u32 code;
	__u32 length; /* of the packet, after the slot ran */
	__u8 head[HEAD];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} xdptui_violations SEC(".maps");

static __always_inline void report(struct xdp_md *ctx, __u32 row, __u32 code, __u32 length)
{
	struct violation *record = bpf_ringbuf_reserve(&xdptui_violations, sizeof(*record), 0);

	if (!record)
		return;
	record->at = bpf_ktime_get_ns();
	record->ifindex = ctx->ingress_ifindex;
	record->row = row;
	record->code = code;
	record->length = length;
	__builtin_memset(record->head, 0, HEAD);
	load_head(ctx, record->head, length, HEAD);
	bpf_ringbuf_submit(record, 0);
}

#endif
