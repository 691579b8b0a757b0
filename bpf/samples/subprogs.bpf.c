// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Calls between functions of one program, three deep: their instructions follow the main function's, also in copies. */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} parity SEC(".maps");

static __noinline int count(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&parity, &index);

	if (!value)
		return -1;
	__sync_fetch_and_add(value, 1);
	return 0;
}

static __noinline int count_by_parity(__u64 length)
{
	return count(length & 1);
}

static __noinline int inspect(struct xdp_md *ctx)
{
	return count_by_parity(ctx->data_end - ctx->data);
}

RUN_CONFIG(xdp_subprogs, RUN_PRIORITY(31), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_subprogs(struct xdp_md *ctx)
{
	return inspect(ctx) ? XDP_ABORTED : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
