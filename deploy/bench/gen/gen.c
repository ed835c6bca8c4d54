// SPDX-License-Identifier: BSD-2-Clause
//
// gen: a frame generator on one core, with a virtio-user device on each of two
// ports of the switch under test.
//
//	        +--------------- gen, core B ----------------+
//	        |  port 0 (virtio-user)   port 1 (virtio-user)|
//	        +------|--------------------------^----------+
//	               v                          |
//	        +------|--------------------------|----------+
//	        |              switch, core A                |
//	        +--------------------------------------------+
//
// A virtio-user device is the front end of vhost-user, the place a guest has,
// without a guest: the switch cannot tell the difference, and the generator
// costs a fraction of what a guest's network stack would.
//
// The destination of the frames of port 0 is the MAC of port 1 and the other
// way round. Before anything is measured both ports send to each other until
// both have received, so a learning switch knows both addresses and both rings
// run.
//
// Everything that is counted ends in one JSON object on one line of stdout.
// DPDK logs to stderr.

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

#define PORTS 2
#define BURST 32
#define RX_ROUNDS 16       // bursts taken from one ring before the other side gets its turn
#define RX_MBUFS 8191      // covers a full ring of 1024 and what sits in the device's hands
#define TX_MBUFS 4095
#define MAX_FRAME 1518
#define ETHERTYPE 0x88b5   // IEEE 802 local experimental ethertype 1
#define MAX_SAMPLES (4u << 20)

// The payload that follows the Ethernet header. In count mode seq and sum are
// written for every frame; the other modes leave them as the pool was primed.
struct payload {
	uint32_t magic;
	uint32_t from; // sending port
	uint64_t seq;
	uint64_t sum; // of seq and every byte behind this struct
} __attribute__((packed));

#define MAGIC 0x56414c45u
#define MIN_FRAME (sizeof(struct rte_ether_hdr) + sizeof(struct payload))

enum mode { THROUGHPUT, LATENCY, COUNT };

static struct {
	enum mode mode;
	unsigned size;
	double warmup, seconds;
	bool both;
	bool spread, touch;
	uint64_t count;
	unsigned window; // frames in flight per direction in count mode
	unsigned queue_size;
} opt = {
	.mode = THROUGHPUT, .size = 64, .warmup = 0.5, .seconds = 2,
	.count = 1000000, .window = 128, .queue_size = 256,
};

// Per direction: tx and rx are of the frames that port `from` sent.
struct flow {
	uint16_t from, to;
	uint64_t offered, sent, received, bad;
	uint64_t next; // next sequence number expected, count mode
};

static struct rte_mempool *rx_pool, *tx_pool[PORTS];
static struct rte_ether_addr mac[PORTS];
static struct flow flows[PORTS];
static unsigned nflows = 1;

static void die(const char *what, int err)
{
	fprintf(stderr, "gen: %s: %s\n", what, err ? rte_strerror(abs(err)) : "failed");
	exit(1);
}

static double seconds_since(uint64_t start)
{
	return (double)(rte_rdtsc() - start) / (double)rte_get_tsc_hz();
}

// waited_ns is how long this thread has been runnable without a CPU: others were
// on its core. Linux keeps it as the second figure of schedstat.
static uint64_t waited_ns(void)
{
	uint64_t ran, waited = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "r");

	if (f != NULL) {
		if (fscanf(f, "%" SCNu64 " %" SCNu64, &ran, &waited) != 2)
			waited = 0;
		fclose(f);
	}
	return waited;
}

// ---- frames ----

static uint64_t checksum(uint64_t seq, const uint8_t *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u ^ seq;

	for (; n >= 8; n -= 8, p += 8) {
		uint64_t w;
		memcpy(&w, p, 8);
		h = (h ^ w) * 0x100000001b3u;
		h ^= h >> 29;
	}
	for (; n > 0; n--, p++)
		h = (h ^ *p) * 0x100000001b3u;
	return h;
}

// prime writes the constant part of a frame. Only mbufs of a port's own
// transmit pool are primed, and only once: DPDK hands the same memory back, so
// without --touch the measured loop never touches frame data.
static void prime(struct rte_mbuf *m, uint16_t port)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)data;
	struct payload p = { .magic = MAGIC, .from = port };

	for (unsigned i = 0; i < MAX_FRAME; i++)
		data[i] = (uint8_t)(i * 7 + port);
	eth->dst_addr = mac[1 - port];
	eth->src_addr = mac[port];
	eth->ether_type = rte_cpu_to_be_16(ETHERTYPE);
	memcpy(eth + 1, &p, sizeof(p));
}

