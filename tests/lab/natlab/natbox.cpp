// natbox - a userspace IPv4 NAT with every RFC 4787 behaviour selectable.
//
// It owns one TUN device. Policy routing in its network namespace hands it
//   * packets from the inside (source = inside host), and
//   * packets to a public address (destination = public address);
// natbox translates them and writes them back into the same TUN device, and the
// kernel forwards the result. UDP, TCP and ICMP (echo and errors with an
// embedded header) are translated. IP fragments are dropped and counted.
//
// Signals: SIGHUP = forget every mapping (a rebind), SIGUSR1 = counters on
// stderr, SIGTERM/SIGINT = exit.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

namespace {

enum class Dependence { endpoint_independent, address, address_and_port };
enum class PortRule { preserve, random, sequential };

struct Config {
  std::string tun_name = "nat0";
  std::vector<uint32_t> public_ips;  // host byte order
  bool pool_paired = true;
  Dependence mapping = Dependence::endpoint_independent;
  Dependence filtering = Dependence::address_and_port;
  PortRule port_rule = PortRule::preserve;
  uint16_t port_min = 1024, port_max = 65535;
  int64_t udp_timeout_ms = 300000;
  int64_t tcp_timeout_ms = 7440000;
  int64_t icmp_timeout_ms = 60000;
  bool refresh_inbound = false;  // RFC 4787 REQ-6 allows either
  bool hairpin = false;          // REQ-9
  bool hairpin_external_source = true;
  bool block_udp = false;
  size_t max_mappings_per_host = 0;  // 0 = no limit (a CGN port quota otherwise)
  uint64_t seed = 1;
};

struct Counters {
  uint64_t out = 0, in = 0, hairpin = 0, filtered = 0, no_mapping = 0, fragments = 0, quota = 0,
           blocked_udp = 0, icmp_error = 0, malformed = 0;
} counters;

volatile sig_atomic_t want_rebind = 0, want_stats = 0, want_exit = 0;

int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

uint16_t load16(const uint8_t* p) {
  return uint16_t(p[0] << 8 | p[1]);
}
uint32_t load32(const uint8_t* p) {
  return uint32_t(p[0]) << 24 | uint32_t(p[1]) << 16 | uint32_t(p[2]) << 8 | p[3];
}
void store16(uint8_t* p, uint16_t v) {
  p[0] = uint8_t(v >> 8);
  p[1] = uint8_t(v);
}
void store32(uint8_t* p, uint32_t v) {
  store16(p, uint16_t(v >> 16));
  store16(p + 2, uint16_t(v));
}

uint16_t checksum(const uint8_t* p, size_t n) {
  uint32_t s = 0;
  for (size_t i = 0; i + 1 < n; i += 2) s += load16(p + i);
  if (n & 1) s += uint32_t(p[n - 1]) << 8;
  while (s >> 16) s = (s & 0xffff) + (s >> 16);
  return uint16_t(~s);
}
// RFC 1624: HC' = ~(~HC + ~m + m')
void checksum_adjust(uint8_t* field, uint32_t before, uint32_t after) {
  uint32_t s = uint16_t(~load16(field));
  s += uint16_t(~(before >> 16)) + uint32_t(uint16_t(~before)) + (after >> 16) + (after & 0xffff);
  while (s >> 16) s = (s & 0xffff) + (s >> 16);
  store16(field, uint16_t(~s));
}

struct Mapping {
  uint8_t proto;
  uint32_t in_ip, ext_ip;
  uint16_t in_port, ext_port;
  std::tuple<uint8_t, uint32_t, uint16_t, uint32_t, uint16_t> out_key;
  int64_t last_ms;
  std::map<std::pair<uint32_t, uint16_t>, int64_t> peers;  // who the inside has sent to, and when
};

class Nat {
 public:
  explicit Nat(Config c) : cfg(std::move(c)), rng(cfg.seed), next_port(cfg.port_min) {}

