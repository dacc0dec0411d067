// linkemu - a userspace link emulator between two Ethernet interfaces (AF_PACKET).
//
//   linkemu run  --a IFACE --b IFACE [--ctl SOCKET] [--seed N] [a2b.|b2a.|both.]KEY=VALUE ...
//   linkemu ctl  SOCKET [a2b.|b2a.|both.]KEY=VALUE ... | stats     (change a running link)
//   linkemu offload-off IFACE                                      (call on the sender's end)
//
// Every frame entering A leaves at B after the impairments of direction a2b, and the reverse.
// Keys (unit in the name; ppm = parts per million of frames):
//   rate_bit_s      serialisation rate, 0 = unlimited (1 .. >1e9; 100 bit/s is fine)
//   overhead_bytes  added to every frame's length for the rate (default 0; the Ethernet
//                   header of 14 is NOT counted unless count_ethernet=1)
//   count_ethernet  1: the 14-byte Ethernet header costs rate too (default 0)
//   queue_bytes     tail-drop queue in front of the serialiser (default 256 KiB)
//   delay_us        propagation delay
//   jitter_us       uniform extra delay in [0, jitter_us]
//   keep_order      1: jitter never reorders (default 1)
//   loss_ppm        independent loss
//   burst_enter_ppm / burst_exit_ppm / burst_loss_ppm
//                   Gilbert-Elliott bursts: per frame chance to enter / leave the bad state,
//                   and the loss inside it (default 1000000)
//   duplicate_ppm   frames sent twice
//   reorder_ppm     frames held back by reorder_delay_us (default 10000) and overtaken
//   corrupt_ppm     frames with one flipped bit behind the IP header
//   fix_checksum    1: repair the UDP/TCP checksum after corruption, so the damage
//                   reaches the application (default 0)
//   mtu_bytes       larger IP packets vanish without an ICMP error (a PMTU black hole), 0 = off
//   outage_period_ms / outage_length_ms   link dead for length at the start of every period
//   drop_udp        1: every IPv4/IPv6 UDP packet vanishes
//   down            1: nothing passes
// ARP and IPv6 neighbour discovery always pass at once, so that slow links can be addressed.
#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <queue>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr size_t kFrameMax = 9216 + 18;
constexpr int kBatch = 64;

volatile sig_atomic_t want_exit = 0;

int64_t now_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

struct Frame {
  int64_t due_ns;
  uint64_t order;
  std::vector<uint8_t> bytes;
};
struct Later {
  bool operator()(const Frame& x, const Frame& y) const {
    return x.due_ns != y.due_ns ? x.due_ns > y.due_ns : x.order > y.order;
  }
};

struct Direction {
  std::map<std::string, int64_t> set{{"rate_bit_s", 0},
                                     {"overhead_bytes", 0},
                                     {"count_ethernet", 0},
                                     {"queue_bytes", 262144},
                                     {"delay_us", 0},
                                     {"jitter_us", 0},
                                     {"keep_order", 1},
                                     {"loss_ppm", 0},
                                     {"burst_enter_ppm", 0},
                                     {"burst_exit_ppm", 0},
                                     {"burst_loss_ppm", 1000000},
                                     {"duplicate_ppm", 0},
                                     {"reorder_ppm", 0},
                                     {"reorder_delay_us", 10000},
                                     {"corrupt_ppm", 0},
                                     {"fix_checksum", 0},
                                     {"mtu_bytes", 0},
                                     {"outage_period_ms", 0},
                                     {"outage_length_ms", 0},
                                     {"drop_udp", 0},
                                     {"down", 0}};
  // a copy in plain fields: looked up for every frame
  int64_t rate, overhead, queue, delay, jitter, loss, enter, leave, burst_loss, dup, reorder, reorder_delay,
      corrupt, mtu, period_ns, length_ns;
  bool ethernet, keep_order, fix, drop_udp, down;
  bool bad = false;
  int64_t busy_until_ns = 0, last_due_ns = 0;
  std::priority_queue<Frame, std::vector<Frame>, Later> waiting;
  uint64_t seen = 0, sent = 0, lost = 0, queue_drop = 0, duplicated = 0, reordered = 0, corrupted = 0,
           mtu_drop = 0, outage_drop = 0, udp_drop = 0, send_error = 0;
  std::mt19937_64 rng;