static void prime_pool(uint16_t port)
{
	struct rte_mbuf **all = calloc(TX_MBUFS, sizeof(*all));
	unsigned n = 0;

	if (all == NULL)
		die("allocate the list of frames", 0);
	while (n < TX_MBUFS && (all[n] = rte_pktmbuf_alloc(tx_pool[port])) != NULL)
		prime(all[n++], port);
	rte_pktmbuf_free_bulk(all, n);
	free(all);
}

static void stamp(struct rte_mbuf *m, uint64_t seq)
{
	struct payload *p = rte_pktmbuf_mtod_offset(m, struct payload *, sizeof(struct rte_ether_hdr));
	uint8_t *rest = (uint8_t *)(p + 1);

	for (unsigned i = 0; i < 8 && i < opt.size - MIN_FRAME; i++)
		rest[i] = (uint8_t)(seq >> (8 * i));
	p->seq = seq;
	p->sum = checksum(seq, rest, opt.size - MIN_FRAME);
}

// ours reports whether m is a frame of flow f: a switch may flood frames of
// other protocols (announcements) to our ports, which are not part of any count.
static bool ours(struct rte_mbuf *m, const struct flow *f)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	struct payload p;

	if (rte_pktmbuf_data_len(m) < MIN_FRAME || eth->ether_type != rte_cpu_to_be_16(ETHERTYPE))
		return false;
	memcpy(&p, eth + 1, sizeof(p));
	return p.magic == MAGIC && p.from == f->from && rte_is_same_ether_addr(&eth->dst_addr, &mac[f->to]);
}

static bool intact(struct rte_mbuf *m, struct flow *f)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	struct payload p;
	bool ok;

	if (rte_pktmbuf_pkt_len(m) != opt.size || m->nb_segs != 1)
		return false;
	memcpy(&p, data + sizeof(struct rte_ether_hdr), sizeof(p));
	ok = p.seq == f->next && p.sum == checksum(p.seq, data + MIN_FRAME, opt.size - MIN_FRAME);
	f->next = p.seq + 1;
	return ok;
}

// ---- ports ----

// make_pool gives the pool a last-in first-out cache, so that few buffers are in
// use and stay in this core's cache, or with --spread none: then every buffer
// takes its turn and the frames come from the shared cache or from memory, as
// those of a guest with a deep socket buffer do.
static struct rte_mempool *make_pool(const char *name, unsigned n)
{
	struct rte_mempool *p = rte_pktmbuf_pool_create_by_ops(name, n, opt.spread ? 0 : BURST * 8, 0,
		RTE_MBUF_DEFAULT_BUF_SIZE, rte_socket_id(), "ring_sp_sc");
	if (p == NULL)
		die("create a buffer pool", rte_errno);
	return p;
}

static void open_port(uint16_t port)
{
	struct rte_eth_conf conf = { 0 };
	int err;

	if ((err = rte_eth_dev_configure(port, 1, 1, &conf)) != 0)
		die("configure the port", err);
	if ((err = rte_eth_rx_queue_setup(port, 0, opt.queue_size, rte_socket_id(), NULL, rx_pool)) != 0)
		die("set the receive queue up", err);
	if ((err = rte_eth_tx_queue_setup(port, 0, opt.queue_size, rte_socket_id(), NULL)) != 0)
		die("set the transmit queue up", err);
	if ((err = rte_eth_dev_start(port)) != 0)
		die("start the port", err);
	if ((err = rte_eth_macaddr_get(port, &mac[port])) != 0)
		die("read the MAC", err);
}

// ---- sending and receiving ----

// write_lines and read_lines make frame data move between the caches of the two
// cores, as that of guests does: one word of each line is enough. Without them
// the lines of a frame that nobody rewrites and nobody reads stay in the cache of
// the switch's core.
static void write_lines(struct rte_mbuf *m, uint64_t value)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);

	for (unsigned i = MIN_FRAME; i + 8 <= opt.size; i += RTE_CACHE_LINE_SIZE)
		memcpy(data + i, &value, 8);
}

static uint64_t read_lines(const struct rte_mbuf *m)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	uint64_t sum = 0, word;

	for (unsigned i = 0; i + 8 <= rte_pktmbuf_data_len(m); i += RTE_CACHE_LINE_SIZE) {
		memcpy(&word, data + i, 8);
		sum += word;
	}
	return sum;
}

static volatile uint64_t sink; // keeps the compiler from dropping the reads

