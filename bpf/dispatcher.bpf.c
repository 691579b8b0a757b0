// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The dispatcher: the program on the interface's XDP hook, which calls the slots of a chain in order.
 *
 * Two objects: dispatcher_v2.o and dispatcher_v3.o, in the layout of libxdp's dispatcher versions 2 and 3
 * (-DDISPATCHER_VERSION=2|3).
 *
 * The configuration is in .rodata and is frozen before the load, so the verifier sees constants: it removes the code of
 * unused slots, and code that an action set makes unreachable. Each slot is a stub with global linkage, which freplace
 * linkage replaces. Since a stub is verified separately, main must assume nothing about its return code.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef DISPATCHER_VERSION
#define DISPATCHER_VERSION 3
#endif

#define SLOTS 10
#define ANY_CODE (~0u)
#define UNREPLACED 31 /* what a stub returns; user space sets bit 31 of each used action set, so the chain continues */

/* The configuration block that user space fills: the protocol's layout, 124 bytes in version 2, 128 in version 3. */
struct dispatcher_config {
	__u8 magic;
	__u8 version;
	__u8 slots_enabled;
	__u8 has_frags;
	__u32 actions[SLOTS]; /* bit n: continue after return code n; all ones: after any code (a slot in shadow) */
	__u32 priorities[SLOTS];
	__u32 flags[SLOTS];
#if DISPATCHER_VERSION >= 3
	__u8 is_devbound;
	__u8 padding[3];
#endif
};

static volatile const struct dispatcher_config config = {};

/* libxdp 1.2 reads the version from here. */
__attribute__((used)) int (*dispatcher_version)[DISPATCHER_VERSION] SEC("xdp_metadata");

/*
 * Marks the dispatcher as ours, in BTF alone: it becomes neither a map nor an instruction. libxdp looks for its own
 * variable in its own section, by name, and ignores this one; the dispatchers that it builds have none.
 */
__attribute__((used)) int (*xdptui_dispatcher)[1] SEC("xdptui_metadata");

/*
 * bpf_xdp_adjust_tail() with 0 changes nothing, but marks the stub as one that may move packet pointers: without it,
 * kernels from 6.12 on refuse to replace it with a component that does (81f6d0530ba0).
 */
#define STUB(name)                                          \
	__attribute__((noinline)) int name(struct xdp_md *ctx)  \
	{                                                       \
		volatile int code = UNREPLACED;                     \
		if (!ctx)                                           \
			return XDP_ABORTED;                             \
		bpf_xdp_adjust_tail(ctx, 0);                        \
		return code;                                        \
	}

STUB(prog0)
STUB(prog1)
STUB(prog2)
STUB(prog3)
STUB(prog4)
STUB(prog5)
STUB(prog6)
STUB(prog7)
STUB(prog8)
STUB(prog9)
STUB(compat_test) /* libxdp uses this one to test whether the kernel can replace functions */

/* Keep one value in one register: otherwise clang checks the bounds of a copy, which the verifier does not see. */
#define KEEP(variable) asm volatile("" : "+r"(variable))

#define SLOT(n)                                                            \
	if (config.slots_enabled <= n)                                         \
		goto pass;                                                         \
	code = (__u32)prog##n(ctx);                                            \
	KEEP(code);                                                            \
	if (config.actions[n] != ANY_CODE &&                                   \
	    (code > UNREPLACED || !(config.actions[n] >> code & 1)))           \
		goto out;

SEC("xdp")
int xdp_dispatcher(struct xdp_md *ctx)
{
	__u32 code;

	SLOT(0)
	SLOT(1)
	SLOT(2)
	SLOT(3)
	SLOT(4)
	SLOT(5)
	SLOT(6)
	SLOT(7)
	SLOT(8)
	SLOT(9)
	/* Never reached with ten slots; keeps the function in the program, where libxdp looks for it. */
	if (config.slots_enabled > SLOTS)
		compat_test(ctx);
pass:
	code = XDP_PASS;
out:
	return code;
}

char _license[] SEC("license") = "Dual BSD/GPL";