  bool is_public(uint32_t ip) const {
    for (uint32_t p : cfg.public_ips)
      if (p == ip) return true;
    return false;
  }
  void forget_all() {
    by_out.clear();
    by_ext.clear();
    per_host.clear();
    // A rebind must give other ports, even with port preservation.
    port_shift = uint16_t(1 + rng() % 997);
  }

  // Translates the packet in place. True: write it back.
  bool handle(uint8_t* pkt, size_t len) {
    if (len < 20 || pkt[0] >> 4 != 4) return false;  // IPv6 and runts are not ours
    size_t ihl = size_t(pkt[0] & 15) * 4;
    size_t total = load16(pkt + 2);
    if (ihl < 20 || total > len || total < ihl + 8) {
      counters.malformed++;
      return false;
    }
    if (load16(pkt + 6) & 0x3fff) {
      counters.fragments++;
      return false;
    }
    uint32_t src = load32(pkt + 12), dst = load32(pkt + 16);
    uint8_t proto = pkt[9];
    if (proto == IPPROTO_UDP && cfg.block_udp) {
      counters.blocked_udp++;
      return false;
    }
    bool from_public = is_public(src);
    if (!from_public && is_public(dst) && by_inside_hint(src)) return hairpin(pkt, ihl, total);
    if (is_public(dst)) return inbound(pkt, ihl, total);
    return outbound(pkt, ihl, total);
  }

  void expire() {
    int64_t t = now_ms();
    for (auto it = by_ext.begin(); it != by_ext.end();) {
      auto next = std::next(it);
      if (t - it->second->last_ms > timeout(it->second->proto)) remove(it->second.get());
      it = next;
    }
  }
  size_t size() const { return by_ext.size(); }
  uint32_t inside_net = 0, inside_mask = 0;  // tells a hairpin from an inbound packet

 private:
  Config cfg;
  std::mt19937_64 rng;
  uint32_t next_port;
  uint16_t port_shift = 0;
  std::map<std::tuple<uint8_t, uint32_t, uint16_t, uint32_t, uint16_t>, Mapping*> by_out;
  std::map<std::tuple<uint8_t, uint32_t, uint16_t>, std::unique_ptr<Mapping>> by_ext;
  std::unordered_map<uint32_t, size_t> per_host;

  bool by_inside_hint(uint32_t src) const { return inside_mask && (src & inside_mask) == inside_net; }

  int64_t timeout(uint8_t proto) const {
    return proto == IPPROTO_UDP   ? cfg.udp_timeout_ms
           : proto == IPPROTO_TCP ? cfg.tcp_timeout_ms
                                  : cfg.icmp_timeout_ms;
  }
  void remove(Mapping* m) {
    by_out.erase(m->out_key);
    if (auto h = per_host.find(m->in_ip); h != per_host.end() && h->second) h->second--;
    by_ext.erase({m->proto, m->ext_ip, m->ext_port});
  }
  bool fresh(const Mapping& m) const { return now_ms() - m.last_ms <= timeout(m.proto); }

  Mapping* find_ext(uint8_t proto, uint32_t ip, uint16_t port) {
    auto it = by_ext.find({proto, ip, port});
    if (it == by_ext.end()) return nullptr;
    if (!fresh(*it->second)) {
      remove(it->second.get());
      return nullptr;
    }
    return it->second.get();
  }

