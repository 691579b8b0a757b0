// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A dispatcher of the protocol's first version, with two slots: what libxdp before 1.3 leaves on an interface. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static volatile const struct {
	__u8 slots_enabled;
	__u32 actions[10];
	__u32 priorities[10];
} config = {};

__attribute__((used)) int (*dispatcher_version)[1] SEC("xdp_metadata");

#define STUB(name)                                      \
	__attribute__((noinline)) int name(struct xdp_md *ctx) \
	{                                                   \
		volatile int code = 31;                         \
		return ctx ? code : XDP_ABORTED;                \
	}

STUB(prog0)
STUB(prog1)

SEC("xdp")
int xdp_dispatcher(struct xdp_md *ctx)
{
	int code;

	if (config.slots_enabled < 1)
		return XDP_PASS;
	code = prog0(ctx);
	if (!(1U << code & config.actions[0]))
		return code;
	code = prog1(ctx);
	if (!(1U << code & config.actions[1]))
		return code;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
