/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the samples need to know about a packet: its protocol, and its ports if it has any. Deliberately small: no VLAN
 * tags, no IPv6 extension headers; of such packets only the ethertype or next header is known.
 */
#ifndef XDPTUI_TRANSPORT_H
#define XDPTUI_TRANSPORT_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

struct transport {
	__u16 ethertype;   /* host byte order, like the rest */
	__u8 protocol;     /* IP protocol or next header; 0 when it is not IP */
	__u16 source_port; /* 0 unless TCP or UDP */
	__u16 dest_port;
};

#define IPV4_FRAGMENT_OFFSET 0x1fff

/* False: the packet ends before its headers do. What was found so far is filled in. */
static __always_inline bool find_transport(const struct xdp_md *ctx, struct transport *found)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *next = eth + 1;

	*found = (struct transport){};
	if (next > end)
		return false;
	found->ethertype = bpf_ntohs(eth->h_proto);

	if (found->ethertype == ETH_P_IP) {
		struct iphdr *ip = next;

		if ((void *)(ip + 1) > end)
			return false;
		found->protocol = ip->protocol;
		if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
			return true; /* the ports are in the first fragment only */
		next = (void *)ip + ip->ihl * 4;
	} else if (found->ethertype == ETH_P_IPV6) {
		struct ipv6hdr *ip = next;

		if ((void *)(ip + 1) > end)
			return false;
		found->protocol = ip->nexthdr;
		next = ip + 1;
	}

	if (found->protocol == IPPROTO_TCP || found->protocol == IPPROTO_UDP) {
		struct udphdr *ports = next; /* TCP begins with the same two fields */

		if ((void *)(&ports->dest + 1) > end)
			return false;
		found->source_port = bpf_ntohs(ports->source);
		found->dest_port = bpf_ntohs(ports->dest);
	}
	return true;
}

#endif
