// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Like `coded`, but codes from 128 on are thrown, from a separate function. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern void bpf_throw(__u64 code) __ksym;

static __attribute__((noinline)) int checked(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (data + 15 > (unsigned char *)end)
		return XDP_ABORTED;
	if (data[14] >= 128)
		bpf_throw(data[14] - 128);
	return data[14];
}

SEC("xdp") int throwing(struct xdp_md *ctx)
{
	return checked(ctx);
}

SEC("xdp") int harmless(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
