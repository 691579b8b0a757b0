// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Listeners on the kernel's XDP tracepoints: what happened to packets after their program returned. Exceptions, failed
 * redirects, and what was sent or lost by the devices and CPUs to which packets were redirected.
 *
 * Each is a raw tracepoint program, which the kernel runs as long as its link is held. Counts are kept per CPU, one row
 * per combination of source, target and reason; failures also emit an event with its time into a ring buffer, which
 * never blocks. Everything is bounded: whatever finds no row, or no room, is counted as such.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define NAME 16 /* IFNAMSIZ */
#define PLACES 1024
#define RING (1 << 16)
#define WINDOW_NS 100000000ULL
#define EVENTS_A_WINDOW 32 /* per CPU: a storm is counted in full, but reported in samples */
#define BPF_F_BY_IFINDEX 0x7fffffff /* the map id of a redirect without a map, kernel 5.13 on */

/* The parts of kernel types used here; libbpf relocates them for the running kernel (CO-RE). */
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
	char name[NAME];
	int ifindex;
	possible_net_t nd_net;
};

struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};

struct bpf_map {
	enum bpf_map_type map_type;
	__u32 id;
};

struct bpf_dtab_netdev {
	struct net_device *dev;
};

struct xdp_cpumap_stats {
	unsigned int redirect;
	unsigned int pass;
	unsigned int drop;
};
#pragma clang attribute pop

enum kind {
	EXCEPTION = 1, /* code: the action */
	REDIRECT_ERR,  /* code: -errno */
	BULK_TX,       /* code: -errno, or 0 */
	DEVMAP_XMIT,   /* the same */
	CPUMAP_ENQUEUE,
	CPUMAP_KTHREAD,
	CPUMAP_PROGRAM, /* code: the action returned by the cpumap's program */
	KINDS,
};

struct place {
	__u32 kind;
	__s32 code;
	__u32 prog;
	__u32 netns; /* the network namespace's inode number */
	__s32 ifindex;
	__u32 map;
	__u32 map_type;
	__u32 index; /* in the map; of a cpumap: the CPU */
	__u32 target_netns;
	__s32 target; /* ifindex */
};

struct tally {
	__u64 times;
	__u64 sent;
	__u64 lost;
	char device[NAME];
	char target[NAME];
};

struct event {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	struct place place;
	struct tally tally;
};

struct cpu_state {
	__u64 window;
	__u64 emitted;
	__u64 untold; /* events that were counted but not reported */
	__u64 unplaced[KINDS]; /* packets that found no row, by kind */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, PLACES);
	__type(key, struct place);
	__type(value, struct tally);
} xdptui_places SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_state);
} xdptui_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING);
} xdptui_ring SEC(".maps");

/* Frozen before the load. */
static volatile const struct {
	__u32 netns; /* report only this network namespace (and CPUs, which are in none); 0: all */
} config = {};

static __always_inline struct cpu_state *own_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&xdptui_states, &zero);
}

static __always_inline __u32 netns_of(const struct net_device *dev)
{
	return BPF_CORE_READ(dev, nd_net.net, ns.inum);
}

static __always_inline void name_of(char *name, const struct net_device *dev)
{
	if (dev)
		BPF_CORE_READ_STR_INTO((char(*)[NAME])name, dev, name);
}

/* The clock is read only here, which successful packets never reach. */
static __always_inline void tell(struct event *event)
{
	struct cpu_state *state = own_state();

	if (!state)
		return;
	event->at = bpf_ktime_get_ns();
	if (event->at - state->window >= WINDOW_NS) {
		state->window = event->at;
		state->emitted = 0;
	}
	if (state->emitted >= EVENTS_A_WINDOW ||
	    bpf_ringbuf_output(&xdptui_ring, event, sizeof(*event), BPF_RB_NO_WAKEUP)) {
		state->untold++;
		return;
	}
	state->emitted++;
}

