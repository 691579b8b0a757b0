// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The tracer: fexit programs that count what XDP programs return, per return code and CPU, without being part of the
 * chain. There is one program per counter row; user space loads those it needs, each attached to a component (never to
 * a stub: the kernel does not replace a function that is being traced), to a dispatcher's main function, or to a single
 * XDP program.
 *
 * One program may run on several interfaces: only packets of the interface in question are counted.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "counters.h"
#include "xdp_buff.h"

/* Frozen before the load, so the verifier sees constants. */
static volatile const struct {
	int ifindex; /* 0: wherever the program runs */
	__u32 netns; /* the network namespace's inode number */
	/*
	 * By row: whether the traced function declares its argument as struct xdp_md *. The kernel then passes its own
	 * struct xdp_buff for it; otherwise nothing is guaranteed, and everything is read through helpers.
	 */
	__u8 declared[ROWS];
} config = {};

static __always_inline void count_declared(__u64 *ctx, __u32 row)
{
	struct xdp_buff *xdp = (void *)ctx[0];
	struct cpu_counts *counts;
	__u64 length;

	if (config.ifindex) {
		struct net_device *dev = xdp->rxq->dev;

		if (dev->ifindex != config.ifindex || dev->nd_net.net->ns.inum != config.netns)
			return;
	}
	length = xdp->data_end - xdp->data;
	if (bpf_core_enum_value_exists(enum xdp_buff_flags, XDP_FLAGS_HAS_FRAGS) &&
	    xdp->flags & bpf_core_enum_value(enum xdp_buff_flags, XDP_FLAGS_HAS_FRAGS))
		length = bpf_xdp_get_buff_len((void *)xdp);
	counts = own_counts();
	if (counts)
		count(counts, row, (__u32)ctx[1], length);
}

static __always_inline void count_undeclared(__u64 *ctx, __u32 row)
{
	struct cpu_counts *counts;
	struct xdp_buff *xdp;
	__u64 argument, code;

	/* The number of arguments before the return code is unknown, too: the helpers know. */
	if (bpf_get_func_arg(ctx, 0, &argument) || bpf_get_func_ret(ctx, &code))
		return;
	xdp = (void *)argument;
	if (config.ifindex) {
		struct net_device *dev = BPF_CORE_READ(xdp, rxq, dev);

		if (BPF_CORE_READ(dev, ifindex) != config.ifindex ||
		    BPF_CORE_READ(dev, nd_net.net, ns.inum) != config.netns)
			return;
	}
	counts = own_counts();
	if (counts)
		count(counts, row, (__u32)code, BPF_CORE_READ(xdp, data_end) - BPF_CORE_READ(xdp, data));
}

#define TRACER(row)                                   \
	SEC("fexit") int xdptui_count_##row(__u64 *ctx) \
	{                                             \
		if (config.declared[row])             \
			count_declared(ctx, row);     \
		else                                  \
			count_undeclared(ctx, row);   \
		return 0;                             \
	}

TRACER(0)
TRACER(1)
TRACER(2)
TRACER(3)
TRACER(4)
TRACER(5)
TRACER(6)
TRACER(7)
TRACER(8)
TRACER(9)
TRACER(10)
TRACER(11)
TRACER(12)
TRACER(13)
TRACER(14)
TRACER(15)
TRACER(16)
TRACER(17)
TRACER(18)
TRACER(19)
TRACER(20)

char _license[] SEC("license") = "Dual BSD/GPL";
