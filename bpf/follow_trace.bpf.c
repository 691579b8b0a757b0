// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Following packets through programs from outside: fentry where a packet comes in, fexit on each component, and fexit
 * where the verdict is returned. They write the same records as a static chain's own dispatcher.
 *
 * User space replaces a function with the filter, and therefore loads the entry program itself.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "xdp_buff.h"

/* Frozen before the load, so the verifier sees constants. */
static volatile const struct {
	int ifindex; /* 0: wherever the program runs */
	__u32 netns; /* the network namespace's inode number */
	__u32 needs; /* bytes of a packet that the filter examines */
	__u32 alone; /* there is only one program, whose return code is the verdict */
	__u32 snap;  /* bytes of a packet that a record keeps */
	__u32 fates; /* report the fates of packets that passed */
	__u32 whole; /* multi-buffer packets go into xdptui_whole */
} config = {};

#define FOLLOW_SNAP config.snap
#define FOLLOW_FATES config.fates
#include "follow.h"

/* In front of a packet that was handed out whole: which record it belongs to. */
struct follow_whole {
	__u32 cpu;
	__u32 packet;
	__u32 order;
	__u32 padding;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} xdptui_whole SEC(".maps");

static __always_inline int in_fragments(struct xdp_buff *xdp)
{
	return bpf_core_enum_value_exists(enum xdp_buff_flags, XDP_FLAGS_HAS_FRAGS) &&
	       xdp->flags & bpf_core_enum_value(enum xdp_buff_flags, XDP_FLAGS_HAS_FRAGS);
}

static __always_inline __u32 length_of(struct xdp_buff *xdp)
{
	return in_fragments(xdp) ? bpf_xdp_get_buff_len((void *)xdp) : xdp->data_end - xdp->data;
}

/*
 * Tracing programs can't load bytes from fragments; but the kernel copies them for one into a perf buffer. Before the
 * record, so that whoever finds that finds this as well.
 */
static __always_inline void hand_out(struct xdp_buff *xdp, struct follow_cpu *cpu)
{
	struct follow_whole whole = {
		.cpu = bpf_get_smp_processor_id(),
		.packet = cpu->packet,
		.order = cpu->order,
	};
	__u64 size;

	if (!config.whole || !in_fragments(xdp))
		return;
	size = length_of(xdp);
	if (size > FOLLOW_SNAP)
		size = FOLLOW_SNAP;
	bpf_xdp_output(xdp, &xdptui_whole, size << 32 | BPF_F_CURRENT_CPU, &whole, sizeof(whole));
}

/* Copies at most ``most`` bytes of the packet's linear part (a constant); returns how many. */
static __always_inline __u32 copy(struct xdp_buff *xdp, __u8 *to, __u32 most)
{
	void *from = xdp->data;
	__u64 there = xdp->data_end - from;

	if (there > most)
		there = most;
	/* Hide the bound from the compiler, so that the verifier sees it checked again. */
	asm volatile("" : "+r"(there));
	if (there > most || bpf_probe_read_kernel(to, there, from))
		return 0;
	return there;
}

/* Placeholder for the filter that user space puts in its place: 1 if the packet matches. */
static __attribute__((noinline)) int follow_filter(struct follow_head *head)
{
	volatile int code = head->captured;

	return code;
}

/* Not one of libbpf's sections: user space sets the type, and reads what libbpf is about to load. */
SEC("xdptui/enter") int xdptui_enter(__u64 *ctx)
{
	struct xdp_buff *xdp = (void *)ctx[0];
	struct follow_cpu *cpu = follow_cpu();
	struct follow_state *state;
	__u64 first, second, start;
	__u32 key = 0;

	state = bpf_map_lookup_elem(&xdptui_follow, &key);
	if (!cpu || !state)
		return 0;
	cpu->active = 0;
	if (config.fates) {
		start = (__u64)xdp->data;
		follow_comes(&start);
	}
	if (config.ifindex) {
		struct net_device *dev = xdp->rxq->dev;

		if (dev->ifindex != config.ifindex || dev->nd_net.net->ns.inum != config.netns)
			return 0;
	}
	if (!follow_allowed(state, cpu))
		return 0;
	cpu->head.length = length_of(xdp);
	cpu->head.captured = copy(xdp, cpu->head.bytes, config.needs);
	if (!follow_filter(&cpu->head))
		return 0;

	first = bpf_ktime_get_ns();
	second = bpf_ktime_get_ns();
	start = (__u64)xdp->data;
	cpu->left = first;
	cpu->packet++;
	cpu->order = 0;
	hand_out(xdp, cpu);
	if (!FOLLOW_RECORD(cpu, FOLLOW_ENTRY, xdp->rxq->queue_index, start, second, ({
		record->head.length = cpu->head.length;
		record->head.captured = copy(xdp, record->head.bytes, FOLLOW_SNAP);
	})))
		return 0;
	__sync_fetch_and_add(&state->taken, 1);
	cpu->active = 1;
	cpu->left = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int left(__u64 *ctx, __u32 stage)
{
	struct xdp_buff *xdp = (void *)ctx[0];
	__u64 now = bpf_ktime_get_ns(), start;
	struct follow_cpu *cpu = follow_cpu();
	__u32 code = ctx[1];

	if (!cpu || !cpu->active)
		return 0;
	start = (__u64)xdp->data;
	hand_out(xdp, cpu);
	FOLLOW_RECORD(cpu, stage, code, start, now, ({
		record->head.length = length_of(xdp);
		record->head.captured = copy(xdp, record->head.bytes, FOLLOW_SNAP);
	}));
	cpu->left = bpf_ktime_get_ns();
	if (config.alone) {
		cpu->active = 0;
		follow_end(cpu, code, cpu->left);
	}
	return 0;
}

#define LEFT(stage)                                          \
	SEC("fexit") int xdptui_left_##stage(__u64 *ctx) \
	{                                                    \
		return left(ctx, stage);                     \
	}

LEFT(1)
LEFT(2)
LEFT(3)
LEFT(4)
LEFT(5)
LEFT(6)
LEFT(7)
LEFT(8)
LEFT(9)
LEFT(10)

SEC("fexit") int xdptui_verdict(__u64 *ctx)
{
	struct follow_cpu *cpu = follow_cpu();

	if (cpu && cpu->active) {
		cpu->active = 0;
		follow_end(cpu, ctx[1], bpf_ktime_get_ns());
	}
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