  Mapping* get_out(uint8_t proto, uint32_t ip, uint16_t port, uint32_t rip, uint16_t rport) {
    // TCP is always endpoint-independent here; ICMP echo identifiers too.
    Dependence d = proto == IPPROTO_UDP ? cfg.mapping : Dependence::endpoint_independent;
    auto key = std::make_tuple(proto, ip, port, d == Dependence::endpoint_independent ? 0u : rip,
                               d == Dependence::address_and_port ? rport : uint16_t(0));
    if (auto it = by_out.find(key); it != by_out.end()) {
      if (fresh(*it->second)) return it->second;
      remove(it->second);
    }
    if (cfg.max_mappings_per_host && per_host[ip] >= cfg.max_mappings_per_host) {
      counters.quota++;
      return nullptr;
    }
    uint32_t ext_ip =
        cfg.public_ips[cfg.pool_paired ? ip % cfg.public_ips.size() : size_t(rng() % cfg.public_ips.size())];
    uint32_t span = uint32_t(cfg.port_max) - cfg.port_min + 1, ext_port = 0;
    for (uint32_t attempt = 0; attempt <= span; attempt++) {
      if (cfg.port_rule == PortRule::preserve) {
        uint32_t wanted = uint32_t(port) + port_shift + attempt;
        ext_port = wanted >= cfg.port_min && wanted <= cfg.port_max ? wanted : cfg.port_min + wanted % span;
      } else if (cfg.port_rule == PortRule::random) {
        ext_port = cfg.port_min + uint32_t(rng() % span);
      } else {
        ext_port = next_port;
        next_port = next_port >= cfg.port_max ? cfg.port_min : next_port + 1;
      }
      auto it = by_ext.find({proto, ext_ip, uint16_t(ext_port)});
      if (it != by_ext.end() && !fresh(*it->second)) {
        remove(it->second.get());
        it = by_ext.end();
      }
      if (it == by_ext.end()) break;
      if (attempt == span) return nullptr;
    }
    auto m = std::make_unique<Mapping>();
    m->proto = proto;
    m->in_ip = ip;
    m->in_port = port;
    m->ext_ip = ext_ip;
    m->ext_port = uint16_t(ext_port);
    m->out_key = key;
    m->last_ms = now_ms();
    Mapping* raw = m.get();
    by_out[key] = raw;
    by_ext[{proto, ext_ip, raw->ext_port}] = std::move(m);
    per_host[ip]++;
    return raw;
  }

  bool permitted(const Mapping& m, uint32_t rip, uint16_t rport) const {
    Dependence d = m.proto == IPPROTO_UDP   ? cfg.filtering
                   : m.proto == IPPROTO_TCP ? Dependence::address_and_port
                                            : Dependence::address;
    if (d == Dependence::endpoint_independent) return true;
    int64_t t = now_ms(), limit = timeout(m.proto);
    if (d == Dependence::address_and_port) {
      auto it = m.peers.find({rip, rport});
      return it != m.peers.end() && t - it->second <= limit;
    }
    for (auto it = m.peers.lower_bound({rip, 0}); it != m.peers.end() && it->first.first == rip; ++it)
      if (t - it->second <= limit) return true;
    return false;
  }

  struct Ports {
    uint8_t *src, *dst, *sum;
    bool echo;
  };
  // Where the ports (or the echo identifier) lie; false when there are none.
  bool ports(uint8_t* l4, size_t n, uint8_t proto, Ports& p) const {
    if (proto == IPPROTO_UDP && n >= 8)
      p = {l4, l4 + 2, load16(l4 + 6) ? l4 + 6 : nullptr, false};
    else if (proto == IPPROTO_TCP && n >= 20)
      p = {l4, l4 + 2, l4 + 16, false};
    else if (proto == IPPROTO_ICMP && n >= 8 && (l4[0] == 8 || l4[0] == 0))
      p = {l4 + 4, l4 + 4, l4 + 2, true};
    else
      return false;
    return true;
  }
  static void rewrite(uint8_t* pkt, size_t ihl, bool source, const Ports& p, uint32_t ip, uint16_t port) {
    uint8_t* a = pkt + (source ? 12 : 16);
    uint8_t* q = source ? p.src : p.dst;
    uint32_t old_ip = load32(a);
    uint16_t old_port = load16(q);
    if (p.sum) {
      if (!p.echo) checksum_adjust(p.sum, old_ip, ip);  // ICMP has no pseudo header
      checksum_adjust(p.sum, old_port, port);
    }
    store32(a, ip);
    store16(q, port);
    finish(pkt, ihl);
  }
  static void finish(uint8_t* pkt, size_t ihl) {
    store16(pkt + 10, 0);
    store16(pkt + 10, checksum(pkt, ihl));
  }
  // The kernel forwards twice around us; give one hop back, so the NAT counts as one.
  static void restore_ttl(uint8_t* pkt) {
    if (pkt[8] < 255) pkt[8]++;
  }

