/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef XDPTUI_LOAD_HEAD_H
#define XDPTUI_LOAD_HEAD_H

/*
 * Copies the first bytes of a packet, at most ``most`` (a constant) of its ``length``; returns how many. A helper's
 * length must not be 0, and kernels before 6.8 learn nothing from a comparison with 0, so compare the length minus 1.
 */
static __always_inline __u32 load_head(struct xdp_md *ctx, void *to, __u32 length, __u32 most)
{
	__u32 less = (length < most ? length : most) - 1;

	/* Hide the bound from the compiler, so that the verifier sees it checked again. */
	asm volatile("" : "+r"(less));
	if (less >= most || bpf_xdp_load_bytes(ctx, 0, to, less + 1))
		return 0;
	return less + 1;
}

#endif