  void refresh() {
    rate = set["rate_bit_s"];
    overhead = set["overhead_bytes"];
    queue = set["queue_bytes"];
    delay = set["delay_us"];
    jitter = set["jitter_us"];
    loss = set["loss_ppm"];
    enter = set["burst_enter_ppm"];
    leave = set["burst_exit_ppm"];
    burst_loss = set["burst_loss_ppm"];
    dup = set["duplicate_ppm"];
    reorder = set["reorder_ppm"];
    reorder_delay = set["reorder_delay_us"];
    corrupt = set["corrupt_ppm"];
    mtu = set["mtu_bytes"];
    period_ns = set["outage_period_ms"] * 1000000;
    length_ns = set["outage_length_ms"] * 1000000;
    ethernet = set["count_ethernet"] != 0;
    keep_order = set["keep_order"] != 0;
    fix = set["fix_checksum"] != 0;
    drop_udp = set["drop_udp"] != 0;
    down = set["down"] != 0;
    busy_until_ns = std::min(busy_until_ns, now_ns());  // a new rate starts with an empty serialiser
  }
  bool chance(int64_t ppm) { return ppm > 0 && int64_t(rng() % 1000000) < ppm; }
};

uint16_t load16(const uint8_t* p) {
  return uint16_t(p[0] << 8 | p[1]);
}
void store16(uint8_t* p, uint16_t v) {
  p[0] = uint8_t(v >> 8);
  p[1] = uint8_t(v);
}

struct L4 {
  size_t ip, at, len;
  uint8_t proto;
  bool v6;
};
// Locates the transport header of an unfragmented IPv4 or extension-free IPv6 packet.
bool transport(const std::vector<uint8_t>& f, L4& o) {
  if (f.size() < 34) return false;
  uint16_t type = load16(&f[12]);
  o.ip = 14;
  if (type == ETH_P_IP) {
    size_t ihl = size_t(f[14] & 15) * 4, total = load16(&f[16]);
    if (ihl < 20 || total < ihl || 14 + total > f.size()) return false;
    o = {14, 14 + ihl, total - ihl, f[23], false};
    return true;
  }
  if (type == ETH_P_IPV6 && f.size() >= 54) {
    size_t n = load16(&f[18]);
    if (54 + n > f.size()) return false;
    o = {14, 54, n, f[20], true};
    return true;
  }
  return false;
}
void repair_checksum(std::vector<uint8_t>& f, const L4& l) {
  size_t at = l.proto == IPPROTO_UDP ? 6 : l.proto == IPPROTO_TCP ? 16 : 0;
  if (!at || l.len < at + 2) return;
  store16(&f[l.at + at], 0);
  uint32_t s = l.proto + uint32_t(l.len);
  size_t a = l.ip + (l.v6 ? 8 : 12), n = l.v6 ? 32 : 8;
  for (size_t i = 0; i < n; i += 2) s += load16(&f[a + i]);
  for (size_t i = 0; i + 1 < l.len; i += 2) s += load16(&f[l.at + i]);
  if (l.len & 1) s += uint32_t(f[l.at + l.len - 1]) << 8;
  while (s >> 16) s = (s & 0xffff) + (s >> 16);
  uint16_t sum = uint16_t(~s);
  store16(&f[l.at + at], sum ? sum : uint16_t(0xffff));
}
// ARP, and IPv6 neighbour/router discovery (ICMPv6 133..137)
bool is_address_resolution(const std::vector<uint8_t>& f) {
  uint16_t type = load16(&f[12]);
  if (type == ETH_P_ARP) return true;
  return type == ETH_P_IPV6 && f.size() > 54 && f[20] == IPPROTO_ICMPV6 && f[54] >= 133 && f[54] <= 137;
}

