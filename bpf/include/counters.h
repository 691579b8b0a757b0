/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The counters of a chain, as the dispatcher and the tracer write them and user space reads them through mmap.
 *
 * Row 0 counts what the whole chain returned. A slot keeps its row as long as it is in the chain, through any number of
 * edits. There are twenty rows, so that a chain of ten can become an entirely different chain of ten without two slots
 * sharing a row.
 */
#ifndef XDPTUI_COUNTERS_H
#define XDPTUI_COUNTERS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ROWS 21
#define CODES 6 /* the five actions, and one for any other return code */

struct count {
	__u64 packets;
	__u64 bytes;
};

struct cpu_counts {
	struct count rows[ROWS][CODES];
	__u64 padding[4]; /* up to whole cache lines: no two CPUs share one */
};

/* One element per CPU. A plain array, because user space can mmap it; each CPU writes only to its own element. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* user space sets the number of possible CPUs */
	__type(key, __u32);
	__type(value, struct cpu_counts);
} xdptui_counters SEC(".maps");

/* Never NULL, as every possible CPU has an element; but the verifier does not know that. */
static __always_inline struct cpu_counts *own_counts(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&xdptui_counters, &cpu);
}

static __always_inline void count(struct cpu_counts *counts, __u32 row, __u64 code, __u64 length)
{
	struct count *at = &counts->rows[row][code > XDP_REDIRECT ? CODES - 1 : code];

	at->packets++;
	at->bytes += length;
}

#endif
