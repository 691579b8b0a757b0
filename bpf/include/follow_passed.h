/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Followed packets that passed, by their start address in memory at that time: to report their fates. */
#ifndef XDPTUI_FOLLOW_PASSED_H
#define XDPTUI_FOLLOW_PASSED_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct passed {
	__u32 cpu;
	__u32 packet; /* number on this CPU */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct passed);
} xdptui_passed SEC(".maps");

#endif