// send_burst offers up to n frames of a flow to its ring and returns how many it took.
static unsigned send_burst(struct flow *f, unsigned n)
{
	struct rte_mbuf *m[BURST];
	unsigned sent;

	f->offered += n;
	if (rte_pktmbuf_alloc_bulk(tx_pool[f->from], m, n) != 0) {
		// Every buffer is in the ring: an empty burst lets the driver
		// collect the used ones.
		rte_eth_tx_burst(f->from, 0, m, 0);
		return 0;
	}
	for (unsigned i = 0; i < n; i++) {
		m[i]->data_len = opt.size;
		m[i]->pkt_len = opt.size;
		if (opt.mode == COUNT)
			stamp(m[i], f->sent + i);
		else if (opt.touch)
			write_lines(m[i], f->sent + i);
	}
	sent = rte_eth_tx_burst(f->from, 0, m, n);
	if (sent < n)
		rte_pktmbuf_free_bulk(m + sent, n - sent);
	f->sent += sent;
	return sent;
}

// receive takes what waits at the receiving end of a flow. In throughput mode
// only the length and the first frame of a burst are looked at, so that the
// generator's own cost does not bound the result.
static unsigned receive(struct flow *f)
{
	struct rte_mbuf *m[BURST];
	unsigned total = 0, n, round = 0;

	do {
		n = rte_eth_rx_burst(f->to, 0, m, BURST);
		for (unsigned i = 0; opt.touch && i < n; i++)
			sink = read_lines(m[i]);
		for (unsigned i = 0; i < n; i++) {
			if (opt.mode == THROUGHPUT && i > 0 && m[i]->pkt_len == opt.size) {
				f->received++;
				continue;
			}
			if (!ours(m[i], f))
				continue;
			f->received++;
			if (opt.mode == COUNT && !intact(m[i], f))
				f->bad++;
			else if (rte_pktmbuf_pkt_len(m[i]) != opt.size)
				f->bad++;
		}
		rte_pktmbuf_free_bulk(m, n);
		total += n;
	} while (n == BURST && ++round < RX_ROUNDS);
	return total;
}

// drain receives until nothing of a flow is missing or nothing has come for
// 200 ms: what is missing then is lost.
static void drain(void)
{
	uint64_t last = rte_rdtsc();

	while (seconds_since(last) < 0.2) {
		bool missing = false;

		for (unsigned i = 0; i < nflows; i++) {
			if (receive(&flows[i]) > 0)
				last = rte_rdtsc();
			missing |= flows[i].received < flows[i].sent;
			// An empty burst collects used transmit buffers.
			rte_eth_tx_burst(flows[i].from, 0, NULL, 0);
		}
		if (!missing)
			return;
	}
}

// discard empties both receive rings and throws the frames away, until they
// stay empty for 50 ms.
static void discard(void)
{
	struct rte_mbuf *m[BURST];
	uint64_t last = rte_rdtsc();

	while (seconds_since(last) < 0.05) {
		for (uint16_t port = 0; port < PORTS; port++) {
			unsigned n = rte_eth_rx_burst(port, 0, m, BURST);

			if (n > 0)
				last = rte_rdtsc();
			rte_pktmbuf_free_bulk(m, n);
		}
	}
}

// teach sends frames both ways until both ports have received one from the
// other. OVS connects and links its ports up at its own pace: 30 s are allowed.
static void teach(void)
{
	struct flow f[PORTS] = { { .from = 0, .to = 1 }, { .from = 1, .to = 0 } };
	uint64_t start = rte_rdtsc();

	while (f[0].received == 0 || f[1].received == 0) {
		uint64_t tick = rte_rdtsc();

		if (seconds_since(start) > 30) {
			fprintf(stderr, "gen: no frame crossed the switch in 30 s (0->1: %" PRIu64 " of %" PRIu64
				", 1->0: %" PRIu64 " of %" PRIu64 ")\n",
				f[0].received, f[0].sent, f[1].received, f[1].sent);
			exit(2);
		}
		send_burst(&f[0], 4);
		send_burst(&f[1], 4);
		while (seconds_since(tick) < 0.01) {
			receive(&f[0]);
			receive(&f[1]);
		}
	}
	discard();
}

static void reset_flows(void)
{
	for (unsigned i = 0; i < nflows; i++)
		flows[i] = (struct flow){ .from = i, .to = 1 - i };
}

// ---- modes ----