  bool outbound(uint8_t* pkt, size_t ihl, size_t total) {
    uint8_t* l4 = pkt + ihl;
    size_t n = total - ihl;
    uint8_t proto = pkt[9];
    if (proto == IPPROTO_ICMP && (l4[0] == 3 || l4[0] == 11 || l4[0] == 12))
      return icmp_error(pkt, ihl, total, true);
    Ports p;
    if (!ports(l4, n, proto, p)) {
      counters.malformed++;
      return false;
    }
    uint32_t rip = load32(pkt + 16);
    uint16_t rport = p.echo ? uint16_t(0) : load16(p.dst);
    Mapping* m = get_out(proto, load32(pkt + 12), load16(p.src), rip, rport);
    if (!m) return false;
    m->last_ms = now_ms();
    m->peers[{rip, rport}] = m->last_ms;
    if (m->peers.size() > 4096) m->peers.erase(m->peers.begin());
    restore_ttl(pkt);
    rewrite(pkt, ihl, true, p, m->ext_ip, m->ext_port);
    counters.out++;
    return true;
  }

  bool inbound(uint8_t* pkt, size_t ihl, size_t total) {
    uint8_t* l4 = pkt + ihl;
    uint8_t proto = pkt[9];
    if (proto == IPPROTO_ICMP && (l4[0] == 3 || l4[0] == 11 || l4[0] == 12))
      return icmp_error(pkt, ihl, total, false);
    Ports p;
    if (!ports(l4, total - ihl, proto, p)) {
      counters.malformed++;
      return false;
    }
    Mapping* m = find_ext(proto, load32(pkt + 16), load16(p.dst));
    if (!m) {
      counters.no_mapping++;
      return false;
    }
    if (!permitted(*m, load32(pkt + 12), p.echo ? uint16_t(0) : load16(p.src))) {
      counters.filtered++;
      return false;
    }
    if (cfg.refresh_inbound) m->last_ms = now_ms();
    restore_ttl(pkt);
    rewrite(pkt, ihl, false, p, m->in_ip, m->in_port);
    counters.in++;
    return true;
  }

  bool hairpin(uint8_t* pkt, size_t ihl, size_t total) {
    uint8_t proto = pkt[9];
    Ports p;
    if (!cfg.hairpin || !ports(pkt + ihl, total - ihl, proto, p) || p.echo) {
      counters.filtered++;
      return false;
    }
    Mapping* to = find_ext(proto, load32(pkt + 16), load16(p.dst));
    if (!to) {
      counters.no_mapping++;
      return false;
    }
    uint32_t to_ip = to->in_ip;
    uint16_t to_port = to->in_port;
    uint32_t rip = load32(pkt + 16);
    uint16_t rport = load16(p.dst);
    Mapping* from = get_out(proto, load32(pkt + 12), load16(p.src), rip, rport);
    if (!from) return false;
    from->last_ms = now_ms();
    from->peers[{rip, rport}] = from->last_ms;
    if (!permitted(*to, from->ext_ip, from->ext_port)) {
      counters.filtered++;
      return false;
    }
    restore_ttl(pkt);
    if (cfg.hairpin_external_source) rewrite(pkt, ihl, true, p, from->ext_ip, from->ext_port);
    rewrite(pkt, ihl, false, p, to_ip, to_port);
    counters.hairpin++;
    return true;
  }

