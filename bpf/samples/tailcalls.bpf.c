// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A component that tail-calls its own programs, from an array filled at load. A chain enters at xdp_tailcalls; a
 * callee's return code is the component's. The kernel empties a program array as soon as no descriptor or pin holds it,
 * although the programs that use it keep running: then packets fall through.
 */
#include "transport.h"
#include <bpf/bpf_helpers.h>
#include "run_config.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

enum callee { CALLEE_UDP, CALLEE_TCP, CALLEES, NOBODY = CALLEES };

static __always_inline void count(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&calls, &index);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("xdp")
int callee_udp(struct xdp_md *ctx)
{
	count(CALLEE_UDP);
	return XDP_PASS;
}

SEC("xdp")
int callee_tcp(struct xdp_md *ctx)
{
	count(CALLEE_TCP);
	return XDP_DROP;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, CALLEES);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} callees SEC(".maps") = {
	.values = {
		[CALLEE_UDP] = (void *)&callee_udp,
		[CALLEE_TCP] = (void *)&callee_tcp,
	},
};

RUN_CONFIG(xdp_tailcalls, RUN_PRIORITY(35), CONTINUE_ON(XDP_PASS));

SEC("xdp")
int xdp_tailcalls(struct xdp_md *ctx)
{
	struct transport found;

	find_transport(ctx, &found);
	if (found.protocol == IPPROTO_UDP)
		bpf_tail_call(ctx, &callees, CALLEE_UDP);
	else if (found.protocol == IPPROTO_TCP)
		bpf_tail_call(ctx, &callees, CALLEE_TCP);
	count(NOBODY);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
