/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Following packets from inside a static chain's dispatcher. These functions are not inlined, so that
 * the dispatcher grows only by calls; the verifier checks each once.
 */
#ifndef XDPTUI_FOLLOW_PACKET_H
#define XDPTUI_FOLLOW_PACKET_H

#include "follow.h"
#include "load_head.h"

/* Copies at most ``most`` bytes of the packet's linear part (a constant, up to FOLLOW_MOST); returns how many. */
static __always_inline __u32 follow_copy(struct xdp_md *ctx, __u8 *to, __u32 most)
{
	void *end = (void *)(long)ctx->data_end;
	void *from = (void *)(long)ctx->data;
	__u32 at = 0, i;

#pragma clang loop unroll(disable)
	for (i = 0; i < FOLLOW_MOST; i += 8) {
		if (i >= most || from + i + 8 > end)
			break;
		*(__u64 *)(to + i) = *(__u64 *)(from + i);
		at = i + 8;
	}
#pragma clang loop unroll(disable)
	for (i = 0; i < 7; i++) {
		if (at >= most || from + at + 1 > end)
			break;
		to[at] = *(__u8 *)(from + at);
		at++;
	}
	return at;
}

static __always_inline __u32 follow_length(struct xdp_md *ctx, int frags)
{
	if (frags)
		return bpf_xdp_get_buff_len(ctx);
	return (void *)(long)ctx->data_end - (void *)(long)ctx->data;
}

/* The packet as it is now. If it may have fragments, the helper reads them (both came with kernel 5.18). */
static __always_inline void follow_shoot(struct xdp_md *ctx, struct follow_shot *shot)
{
	shot->length = follow_length(ctx, FOLLOW_FRAGS);
	shot->captured = FOLLOW_FRAGS ? load_head(ctx, shot->bytes, shot->length, FOLLOW_SNAP) :
					follow_copy(ctx, shot->bytes, FOLLOW_SNAP);
}

/* The packet's start as a number: through a map, because the verifier allows no arithmetic on the pointer itself. */
static __always_inline __u64 follow_start(struct xdp_md *ctx, struct follow_cpu *cpu)
{
	*(volatile __u64 *)&cpu->here = (__u64)(long)(void *)(long)ctx->data;
	return *(volatile __u64 *)&cpu->here;
}

/* Placeholder for the filter that user space puts in its place: 1 if the packet matches. */
static __attribute__((noinline)) int follow_filter(struct follow_head *head)
{
	volatile int code = head->captured;

	return code;
}

/* 1: follow this packet; its entry is recorded. */
__attribute__((noinline)) int follow_begin(struct xdp_md *ctx)
{
	struct follow_cpu *cpu = follow_cpu();
	struct follow_state *state;
	__u64 start, first, second;
	__u32 key = 0;

	state = bpf_map_lookup_elem(&xdptui_follow, &key);
	if (!ctx || !cpu || !state)
		return 0;
	if (FOLLOW_FATES) {
		follow_start(ctx, cpu);
		follow_comes(&cpu->here);
	}
	if (!follow_allowed(state, cpu))
		return 0;
	cpu->head.length = follow_length(ctx, FOLLOW_FRAGS);
	cpu->head.captured = follow_copy(ctx, cpu->head.bytes, FOLLOW_NEEDS);
	if (!follow_filter(&cpu->head))
		return 0;

	first = bpf_ktime_get_ns();
	second = bpf_ktime_get_ns();
	start = follow_start(ctx, cpu);
	cpu->left = first;
	cpu->packet++;
	cpu->order = 0;
	if (!FOLLOW_RECORD(cpu, FOLLOW_ENTRY, ctx->rx_queue_index, start, second, follow_shoot(ctx, &record->head)))
		return 0;
	__sync_fetch_and_add(&state->taken, 1);
	cpu->left = bpf_ktime_get_ns();
	return 1;
}

__attribute__((noinline)) int follow_step(struct xdp_md *ctx, __u32 stage, __u32 code)
{
	struct follow_cpu *cpu = follow_cpu();
	__u64 now = bpf_ktime_get_ns(), start;

	if (!ctx || !cpu)
		return 0;
	if (stage == FOLLOW_VERDICT) {
		follow_end(cpu, code, now);
		return 0;
	}
	start = follow_start(ctx, cpu);
	FOLLOW_RECORD(cpu, stage, code, start, now, follow_shoot(ctx, &record->head));
	cpu->left = bpf_ktime_get_ns();
	return 0;
}

#endif