  // An ICMP error carries the header of the packet that caused it: translate both.
  bool icmp_error(uint8_t* pkt, size_t ihl, size_t total, bool out) {
    uint8_t* icmp = pkt + ihl;
    uint8_t* e = icmp + 8;
    if (total < ihl + 8 + 20 + 8) {
      counters.malformed++;
      return false;
    }
    size_t eihl = size_t(e[0] & 15) * 4;
    if (eihl < 20 || total < ihl + 8 + eihl + 8) {
      counters.malformed++;
      return false;
    }
    uint8_t proto = e[9];
    uint8_t* ep = e + eihl;
    uint8_t* eport = out ? (proto == IPPROTO_ICMP ? ep + 4 : ep + 2) : (proto == IPPROTO_ICMP ? ep + 4 : ep);
    uint8_t* eaddr = out ? e + 16 : e + 12;
    if (out) {
      // an inside host complains about a packet that came in: embedded destination = inside
      Mapping* hit = nullptr;
      for (auto& kv : by_ext)
        if (kv.second->proto == proto && kv.second->in_ip == load32(eaddr) &&
            kv.second->in_port == load16(eport))
          hit = kv.second.get();
      if (!hit) {
        counters.no_mapping++;
        return false;
      }
      store32(pkt + 12, hit->ext_ip);
      store32(eaddr, hit->ext_ip);
      store16(eport, hit->ext_port);
    } else {
      Mapping* hit = find_ext(proto, load32(eaddr), load16(eport));
      if (!hit) {
        counters.no_mapping++;
        return false;
      }
      store32(pkt + 16, hit->in_ip);
      store32(eaddr, hit->in_ip);
      store16(eport, hit->in_port);
    }
    store16(e + 10, 0);
    store16(e + 10, checksum(e, eihl));
    store16(icmp + 2, 0);
    store16(icmp + 2, checksum(icmp, total - ihl));
    restore_ttl(pkt);
    finish(pkt, ihl);
    counters.icmp_error++;
    return true;
  }
};

[[noreturn]] void usage() {
  fprintf(stderr,
          "natbox --public-ip A[,B..] --inside-net A.B.C.D/N [--tun NAME]\n"
          "  --mapping ei|ad|apd      endpoint-independent | address- | address-and-port-dependent\n"
          "  --filtering ei|ad|apd\n"
          "  --port preserve|random|sequential   [--port-range MIN-MAX]\n"
          "  --pooling paired|arbitrary\n"
          "  --udp-timeout-ms N  --tcp-timeout-ms N  --icmp-timeout-ms N\n"
          "  --refresh out|both  --hairpin 0|1  --hairpin-source external|internal\n"
          "  --block-udp 0|1  --max-mappings-per-host N  --seed N\n");
  exit(2);
}

Dependence dependence(const std::string& s) {
  if (s == "ei") return Dependence::endpoint_independent;
  if (s == "ad") return Dependence::address;
  if (s == "apd") return Dependence::address_and_port;
  usage();
}

struct Inside {
  uint32_t net = 0, mask = 0;  // host byte order
};

void parse_public_ips(const std::string& v, std::vector<uint32_t>& out) {
  for (size_t b = 0; b <= v.size();) {
    size_t e = v.find(',', b);
    if (e == std::string::npos) e = v.size();
    in_addr a{};
    if (inet_pton(AF_INET, v.substr(b, e - b).c_str(), &a) != 1) usage();
    out.push_back(ntohl(a.s_addr));
    b = e + 1;
  }
}

void parse_inside(const std::string& v, Inside& inside) {
  size_t s = v.find('/');
  in_addr a{};
  if (s == std::string::npos || inet_pton(AF_INET, v.substr(0, s).c_str(), &a) != 1) usage();
  int bits = atoi(v.c_str() + s + 1);
  if (bits < 1 || bits > 32) usage();
  inside.mask = ~uint32_t(0) << (32 - bits);
  inside.net = ntohl(a.s_addr) & inside.mask;
}

void parse_option(const std::string& k, const std::string& v, Config& c, Inside& inside) {
  if (k == "--tun")
    c.tun_name = v;
  else if (k == "--public-ip")
    parse_public_ips(v, c.public_ips);
  else if (k == "--inside-net")
    parse_inside(v, inside);
  else if (k == "--mapping")
    c.mapping = dependence(v);
  else if (k == "--filtering")
    c.filtering = dependence(v);
  else if (k == "--port")
    c.port_rule = v == "preserve"     ? PortRule::preserve
                  : v == "random"     ? PortRule::random
                  : v == "sequential" ? PortRule::sequential
                                      : (usage(), PortRule::random);
  else if (k == "--port-range") {
    unsigned lo, hi;
    if (sscanf(v.c_str(), "%u-%u", &lo, &hi) != 2 || lo < 1 || hi > 65535 || lo > hi) usage();
    c.port_min = uint16_t(lo);
    c.port_max = uint16_t(hi);
  } else if (k == "--pooling")
    c.pool_paired = v == "paired";
  else if (k == "--udp-timeout-ms")
    c.udp_timeout_ms = atoll(v.c_str());
  else if (k == "--tcp-timeout-ms")
    c.tcp_timeout_ms = atoll(v.c_str());
  else if (k == "--icmp-timeout-ms")
    c.icmp_timeout_ms = atoll(v.c_str());
  else if (k == "--refresh")
    c.refresh_inbound = v == "both";
  else if (k == "--hairpin")
    c.hairpin = v == "1";
  else if (k == "--hairpin-source")
    c.hairpin_external_source = v == "external";
  else if (k == "--block-udp")
    c.block_udp = v == "1";
  else if (k == "--max-mappings-per-host")
    c.max_mappings_per_host = size_t(atoll(v.c_str()));
  else if (k == "--seed")
    c.seed = uint64_t(atoll(v.c_str()));
  else
    usage();
}

int open_tun(const std::string& name) {
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  ifreq ifr{};
  ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
  snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name.c_str());
  if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0) {
    perror("natbox: TUN");
    exit(1);
  }
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