static __always_inline void count(struct event *event, const struct net_device *dev,
				  const struct net_device *target)
{
	struct tally *tally;

	if (config.netns && event->place.netns && event->place.netns != config.netns &&
	    event->place.target_netns != config.netns)
		return;
	tally = bpf_map_lookup_elem(&xdptui_places, &event->place);
	if (tally) {
		tally->times += event->tally.times;
		tally->sent += event->tally.sent;
		tally->lost += event->tally.lost;
		if (!event->tally.lost)
			return;
	}
	name_of(event->tally.device, dev);
	name_of(event->tally.target, target);
	if (!tally && bpf_map_update_elem(&xdptui_places, &event->place, &event->tally, BPF_NOEXIST)) {
		/* No room; or another CPU has created the row since, and ours exists with it. */
		tally = bpf_map_lookup_elem(&xdptui_places, &event->place);
		if (tally) {
			tally->times += event->tally.times;
			tally->sent += event->tally.sent;
			tally->lost += event->tally.lost;
		} else {
			struct cpu_state *state = own_state();

			if (state && event->place.kind < KINDS)
				state->unplaced[event->place.kind] += event->tally.sent + event->tally.lost;
		}
	}
	if (event->tally.lost)
		tell(event);
}

static __always_inline void from(struct place *place, const struct net_device *dev)
{
	place->ifindex = BPF_CORE_READ(dev, ifindex);
	place->netns = netns_of(dev);
}

static __always_inline void to(struct place *place, const struct net_device *dev)
{
	place->target = BPF_CORE_READ(dev, ifindex);
	place->target_netns = netns_of(dev);
}

SEC("raw_tp/xdp_exception")
int xdp_exception(struct bpf_raw_tracepoint_args *ctx)
{
	const struct net_device *dev = (void *)ctx->args[0];
	const struct bpf_prog *prog = (void *)ctx->args[1];
	struct event event = {};

	event.place.kind = EXCEPTION;
	event.place.code = (__s32)ctx->args[2];
	event.place.prog = BPF_CORE_READ(prog, aux, id);
	from(&event.place, dev);
	event.tally.times = event.tally.lost = 1;
	count(&event, dev, NULL);
	return 0;
}

static __always_inline int redirect_failed(struct bpf_raw_tracepoint_args *ctx, struct event *event,
					   const struct net_device *target)
{
	const struct net_device *dev = (void *)ctx->args[0];
	const struct bpf_prog *prog = (void *)ctx->args[1];

	event->place.kind = REDIRECT_ERR;
	event->place.code = (__s32)ctx->args[3];
	event->place.prog = BPF_CORE_READ(prog, aux, id);
	from(&event->place, dev);
	if (target)
		to(&event->place, target);
	event->tally.times = event->tally.lost = 1;
	count(event, dev, target);
	return 0;
}

static __always_inline const struct net_device *map_target(__u32 type, const void *target)
{
	const struct bpf_dtab_netdev *entry = target;

	if (!entry || (type != BPF_MAP_TYPE_DEVMAP && type != BPF_MAP_TYPE_DEVMAP_HASH))
		return NULL;
	return BPF_CORE_READ(entry, dev);
}

/* Kernel 5.13 on: device, program, target, error, type of map, id of map, index. */
SEC("raw_tp/xdp_redirect_err")
int xdp_redirect_err(struct bpf_raw_tracepoint_args *ctx)
{
	const void *target = (void *)ctx->args[2];
	struct event event = {};
	__u32 type = (__u32)ctx->args[4];
	__u32 map = (__u32)ctx->args[5];

	event.place.map_type = type;
	event.place.index = (__u32)ctx->args[6];
	if (map != BPF_F_BY_IFINDEX) {
		event.place.map = map;
		return redirect_failed(ctx, &event, map_target(type, target));
	}
	/* Without a map the target is the device itself, or nothing; the index is the requested ifindex. */
	event.place.target = (__s32)event.place.index;
	event.place.target_netns = netns_of((void *)ctx->args[0]);
	event.place.index = 0;
	return redirect_failed(ctx, &event, target);
}

