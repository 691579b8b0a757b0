/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The parts of kernel types used by tracing programs; libbpf relocates them for the running kernel (CO-RE). */
#ifndef XDPTUI_XDP_BUFF_H
#define XDPTUI_XDP_BUFF_H

#include <linux/bpf.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
};

struct xdp_rxq_info {
	struct net_device *dev;
	__u32 queue_index;
};

struct xdp_buff {
	void *data;
	void *data_end;
	struct xdp_rxq_info *rxq;
	__u32 flags; /* kernel 5.18 on, like the enum below */
};
#pragma clang attribute pop

enum xdp_buff_flags {
	XDP_FLAGS_HAS_FRAGS = 1,
};

#endif