uint64_t serial = 0;
void enqueue(Direction& d, std::vector<uint8_t> f, int64_t now, int64_t start_ns) {
  d.seen++;
  if (f.size() < 14) return;
  if (is_address_resolution(f)) {
    d.waiting.push({now, serial++, std::move(f)});
    return;
  }
  size_t ip_bytes = f.size() - 14;
  L4 l{};
  if (d.down) {
    d.outage_drop++;
    return;
  }
  if (d.period_ns > 0 && (now - start_ns) % d.period_ns < d.length_ns) {
    d.outage_drop++;
    return;
  }
  if (d.drop_udp && transport(f, l) && l.proto == IPPROTO_UDP) {
    d.udp_drop++;
    return;
  }
  if (d.mtu > 0 && ip_bytes > size_t(d.mtu)) {
    d.mtu_drop++;
    return;
  }
  if (d.enter > 0) d.bad = d.bad ? !d.chance(d.leave) : d.chance(d.enter);
  if (d.chance(d.loss) || (d.bad && d.chance(d.burst_loss))) {
    d.lost++;
    return;
  }

  int64_t sent_ns = now;
  if (d.rate > 0) {
    int64_t bytes = int64_t(d.ethernet ? f.size() : ip_bytes) + d.overhead;
    int64_t begin = std::max(now, d.busy_until_ns);
    double backlog_bytes = double(begin - now) * double(d.rate) / 8e9;
    if (backlog_bytes + double(bytes) > double(d.queue) && begin > now) {
      d.queue_drop++;
      return;
    }
    sent_ns = begin + int64_t(double(bytes) * 8e9 / double(d.rate));
    d.busy_until_ns = sent_ns;
  }
  if (d.chance(d.corrupt) && transport(f, l) && l.len > 8) {
    size_t skip = l.proto == IPPROTO_UDP ? 8 : l.proto == IPPROTO_TCP ? 20 : 0;
    if (l.len > skip) {
      f[l.at + skip + d.rng() % (l.len - skip)] ^= uint8_t(1u << (d.rng() % 8));
      if (d.fix) repair_checksum(f, l);
      d.corrupted++;
    }
  }
  int64_t due =
      sent_ns + d.delay * 1000 + (d.jitter > 0 ? int64_t(d.rng() % uint64_t(d.jitter * 1000 + 1)) : 0);
  if (d.chance(d.reorder)) {
    due += d.reorder_delay * 1000;
    d.reordered++;
  } else if (d.keep_order) {
    due = std::max(due, d.last_due_ns);
    d.last_due_ns = due;
  }
  if (d.chance(d.dup)) {
    d.duplicated++;
    d.waiting.push({due, serial++, f});
  }
  d.waiting.push({due, serial++, std::move(f)});
}

int open_packet(const char* iface) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    perror("linkemu: AF_PACKET");
    exit(1);
  }
  int one = 1, big = 8 << 20, index = int(if_nametoindex(iface));
  if (!index) {
    fprintf(stderr, "linkemu: no interface %s\n", iface);
    exit(1);
  }
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
  packet_mreq mr{};
  mr.mr_ifindex = index;
  mr.mr_type = PACKET_MR_PROMISC;
  setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof mr);
  sockaddr_ll sll{};
  sll.sll_family = AF_PACKET;
  sll.sll_protocol = htons(ETH_P_ALL);
  sll.sll_ifindex = index;
  if (bind(fd, reinterpret_cast<sockaddr*>(&sll), sizeof sll) < 0) {
    perror("linkemu: bind");
    exit(1);
  }
  return fd;
}

bool apply_setting(Direction* d, const std::string& word) {
  size_t eq = word.find('='), dot = word.find('.');
  if (eq == std::string::npos) return false;
  std::string who = dot != std::string::npos && dot < eq ? word.substr(0, dot) : "both";
  std::string key =
      dot != std::string::npos && dot < eq ? word.substr(dot + 1, eq - dot - 1) : word.substr(0, eq);
  if ((who != "a2b" && who != "b2a" && who != "both") || !d[0].set.count(key)) return false;
  char* end = nullptr;
  int64_t v = strtoll(word.c_str() + eq + 1, &end, 10);
  if (!end || *end || v < 0) return false;
  for (int i = 0; i < 2; i++)
    if (who == "both" || (who == "a2b") == (i == 0)) {
      d[i].set[key] = v;
      d[i].refresh();
    }
  return true;
}