/* Before: device, program, target, error, map, index. */
SEC("raw_tp/xdp_redirect_err")
int xdp_redirect_err_6(struct bpf_raw_tracepoint_args *ctx)
{
	const struct bpf_map *map = (void *)ctx->args[4];
	const void *target = (void *)ctx->args[2];
	struct event event = {};

	event.place.index = (__u32)ctx->args[5];
	if (map) {
		event.place.map = BPF_CORE_READ(map, id);
		event.place.map_type = BPF_CORE_READ(map, map_type);
		return redirect_failed(ctx, &event, map_target(event.place.map_type, target));
	}
	event.place.target = (__s32)event.place.index;
	event.place.target_netns = netns_of((void *)ctx->args[0]);
	event.place.index = 0;
	return redirect_failed(ctx, &event, target);
}

/* What XDP_TX sent, by devices that send in bulk. */
SEC("raw_tp/xdp_bulk_tx")
int xdp_bulk_tx(struct bpf_raw_tracepoint_args *ctx)
{
	const struct net_device *dev = (void *)ctx->args[0];
	struct event event = {};

	event.place.kind = BULK_TX;
	event.place.code = (__s32)ctx->args[3];
	from(&event.place, dev);
	event.tally.times = 1;
	event.tally.sent = (__u32)ctx->args[1];
	event.tally.lost = (__u32)ctx->args[2];
	count(&event, dev, NULL);
	return 0;
}

/* How many packets redirected to it a device accepted; the tracepoint for all of them since kernel 5.6. */
SEC("raw_tp/xdp_devmap_xmit")
int xdp_devmap_xmit(struct bpf_raw_tracepoint_args *ctx)
{
	const struct net_device *dev = (void *)ctx->args[0], *target = (void *)ctx->args[1];
	struct event event = {};

	event.place.kind = DEVMAP_XMIT;
	event.place.code = (__s32)ctx->args[4];
	from(&event.place, dev);
	to(&event.place, target);
	event.tally.times = 1;
	event.tally.sent = (__u32)ctx->args[2];
	event.tally.lost = (__u32)ctx->args[3];
	count(&event, dev, target);
	return 0;
}

SEC("raw_tp/xdp_cpumap_enqueue")
int xdp_cpumap_enqueue(struct bpf_raw_tracepoint_args *ctx)
{
	struct event event = {};

	event.place.kind = CPUMAP_ENQUEUE;
	event.place.map = (__u32)ctx->args[0];
	event.place.map_type = BPF_MAP_TYPE_CPUMAP;
	event.place.index = (__u32)ctx->args[3];
	event.tally.times = 1;
	event.tally.lost = (__u32)ctx->args[2];
	event.tally.sent = (__u32)ctx->args[1] - event.tally.lost; /* "processed" includes both */
	count(&event, NULL, NULL);
	return 0;
}

static __always_inline void verdicts(struct event *event, __s32 code, __u32 sent, __u32 lost)
{
	event->place.code = code;
	event->tally.sent = sent;
	event->tally.lost = lost;
	if (sent || lost)
		count(event, NULL, NULL);
}

SEC("raw_tp/xdp_cpumap_kthread")
int xdp_cpumap_kthread(struct bpf_raw_tracepoint_args *ctx)
{
	struct event event = {};

	event.place.kind = CPUMAP_KTHREAD;
	event.place.map = (__u32)ctx->args[0];
	event.place.map_type = BPF_MAP_TYPE_CPUMAP;
	event.place.index = bpf_get_smp_processor_id();
	event.tally.times = 1;
	event.tally.lost = (__u32)ctx->args[2];
	event.tally.sent = (__u32)ctx->args[1] - event.tally.lost;
	if (event.tally.sent || event.tally.lost) /* it also wakes up without packets */
		count(&event, NULL, NULL);

	/* The verdicts of the program in the CPU's entry; all zero without a program. */
	event.place.kind = CPUMAP_PROGRAM;
	verdicts(&event, XDP_PASS, BPF_CORE_READ((struct xdp_cpumap_stats *)ctx->args[4], pass), 0);
	verdicts(&event, XDP_REDIRECT, BPF_CORE_READ((struct xdp_cpumap_stats *)ctx->args[4], redirect), 0);
	verdicts(&event, XDP_DROP, 0, BPF_CORE_READ((struct xdp_cpumap_stats *)ctx->args[4], drop));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