void print_counters(const Nat& nat) {
  fprintf(stderr,
          "natbox mappings=%zu out=%lu in=%lu hairpin=%lu filtered=%lu no_mapping=%lu fragments=%lu "
          "quota=%lu blocked_udp=%lu icmp_error=%lu malformed=%lu\n",
          nat.size(), counters.out, counters.in, counters.hairpin, counters.filtered, counters.no_mapping,
          counters.fragments, counters.quota, counters.blocked_udp, counters.icmp_error, counters.malformed);
}

}  // namespace

int main(int argc, char** argv) {
  Config c;
  Inside inside;
  if (argc % 2 == 0) usage();
  for (int i = 1; i + 1 < argc; i += 2) parse_option(argv[i], argv[i + 1], c, inside);
  if (c.public_ips.empty() || !inside.mask) usage();
  int fd = open_tun(c.tun_name);

  struct sigaction sa{};
  sa.sa_handler = [](int s) { (s == SIGHUP ? want_rebind : s == SIGUSR1 ? want_stats : want_exit) = 1; };
  for (int s : {SIGHUP, SIGUSR1, SIGTERM, SIGINT}) sigaction(s, &sa, nullptr);

  Nat nat(c);
  nat.inside_net = inside.net;
  nat.inside_mask = inside.mask;
  std::vector<uint8_t> buf(65536);
  int64_t swept_ms = now_ms();
  while (!want_exit) {
    pollfd p{fd, POLLIN, 0};
    poll(&p, 1, 500);
    for (int burst = 0; burst < 256; burst++) {
      ssize_t n = read(fd, buf.data(), buf.size());
      if (n <= 0) break;
      if (nat.handle(buf.data(), size_t(n)) && write(fd, buf.data(), size_t(n)) < 0 && errno != EAGAIN &&
          errno != EINVAL)
        perror("natbox: write");
    }
    if (want_rebind) {
      want_rebind = 0;
      nat.forget_all();
    }
    if (want_stats) {
      want_stats = 0;
      print_counters(nat);
    }
    if (now_ms() - swept_ms > 1000) {
      nat.expire();
      swept_ms = now_ms();
    }
  }
  return 0;
}
