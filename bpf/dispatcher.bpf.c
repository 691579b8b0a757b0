// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The dispatcher: the program on the interface's XDP hook, which calls the slots of a chain in order.
 *
 * One source, several objects:
 *   dispatcher_v2.o, dispatcher_v3.o   the layout of libxdp's dispatcher versions 2 and 3 (-DDISPATCHER_VERSION=2|3)
 *   dispatcher_counters.o              version 3 that also counts packets and bytes per slot and action (-DXDPTUI_COUNTERS)
 *   dispatcher_policed.o               and a slot may be forbidden to return some codes (-DXDPTUI_POLICIES, with both of these)
 *   dispatcher_routed*.o               a return code may lead to any later slot (-DXDPTUI_ROUTES), without or with counters
 *   dispatcher*_follow.o               each of these records the way of packets that a filter takes (-DXDPTUI_FOLLOW)
 *
 * The configuration lies in .rodata and is frozen before the load, so the verifier sees constants: it removes the code
 * of unused slots, and what an action set makes unreachable. Each slot is a stub with global linkage, which freplace
 * linkage replaces and static linkage cuts out. Since a stub is verified by itself, main must not expect anything of
 * its return code.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef DISPATCHER_VERSION
#define DISPATCHER_VERSION 3
#endif

#define SLOTS 10
#define ANY_CODE (~0u)
#define UNREPLACED 31 /* what a stub returns; user space sets bit 31 of each used action set, so the chain goes on */

/* The configuration block that user space fills: the protocol's layout, 124 bytes in version 2, 128 in version 3. */
struct dispatcher_config {
	__u8 magic;
	__u8 version;
	__u8 slots_enabled;
	__u8 has_frags;
	__u32 actions[SLOTS]; /* bit n: go on after return code n; all ones: after any code (a slot in shadow) */
	__u32 priorities[SLOTS];
	__u32 flags[SLOTS];
#if DISPATCHER_VERSION >= 3
	__u8 is_devbound;
	__u8 padding[3];
#endif
};

#ifdef XDPTUI_COUNTERS
#include "counters.h"
#else
#define CODES 6 /* the five actions, and one for any other return code */
#endif

#if defined(XDPTUI_COUNTERS) || defined(XDPTUI_ROUTES) || defined(XDPTUI_FOLLOW)
static volatile const struct {
	struct dispatcher_config dispatcher;
#ifdef XDPTUI_COUNTERS
	__u32 rows[SLOTS];
#endif
#ifdef XDPTUI_ROUTES
	__u8 next[SLOTS][CODES]; /* the slot that runs after each return code, always a later one; or RETURN */
#endif
#ifdef XDPTUI_POLICIES
	struct {
		__u8 forbidden; /* bit n: code n, or any other than the actions */
		__u8 answer;    /* the action that takes its place, or AS_IS */
	} policies[SLOTS];
#endif
#ifdef XDPTUI_FOLLOW
	__u32 follow_needs; /* bytes of a packet that the filter looks at */
#endif
} all_config = {};
#define config all_config.dispatcher
#else
static volatile const struct dispatcher_config config = {};
#endif

#define RETURN 255
#define AS_IS 255

/* libxdp 1.2 reads the version from here. */
__attribute__((used)) int (*dispatcher_version)[DISPATCHER_VERSION] SEC("xdp_metadata");

/*
 * Who made this dispatcher, in BTF alone: it becomes neither a map nor an instruction. libxdp looks for its own
 * variable in its own section, by name, and passes over this one; a dispatcher that it makes instead has none.
 */
__attribute__((used)) int (*xdptui_dispatcher)[1] SEC("xdptui_metadata");

/*
 * bpf_xdp_adjust_tail() with 0 changes nothing, but marks the stub as one that may move packet pointers: without it,
 * kernel 6.12 on refuse to replace it by a component that does (81f6d0530ba0).
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
STUB(compat_test) /* libxdp tries out on this one whether the kernel can replace functions */

#ifdef XDPTUI_COUNTERS
static __always_inline __u64 length(struct xdp_md *ctx)
{
	if (config.has_frags)
		return bpf_xdp_get_buff_len(ctx);
	return (void *)(long)ctx->data_end - (void *)(long)ctx->data;
}

#define COUNT(row, code) count(counts, row, code, length(ctx))
#else
#define COUNT(row, code)
#endif

#ifdef XDPTUI_FOLLOW
#define FOLLOW_NEEDS all_config.follow_needs
#define FOLLOW_FRAGS config.has_frags
#include "follow_packet.h"

#define FOLLOW(stage, code) \
	if (followed)       \
		follow_step(ctx, stage, code)
#else
#define FOLLOW(stage, code)
#endif

/* One register, one value: else clang checks the bounds of a copy, and the verifier doesn't see it. */
#define KEEP(variable) asm volatile("" : "+r"(variable))

#ifdef XDPTUI_POLICIES
#include "violations.h"

#define ENFORCE(n)                                                         \
	if (all_config.policies[n].forbidden >> way & 1) {                     \
		report(ctx, all_config.rows[n], code, length(ctx));                \
		if (all_config.policies[n].answer != AS_IS)                        \
			code = way = all_config.policies[n].answer;                    \
	}
#else
#define ENFORCE(n)
#endif

#ifdef XDPTUI_ROUTES
/* A slot that is beyond the last one, in `next`, lets the packet pass. */
#define SLOT(n)                                                            \
	if (config.slots_enabled <= n)                                         \
		goto pass;                                                         \
	if (at == n) {                                                         \
		code = (__u32)prog##n(ctx);                                        \
		KEEP(code);                                                        \
		FOLLOW(n + 1, code);                                               \
		COUNT(all_config.rows[n], code);                                   \
		way = code > XDP_REDIRECT ? CODES - 1 : code;                      \
		KEEP(way);                                                         \
		ENFORCE(n)                                                         \
		at = code == UNREPLACED ? n + 1 : all_config.next[n][way];         \
		if (at == RETURN)                                                  \
			goto out;                                                      \
	}
#else
#define SLOT(n)                                                            \
	if (config.slots_enabled <= n)                                         \
		goto pass;                                                         \
	code = (__u32)prog##n(ctx);                                            \
	KEEP(code);                                                            \
	FOLLOW(n + 1, code);                                                   \
	COUNT(all_config.rows[n], code);                                       \
	if (config.actions[n] != ANY_CODE &&                                   \
	    (code > UNREPLACED || !(config.actions[n] >> code & 1)))           \
		goto out;
#endif

SEC("xdp")
int xdp_dispatcher(struct xdp_md *ctx)
{
	__u32 code;
#ifdef XDPTUI_ROUTES
	__u32 at = 0, way;
#endif
#ifdef XDPTUI_COUNTERS
	struct cpu_counts *counts = own_counts();

	if (!counts)
		return XDP_ABORTED;
#endif
#ifdef XDPTUI_FOLLOW
	__u32 followed = follow_begin(ctx);
#endif

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
	COUNT(0, code);
	FOLLOW(FOLLOW_VERDICT, code);
	return code;
}

char _license[] SEC("license") = "Dual BSD/GPL";