// run_open sends as fast as the rings take frames and returns how many arrived
// within the window, and the true length of the window.
static uint64_t run_open(double seconds, double *took)
{
	uint64_t start = rte_rdtsc();
	uint64_t end = start + (uint64_t)(seconds * (double)rte_get_tsc_hz());
	uint64_t got = 0;

	reset_flows();
	while (rte_rdtsc() < end) {
		for (unsigned i = 0; i < nflows; i++) {
			send_burst(&flows[i], BURST);
			receive(&flows[i]);
		}
	}
	*took = seconds_since(start);
	for (unsigned i = 0; i < nflows; i++)
		got += flows[i].received;
	return got;
}

// ring_full is the share of offered frames that the transmit ring refused. Near
// 0 means that the generator, not the switch, bounds the rate.
static double ring_full(void)
{
	uint64_t offered = 0, sent = 0;

	for (unsigned i = 0; i < nflows; i++) {
		offered += flows[i].offered;
		sent += flows[i].sent;
	}
	return offered == 0 ? 0 : 1 - (double)sent / (double)offered;
}

static void sum_flows(uint64_t *sent, uint64_t *received, uint64_t *bad)
{
	*sent = *received = *bad = 0;
	for (unsigned i = 0; i < nflows; i++) {
		*sent += flows[i].sent;
		*received += flows[i].received;
		*bad += flows[i].bad;
	}
}

