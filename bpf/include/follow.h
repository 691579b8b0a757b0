/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a static chain's dispatcher, which follows packets from inside, and the tracing programs, which follow them from
 * outside, have in common: the maps, their layout, and what is done at each stage of a packet.
 *
 * If a packet matches the filter, a record of each stage goes into the ring buffer: when it comes in, after each slot,
 * and the verdict. User space grants a number of packets, and more as the rate allows; while nothing is granted, or
 * after user space was silent for too long, a packet costs two loads and a comparison.
 */
#ifndef XDPTUI_FOLLOW_H
#define XDPTUI_FOLLOW_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "follow_passed.h"

#define FOLLOW_HEAD 256     /* bytes of a packet that the filter sees */
#define FOLLOW_MOST 16384   /* bytes of a packet that a record keeps, at most */
#define FOLLOW_SILENCE 1000 /* jiffies without a sign of life (1 to 10 s) after which following stops */

enum follow_stage {
	FOLLOW_ENTRY = 0, /* 1 to 10: after that slot */
	FOLLOW_VERDICT = 255,
};

struct follow_head {
	__u32 length;   /* of the packet */
	__u32 captured; /* number of its bytes in here */
	__u8 bytes[FOLLOW_HEAD];
};

/* Bytes of a packet in a record: at most FOLLOW_SNAP, a constant for the verifier, and a multiple of 8. */
struct follow_shot {
	__u32 length;
	__u32 captured;
	__u8 bytes[];
};

/* One stage of one packet. The verdict's record ends before the head: the last slot's record has the final packet. */
struct follow_record {
	__u64 at;     /* ns since boot (CLOCK_MONOTONIC) */
	__u64 ns;     /* since the previous stage; at the entry: between two readings of the clock */
	__u32 cpu;
	__u32 packet; /* number on this CPU */
	__u32 order;  /* index of the record in its packet: a gap is a lost record */
	__u32 stage;
	__u32 code;   /* what the slot, or the dispatcher, returned; at the entry: the RX queue */
	__s32 moved;  /* bytes by which the packet's start moved since the previous stage */
	struct follow_shot head;
};

/* Shared with user space through mmap. Its writes and those of the CPUs go to different cache lines. */
struct follow_state {
	__u64 beat;    /* changes while user space is there */
	__u64 granted; /* packets that may be followed, since the beginning */
	__u64 padding[6];
	__u64 seen_beat;
	__u64 seen_at; /* jiffies */
	__u64 padding2[6];
	__u64 taken;   /* packets followed: at most one per CPU more than granted */
	__u64 padding3[7];
};

struct follow_cpu {
	__u64 left;    /* ns, when the previous stage was done */
	__u64 start;   /* where the packet began then */
	__u64 here;    /* where it begins now */
	__u32 packet;
	__u32 order;
	__u64 looked_at;  /* packets that the filter saw */
	__u64 passed_by;  /* packets that came while nothing was granted */
	__u64 lost;       /* records for which there was no room */
	__u64 active;     /* this packet is followed, if no dispatcher of ours keeps track */
	struct follow_head head;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct follow_state);
} xdptui_follow SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct follow_cpu);
} xdptui_heads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* user space makes it larger */
} xdptui_ring SEC(".maps");

static __always_inline struct follow_cpu *follow_cpu(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&xdptui_heads, &key);
}

/* Whether a packet may be followed now; counts those that may not. */
static __always_inline int follow_allowed(struct follow_state *state, struct follow_cpu *cpu)
{
	__u64 beat = state->beat, now = bpf_jiffies64();

	if (beat != state->seen_beat) {
		state->seen_at = now;
		state->seen_beat = beat;
	} else if (now - state->seen_at > FOLLOW_SILENCE) {
		return 0;
	}
	if (state->taken >= state->granted) {
		cpu->passed_by++;
		return 0;
	}
	cpu->looked_at++;
	return 1;
}

/* A packet comes in at this address: forget what passed there before. */
static __always_inline void follow_comes(__u64 *start)
{
	bpf_map_delete_elem(&xdptui_passed, start);
}

/* Record a stage other than the verdict. COPY fills in record->head, from wherever the packet is. */
#define FOLLOW_RECORD(cpu, number, returned, begins, now, COPY)                       \
	({                                                                            \
		struct follow_record *record =                                                \
			bpf_ringbuf_reserve(&xdptui_ring, sizeof(*record) + FOLLOW_SNAP, 0);  \
		int done = 0;                                                         \
                                                                                      \
		if (record) {                                                         \
			follow_stamp(record, cpu, number, returned, now);             \
			record->moved = number == FOLLOW_ENTRY ? 0 : (__s32)((begins) - (cpu)->start); \
			COPY;                                                         \
			bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);                 \
			(cpu)->start = (begins);                                      \
			done = 1;                                                     \
		} else {                                                              \
			(cpu)->lost++;                                                \
		}                                                                     \
		(cpu)->order++;                                                       \
		done;                                                                 \
	})

static __always_inline void follow_stamp(struct follow_record *record, struct follow_cpu *cpu, __u32 stage,
					 __u32 code, __u64 now)
{
	record->at = now;
	record->ns = now - cpu->left;
	record->cpu = bpf_get_smp_processor_id();
	record->packet = cpu->packet;
	record->order = cpu->order;
	record->stage = stage;
	record->code = code;
}

/* The verdict, and with it the end of the packet. */
static __always_inline void follow_end(struct follow_cpu *cpu, __u32 code, __u64 now)
{
	struct follow_record *record;
	const __u64 size = __builtin_offsetof(struct follow_record, head);

	record = bpf_ringbuf_reserve(&xdptui_ring, size, 0);
	if (!record) {
		cpu->lost++;
		return;
	}
	follow_stamp(record, cpu, FOLLOW_VERDICT, code, now);
	record->moved = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	if (FOLLOW_FATES && code == XDP_PASS) {
		struct passed passed = { .cpu = bpf_get_smp_processor_id(), .packet = cpu->packet };

		bpf_map_update_elem(&xdptui_passed, &cpu->start, &passed, BPF_ANY);
	}
}

#endif