std::string stats(const Direction* d) {
  std::string s;
  for (int i = 0; i < 2; i++) {
    char line[512];
    snprintf(line, sizeof line,
             "%s seen=%lu sent=%lu lost=%lu queue_drop=%lu duplicated=%lu reordered=%lu corrupted=%lu "
             "mtu_drop=%lu outage_drop=%lu udp_drop=%lu send_error=%lu waiting=%zu\n",
             i ? "b2a" : "a2b", d[i].seen, d[i].sent, d[i].lost, d[i].queue_drop, d[i].duplicated,
             d[i].reordered, d[i].corrupted, d[i].mtu_drop, d[i].outage_drop, d[i].udp_drop, d[i].send_error,
             d[i].waiting.size());
    s += line;
  }
  return s;
}

int offload_off(const char* iface) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  for (uint32_t cmd : {ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO}) {
    ethtool_value v{};
    v.cmd = cmd;
    ifreq r{};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", iface);
    r.ifr_data = reinterpret_cast<char*>(&v);
    if (ioctl(fd, SIOCETHTOOL, &r) < 0 && errno != EOPNOTSUPP) {
      perror("linkemu: SIOCETHTOOL");
      return 1;
    }
  }
  close(fd);
  return 0;
}

int ctl(int argc, char** argv) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  snprintf(un.sun_path, sizeof un.sun_path, "%s", argv[2]);
  if (connect(fd, reinterpret_cast<sockaddr*>(&un), sizeof un) < 0) {
    perror("linkemu ctl");
    return 1;
  }
  std::string msg;
  for (int i = 3; i < argc; i++) msg += std::string(argv[i]) + " ";
  msg += "\n";
  if (write(fd, msg.data(), msg.size()) < 0) return 1;
  char buf[2048];
  std::string reply;
  for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;) reply.append(buf, size_t(n));
  fputs(reply.c_str(), stdout);
  return reply.rfind("error", 0) == 0;
}

int listen_control(const std::string& path) {
  unlink(path.c_str());
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  snprintf(un.sun_path, sizeof un.sun_path, "%s", path.c_str());
  if (bind(fd, reinterpret_cast<sockaddr*>(&un), sizeof un) < 0 || listen(fd, 4) < 0) {
    perror("linkemu: ctl");
    exit(1);
  }
  return fd;
}

// Reads what waits on one side and puts it into its direction.
void take_frames(int fd, Direction& d, std::vector<uint8_t>& pool, int64_t start_ns) {
  mmsghdr in[kBatch]{};
  iovec vec[kBatch];
  for (int k = 0; k < kBatch; k++) {
    vec[k] = {&pool[size_t(k) * kFrameMax], kFrameMax};
    in[k].msg_hdr.msg_iov = &vec[k];
    in[k].msg_hdr.msg_iovlen = 1;
  }
  int n = recvmmsg(fd, in, kBatch, MSG_DONTWAIT, nullptr);
  int64_t now = now_ns();
  for (int k = 0; k < n; k++) {
    const uint8_t* f = &pool[size_t(k) * kFrameMax];
    enqueue(d, std::vector<uint8_t>(f, f + in[k].msg_len), now, start_ns);
  }
}

void send_batch(int fd, Direction& d, std::vector<Frame>& out) {
  mmsghdr mm[kBatch]{};
  iovec iv[kBatch];
  for (size_t k = 0; k < out.size(); k++) {
    iv[k] = {out[k].bytes.data(), out[k].bytes.size()};
    mm[k].msg_hdr.msg_iov = &iv[k];
    mm[k].msg_hdr.msg_iovlen = 1;
  }
  for (size_t done = 0; done < out.size();) {
    int n = sendmmsg(fd, mm + done, unsigned(out.size() - done), MSG_DONTWAIT);
    if (n > 0) {
      done += size_t(n);
      d.sent += uint64_t(n);
      continue;
    }
    if (n < 0 && errno == EAGAIN) {
      pollfd w{fd, POLLOUT, 0};
      poll(&w, 1, 5);
      continue;
    }
    d.send_error++;
    done++;  // skip the frame that cannot be sent
  }
}