static void throughput(void)
{
	uint64_t sent, received, bad, in_window, warm_sent, warm_received, waited;
	double took;

	run_open(opt.warmup, &took);
	drain();
	sum_flows(&warm_sent, &warm_received, &bad);
	waited = waited_ns();
	in_window = run_open(opt.seconds, &took);
	waited = waited_ns() - waited;
	drain();
	sum_flows(&sent, &received, &bad);
	printf("{\"mode\":\"throughput\",\"size\":%u,\"queue_size\":%u,\"both\":%s,\"seconds\":%.6f,"
	       "\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"lost\":%" PRId64 ",\"bad\":%" PRIu64 ","
	       "\"warmup_lost\":%" PRId64 ",\"ring_full\":%.4f,\"waited\":%.4f,\"mpps\":%.4f,\"gbit\":%.4f}\n",
	       opt.size, opt.queue_size, opt.both ? "true" : "false", took, sent, received,
	       (int64_t)(sent - received), bad, (int64_t)(warm_sent - warm_received), ring_full(), (double)waited / 1e9 / took,
	       (double)in_window / took / 1e6, (double)in_window * opt.size * 8 / took / 1e9);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double percentile(const uint32_t *v, size_t n, double p)
{
	size_t i = (size_t)(p * (double)(n - 1) + 0.5);

	return n == 0 ? 0 : (double)v[i] * 1e9 / (double)rte_get_tsc_hz();
}

// latency sends one frame, waits for it, sends the next. A frame that has not
// come within 100 ms is lost.
static void latency(void)
{
	uint32_t *sample = malloc(MAX_SAMPLES * sizeof(*sample));
	struct flow *f = &flows[0];
	uint64_t start, lost = 0;
	size_t n = 0;

	if (sample == NULL)
		die("allocate the samples", 0);
	reset_flows();
	start = rte_rdtsc();
	while (n < MAX_SAMPLES) {
		double elapsed = seconds_since(start);
		uint64_t t0, t1, before = f->received;

		if (elapsed > opt.warmup + opt.seconds)
			break;
		t0 = rte_rdtsc_precise();
		if (send_burst(f, 1) == 0)
			continue;
		do {
			receive(f);
			t1 = rte_rdtsc();
		} while (f->received == before && t1 - t0 < rte_get_tsc_hz() / 10);
		if (f->received == before)
			lost++;
		else if (elapsed > opt.warmup)
			sample[n++] = (uint32_t)(t1 - t0);
	}
	qsort(sample, n, sizeof(*sample), by_value);
	printf("{\"mode\":\"latency\",\"size\":%u,\"queue_size\":%u,\"samples\":%zu,\"lost\":%" PRIu64 ","
	       "\"min_ns\":%.0f,\"p50_ns\":%.0f,\"p99_ns\":%.0f,\"p999_ns\":%.0f,\"max_ns\":%.0f}\n",
	       opt.size, opt.queue_size, n, lost, percentile(sample, n, 0), percentile(sample, n, 0.5),
	       percentile(sample, n, 0.99), percentile(sample, n, 0.999), percentile(sample, n, 1));
	free(sample);
}

// count sends exactly opt.count frames per direction with at most opt.window
// in flight, and checks order, length and content of every one.
static int count(void)
{
	uint64_t sent, received, bad, start, last;
	bool open = true;

	reset_flows();
	start = last = rte_rdtsc();
	while (open && seconds_since(last) < 1) {
		open = false;
		for (unsigned i = 0; i < nflows; i++) {
			struct flow *f = &flows[i];
			uint64_t room = opt.window == 0 ? BURST : opt.window - RTE_MIN(opt.window, f->sent - f->received);
			uint64_t n = RTE_MIN(RTE_MIN(opt.count - f->sent, room), (uint64_t)BURST);

			if (n > 0 && send_burst(f, n) > 0)
				last = rte_rdtsc();
			if (receive(f) > 0)
				last = rte_rdtsc();
			open |= f->sent < opt.count;
		}
	}
	drain();
	sum_flows(&sent, &received, &bad);
	printf("{\"mode\":\"count\",\"size\":%u,\"queue_size\":%u,\"both\":%s,\"seconds\":%.6f,"
	       "\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"lost\":%" PRId64 ",\"bad\":%" PRIu64 "}\n",
	       opt.size, opt.queue_size, opt.both ? "true" : "false", seconds_since(start),
	       sent, received, (int64_t)(sent - received), bad);
	return sent == opt.count * nflows && received == sent && bad == 0 ? 0 : 3;
}

// ---- command line ----

static void usage(void)
{
	fprintf(stderr,
		"usage: gen EAL-OPTIONS -- [options]\n"
		"  --mode throughput|latency|count\n"
		"  --size BYTES        frame without FCS (%zu..%d)\n"
		"  --seconds S         measured window\n"
		"  --warmup S          before the window\n"
		"  --both              send both ways (throughput and count)\n"
		"  --spread            use all frame buffers in turn, not the ones in the cache\n"
		"  --touch             write and read every cache line of every frame\n"
		"  --count N           frames per direction (count)\n"
		"  --window N          frames in flight per direction, 0 for no limit (count)\n"
		"  --queue-size N      descriptors per ring\n", MIN_FRAME, MAX_FRAME);
	exit(64);
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "mode", 1, 0, 'm' }, { "size", 1, 0, 's' }, { "seconds", 1, 0, 't' },
		{ "warmup", 1, 0, 'w' }, { "both", 0, 0, 'b' }, { "spread", 0, 0, 'p' }, { "touch", 0, 0, 'c' }, { "count", 1, 0, 'n' },
		{ "window", 1, 0, 'i' }, { "queue-size", 1, 0, 'q' }, { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'm':
			if (strcmp(optarg, "throughput") == 0)
				opt.mode = THROUGHPUT;
			else if (strcmp(optarg, "latency") == 0)
				opt.mode = LATENCY;
			else if (strcmp(optarg, "count") == 0)
				opt.mode = COUNT;
			else
				usage();
			break;
		case 's': opt.size = atoi(optarg); break;
		case 't': opt.seconds = atof(optarg); break;
		case 'w': opt.warmup = atof(optarg); break;
		case 'b': opt.both = true; break;
		case 'c': opt.touch = true; break;
		case 'p': opt.spread = true; break;
		case 'n': opt.count = strtoull(optarg, NULL, 10); break;
		case 'i': opt.window = atoi(optarg); break;
		case 'q': opt.queue_size = atoi(optarg); break;
		default: usage();
		}
	}
	if (optind != argc || opt.size < MIN_FRAME || opt.size > MAX_FRAME || opt.seconds <= 0 ||
	    opt.warmup < 0 || opt.queue_size < BURST)
		usage();
}

int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv), rc = 0;

	if (used < 0)
		die("start DPDK", rte_errno);
	argv[used] = argv[0];
	parse(argc - used, argv + used);
	if (rte_eth_dev_count_avail() != PORTS) {
		fprintf(stderr, "gen: %u ports instead of two: give two --vdev net_virtio_user devices\n",
			rte_eth_dev_count_avail());
		return 64;
	}
	nflows = opt.both ? 2 : 1;
	rx_pool = make_pool("rx", RX_MBUFS);
	tx_pool[0] = make_pool("tx0", TX_MBUFS);
	tx_pool[1] = make_pool("tx1", TX_MBUFS);
	open_port(0);
	open_port(1);
	prime_pool(0);
	prime_pool(1);
	teach();
	switch (opt.mode) {
	case THROUGHPUT: throughput(); break;
	case LATENCY: latency(); break;
	case COUNT: rc = count(); break;
	}
	fflush(stdout);
	for (uint16_t port = 0; port < PORTS; port++) {
		rte_eth_dev_stop(port);
		rte_eth_dev_close(port);
	}
	rte_eal_cleanup();
	return rc;
}
