// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs that redirect each packet to the target in its payload, valid or not: by_ifindex reads an ifindex (32 bits),
 * the others the index of an entry of their map (8 bits); they ignore the helper's result.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

SEC("xdp")
int by_ifindex(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if ((void *)(data + 18) > end)
		return XDP_PASS;
	return bpf_redirect(data[14] | data[15] << 8 | data[16] << 16 | data[17] << 24, 0);
}

SEC("xdp")
int by_devmap(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if ((void *)(data + 15) > end)
		return XDP_PASS;
	bpf_redirect_map(&ports, data[14], 0);
	return XDP_REDIRECT;
}

SEC("xdp")
int by_cpumap(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if ((void *)(data + 15) > end)
		return XDP_PASS;
	bpf_redirect_map(&cpus, data[14], 0);
	return XDP_REDIRECT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
