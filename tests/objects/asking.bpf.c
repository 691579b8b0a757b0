// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A program that requests each packet's hash from the device, keeps the answer, and drops the packet if the device does
 * not support hashes (EOPNOTSUPP).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum xdp_rss_hash_type {
	NO_TYPE,
};

extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash, enum xdp_rss_hash_type *type) __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, int);
} answer SEC(".maps");

SEC("xdp")
int hashed(struct xdp_md *ctx)
{
	enum xdp_rss_hash_type type = NO_TYPE;
	__u32 hash = 0, zero = 0;
	int refused = bpf_xdp_metadata_rx_hash(ctx, &hash, &type);

	bpf_map_update_elem(&answer, &zero, &refused, 0);
	return refused == -95 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
