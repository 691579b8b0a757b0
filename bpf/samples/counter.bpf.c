// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Built three times, as three versions of one component: version 2 also counts bytes, in a map of its own, and can take
 * over version 1's packet counts; version 3's packet map has another layout, so it can't.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "run_config.h"

#ifndef COUNTER_VERSION
#define COUNTER_VERSION 1
#endif

struct count {
	__u64 number;
#if COUNTER_VERSION == 3
	__u64 latest; /* ns of bpf_ktime_get_ns() */
#endif
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct count);
} packets SEC(".maps");

#if COUNTER_VERSION == 2
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct count);
} bytes SEC(".maps");
#endif

RUN_CONFIG(xdp_counter, RUN_PRIORITY(38), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_counter(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct count *count = bpf_map_lookup_elem(&packets, &key);

	if (!count)
		return XDP_ABORTED;
	count->number += 1;
#if COUNTER_VERSION == 3
	count->latest = bpf_ktime_get_ns();
#endif
#if COUNTER_VERSION == 2
	count = bpf_map_lookup_elem(&bytes, &key);
	if (!count)
		return XDP_ABORTED;
	count->number += ctx->data_end - ctx->data;
#endif
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
