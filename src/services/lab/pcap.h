// PcapFile: datagrams as a capture that tcpdump and Wireshark read, with IP and UDP headers made up around
// them.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "base/address.h"
#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"

namespace ravine::services {

class PcapFile {
 public:
  // Replaces the file.
  static Result<PcapFile> create(const std::string& path);
  // `at` counts from the capture's begin. Addresses of one family. Each packet is written through.
  void write(Duration at, const SocketAddress& from, const SocketAddress& to, ByteView datagram);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  explicit PcapFile(std::FILE* file) : file_(file) {}
  std::unique_ptr<std::FILE, Close> file_;
};

// An IPv4 or IPv6 packet with a UDP datagram in it, checksums right.
Bytes make_udp_packet(const SocketAddress& from, const SocketAddress& to, ByteView datagram);

}  // namespace ravine::services