// Sends every frame of a direction that is due.
void give_frames(int fd, Direction& d) {
  int64_t now = now_ns();
  while (!d.waiting.empty() && d.waiting.top().due_ns <= now) {
    std::vector<Frame> out;
    while (out.size() < kBatch && !d.waiting.empty() && d.waiting.top().due_ns <= now) {
      out.push_back(std::move(const_cast<Frame&>(d.waiting.top())));
      d.waiting.pop();
    }
    send_batch(fd, d, out);
  }
}

void answer_control(int listener, Direction* dir) {
  int c = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (c < 0) return;
  char buf[2048];
  ssize_t n = read(c, buf, sizeof buf - 1);
  std::string text(buf, size_t(std::max<ssize_t>(n, 0))), reply;
  for (size_t at = 0; at < text.size();) {
    size_t e = text.find_first_of(" \n", at);
    if (e == std::string::npos) e = text.size();
    std::string w = text.substr(at, e - at);
    at = e + 1;
    if (w.empty()) continue;
    if (w == "stats")
      reply += stats(dir);
    else if (!apply_setting(dir, w))
      reply = "error: bad setting " + w + "\n";
  }
  if (reply.empty()) reply = "ok\n";
  if (write(c, reply.data(), reply.size()) < 0) perror("linkemu: control reply");
  close(c);
}

void drive(const int* fd, int listener, Direction* dir) {
  std::vector<uint8_t> pool(kBatch * kFrameMax);
  int64_t start_ns = now_ns();
  while (!want_exit) {
    int64_t due = INT64_MAX;
    for (int i = 0; i < 2; i++)
      if (!dir[i].waiting.empty()) due = std::min(due, dir[i].waiting.top().due_ns);
    int64_t wait = std::clamp<int64_t>(due == INT64_MAX ? 500000000 : due - now_ns(), 0, 500000000);
    timespec ts{wait / 1000000000, wait % 1000000000};
    pollfd p[3] = {{fd[0], POLLIN, 0}, {fd[1], POLLIN, 0}, {listener, POLLIN, 0}};
    ppoll(p, listener >= 0 ? 3 : 2, &ts, nullptr);
    for (int i = 0; i < 2; i++)
      if (p[i].revents & POLLIN) take_frames(fd[i], dir[i], pool, start_ns);
    for (int i = 0; i < 2; i++) give_frames(fd[1 - i], dir[i]);
    if (listener >= 0 && (p[2].revents & POLLIN)) answer_control(listener, dir);
  }
}

int run(int argc, char** argv) {
  Direction dir[2];
  std::string a, b, sock;
  uint64_t seed = 1;
  std::vector<std::string> words;
  for (int i = 2; i < argc; i++) {
    std::string k = argv[i];
    if (k == "--a" && i + 1 < argc)
      a = argv[++i];
    else if (k == "--b" && i + 1 < argc)
      b = argv[++i];
    else if (k == "--ctl" && i + 1 < argc)
      sock = argv[++i];
    else if (k == "--seed" && i + 1 < argc)
      seed = strtoull(argv[++i], nullptr, 10);
    else
      words.push_back(k);
  }
  for (int i = 0; i < 2; i++) {
    dir[i].rng.seed(seed * 2 + uint64_t(i));
    dir[i].refresh();
  }
  for (auto& w : words)
    if (!apply_setting(dir, w)) {
      fprintf(stderr, "linkemu: bad setting %s\n", w.c_str());
      return 2;
    }
  int fd[2] = {open_packet(a.c_str()), open_packet(b.c_str())};
  int listener = sock.empty() ? -1 : listen_control(sock);
  struct sigaction sa{};
  sa.sa_handler = [](int) { want_exit = 1; };
  sigaction(SIGTERM, &sa, nullptr);
  sigaction(SIGINT, &sa, nullptr);
  drive(fd, listener, dir);
  if (!sock.empty()) unlink(sock.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "run" && argc > 4) return run(argc, argv);
  if (verb == "ctl" && argc > 3) return ctl(argc, argv);
  if (verb == "offload-off" && argc == 3) return offload_off(argv[2]);
  fprintf(stderr,
          "usage: linkemu run --a IFACE --b IFACE [--ctl SOCKET] [--seed N] [KEY=VALUE ...]\n"
          "       linkemu ctl SOCKET KEY=VALUE ... | stats\n"
          "       linkemu offload-off IFACE\n");
  return 2;
}
