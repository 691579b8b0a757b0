// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A loop whose body is a callback (bpf_loop, kernel 5.17): the address of a function is part of the code. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "run_config.h"

#define AT_MOST 64

struct sum {
	struct xdp_md *ctx;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sums SEC(".maps");

static long add_byte(__u32 index, void *context)
{
	struct sum *sum = context;
	unsigned char *byte = (void *)(long)sum->ctx->data;
	void *end = (void *)(long)sum->ctx->data_end;

	if (index >= AT_MOST)
		return 1;
	byte += index;
	if ((void *)(byte + 1) > end)
		return 1;
	sum->bytes += *byte;
	return 0;
}

RUN_CONFIG(xdp_loops, RUN_PRIORITY(32), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_loops(struct xdp_md *ctx)
{
	struct sum sum = { .ctx = ctx };
	__u32 key = 0;
	__u64 *total = bpf_map_lookup_elem(&sums, &key);

	bpf_loop(AT_MOST, add_byte, &sum, 0);
	if (total)
		*total += sum.bytes;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
